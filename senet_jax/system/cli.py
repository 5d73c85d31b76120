"""What every command shares: flags, and errors in one sentence instead of a traceback."""

import ast
import collections
import errno
import io
import itertools
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from absl import flags
from ml_collections import ConfigDict, config_flags

from senet_jax.config import flatten
from senet_jax.errors import InputError, Terminated, did_you_mean, first_line
from senet_jax.system import files, home, processes, startup, terminal

# What Python says of a value that does not fit, and what the value should have been.
NOT_A_VALUE = {
    "invalid literal for int()": "a whole number",
    "could not convert string to float": "a number",
    "Non-boolean argument": "true or false",
}

flags.disclaim_key_flags()  # those of define_path are the caller's


class PathParser(flags.ArgumentParser[str]):
    """The values of flags that are paths; see `files.local_path`."""

    def parse(self, argument: str) -> str:
        try:
            return files.local_path(argument)
        except InputError as error:
            raise ValueError(str(error)) from error  # to which absl adds the name of the flag

    def flag_type(self) -> str:
        return "path"


def define_path(
    name: str, default: str | None, help: str, flag_values: flags.FlagValues = flags.FLAGS
) -> flags.FlagHolder[str]:
    """Define a flag for a path of this machine, in which `~` is expanded.

    Other texts, such as the names of networks, may stand there as well.
    """
    return flags.DEFINE(PathParser(), name, default, help, flag_values)


def define_paths(name: str, help: str, flag_values: flags.FlagValues) -> None:
    """Define such a flag that may be given several times."""
    flags.DEFINE_multi(
        PathParser(), flags.ArgumentSerializer(), name, [], help, flag_values=flag_values
    )


def run(main: Callable[[list[str]], None], usage: str | None, *, continues: bool = False) -> None:
    """Call `main(argv)`; bad input exits with status 2 and a sentence, Ctrl-C with 130.

    SIGTERM and its like, where they are answered at a safe point, exit with 143. One of several
    processes that train together ends without waiting for the others, see processes.leave.

    Args:
      usage: what `--help` prints, the docstring of the command.
      continues: whether the same command continues after an interruption, which is then said;
        otherwise it begins anew.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):  # a name that it cannot print is no reason to end
            stream.reconfigure(errors="backslashreplace")
        elif stream is None:  # closed by whoever started the command
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    terminal.outlive_the_terminal()
    try:
        sys.argv[1:] = with_flag_files(sys.argv[1:])
        if {"-h", "--help"} & set(sys.argv[1:]):
            print((usage or "").strip())
            return
        home.ensure()
        main(sys.argv)
        sys.stdout.flush()  # what cannot be written is said here, not by Python at its end
    except InputError as error:
        _exit(f"error: {error}", 2)
    except KeyboardInterrupt as error:
        is_sigterm = isinstance(error, Terminated)
        kind, status = ("terminated", 143) if is_sigterm else ("interrupted", 130)
        remedy = "; the same command continues" if continues else ""
        _exit(f"\n{kind}{remedy}", status)
    except BrokenPipeError:  # the reader of our output, `head` say, is gone
        startup.to_nowhere(sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            # Of a file there would be an InputError: it is the output, of which something is left.
            startup.to_nowhere(sys.stdout.fileno())
            _exit(f"error: the output cannot be written: {error.strerror}", 2)
        if isinstance(error, PermissionError) and error.filename:
            _exit(f"error: {error.filename}: {error.strerror}", 2)
        if (refusal := re.search(r"Disallowed [a-z-]+ transfer", str(error))) and guards():
            _exit(f"error: {guards()} forbids what this needs, {refusal[0]!r}: unset it", 2)
        processes.fail(error)
        raise


def guards() -> str:
    """The settings in the environment that have JAX refuse transfers to and from devices."""
    return ", ".join(
        f"{k}={v}" for k, v in os.environ.items() if k.startswith("JAX_TRANSFER_GUARD")
    )


def with_flag_files(arguments: Sequence[str]) -> list[str]:
    """The arguments with `--flagfile=FILE` replaced by those in the file, one a line.

    Here, and not where flags are parsed: a configuration's flags are looked for in `sys.argv`.

    Raises: InputError for a file that cannot be read.
    """
    try:
        return flags.FlagValues().read_flags_from_files(list(arguments), force_gnu=True)
    except flags.Error as error:
        reason = error.__context__  # what absl was told, if it could not open the file
        if isinstance(reason, OSError):
            sentence = f"--flagfile: {reason.filename} cannot be read: {reason.strerror}"
        else:
            sentence = first_line(error)
        raise InputError(sentence) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--flagfile is not a text file: {first_line(error)}") from error


def parse_flags(
    argv: Sequence[str], values: flags.FlagValues, *, known_only: bool = False
) -> list[str]:
    """Parse the command line into `values` and return the arguments that are no flags.

    Args:
      argv: the program's name and its arguments.
      known_only: return unknown flags as well, rather than refuse them.

    Raises: InputError for an unknown flag or configuration key, naming the nearest, or a bad value.
    """
    try:
        rest = values(argv, known_only=known_only)[1:]
        _check_doubles(argv, values)
        return rest
    except flags.Error as error:
        if isinstance(error.__context__, InputError):  # what absl has wrapped says all
            raise error.__context__ from None
        raise InputError(_flag_error(str(error))) from error
    except (AttributeError, KeyError) as error:
        raise InputError(_unknown_key(str(error))) from error
    except (TypeError, ValueError, OSError) as error:
        raise InputError(str(error).splitlines()[0]) from error
    except Exception as error:  # raised by somebody's configuration file
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise InputError(
            f"{place.filename}, line {place.lineno}: {type(error).__name__}: {error}"
        ) from error


def _check_doubles(argv: Sequence[str], values: flags.FlagValues) -> None:
    """Say of a flag that is given twice that the last counts; of a configuration's, docs say it.

    Raises: InputError for a tuple of a configuration, which would join both.
    """
    names = [argument.partition("=")[0].lstrip("-") for argument in argv if argument[:1] == "-"]
    known = [name if name in values else name.removeprefix("no") for name in names]
    for name, number in collections.Counter(name for name in known if name in values).items():
        flag, is_key = values[name], "." in name
        if number > 1 and is_key and isinstance(flag, flags.MultiFlag):
            raise InputError(
                f"--{name} is given twice; give all values at once, as in --{name}='{flag.value}'"
            )
        if number > 1 and not is_key and not isinstance(flag, flags.MultiFlag):
            print(f"--{name} is given twice; the last counts, {flag.serialize()}", file=sys.stderr)


def check_beside(values: flags.FlagValues, mode: str, *others: str) -> None:
    """Check that beside a flag that makes a command do something else only its like are given.

    Args:
      mode: the name of this flag.
      others: the names of those that have an effect beside it.

    Raises: InputError for the first that has none.
    """
    for name in values:
        if values[name].present and name not in (mode, *others):
            raise InputError(f"--{name} has no effect beside --{mode}; leave one of them out")


def with_flags(config: ConfigDict, arguments: Sequence[str]) -> ConfigDict:
    """Apply arguments `--config.KEY=VALUE` to a configuration. Raises: InputError for a bad one."""
    if not arguments:  # a flag would have the whole configuration written as text, twice
        return config.lock()
    values, argv = flags.FlagValues(), [sys.argv[0], *arguments]
    try:
        config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
    except flags.Error as error:  # for a key that is derived from one of another type
        raise InputError(_flag_error(str(error))) from error
    parse_flags(argv, values)
    return values.config


def check_config_file(value: str) -> None:
    """Raises: InputError unless `value`, up to a colon, is a Python file with a get_config."""
    name = files.local_path(value).partition(":")[0]
    path = Path(name)
    if not path.is_file():
        raise InputError(f"there is no configuration file {name!r}; try configs/cifar.py")
    try:
        nodes = list(ast.walk(ast.parse(path.read_bytes())))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    except SyntaxError as error:
        place = f", line {error.lineno}," if error.lineno else ""
        raise InputError(f"{path}{place} is not Python: {error.msg}") from error
    except ValueError as error:  # null bytes
        raise InputError(f"{path} is not Python: {error}") from error
    names = {getattr(node, field, None) for node in nodes for field in ("name", "asname", "id")}
    if "get_config" not in names:
        raise InputError(f"{path} defines no get_config(), as configs/common.py does")


def dotted(arguments: Sequence[str], name: str) -> dict[str, str | None]:
    """The keys that arguments `--name.key=...` set, with their texts; None where there is none."""
    keys: dict[str, str | None] = {}
    for argument, following in itertools.zip_longest(arguments, arguments[1:], fillvalue="--"):
        if match := re.match(rf"--?(?:no)?{name}\.([^=]+)(?:=(.*))?", argument, re.DOTALL):
            apart = None if following.startswith("-") else following  # as in --name.key VALUE
            keys[match[1]] = apart if match[2] is None else match[2]
    return keys


def given_keys(
    arguments: Sequence[str], name: str, config: ConfigDict, known: Sequence[str] = ()
) -> list[str]:
    """The keys that arguments `--name.key=...` set.

    Args:
      known: further keys that somebody may have meant.

    Raises: InputError for the first that `config` lacks, or that comes without a value.
    """
    keys = []
    values = flatten(config.to_dict())
    for argument in arguments:
        for key in dotted([argument], name):
            if key not in values:
                raise unknown_key(key, name, [*values, *known])
            if "=" not in argument and not isinstance(values[key], bool):
                raise InputError(
                    f"give --{name}.{key} its value with =, as in --{name}.{key}=VALUE"
                )
            keys.append(key)
    return keys


def unknown_key(key: str, name: str, known: Sequence[str]) -> InputError:
    """The error for a flag `--name.key` that nothing has, with the nearest of the known keys."""
    return InputError(f"unknown key --{name}.{key}{did_you_mean(key, known)}")


def _flag_error(message: str) -> str:
    """One sentence for what absl says of a flag."""
    # What a configuration file refuses comes with a traceback; its last line is the reason.
    if "Traceback" in message:
        last_line = message.strip().splitlines()[-1]
        reason = last_line.partition(": ")[2] or last_line
        config_flag = re.search(r"--config=\S+(?=: Error)", message)
        flag = config_flag[0] if config_flag else message.partition(":")[0]
        return f"{flag}: {reason}"
    flag_and_value = re.match(r"flag (--[\w.]+)=(.*?): ", message, re.DOTALL)
    for reason, right in NOT_A_VALUE.items():
        if flag_and_value and reason in message:
            return f"{flag_and_value[1]} must be {right}, not {flag_and_value[2]!r}"
    return message.replace("\n", " ").strip()


def _unknown_key(message: str) -> str:
    """One sentence for what ml_collections says of a key that it lacks."""
    # '\'ratoi\'\nDid you mean "ratio" instead of "ratoi"?'
    key = re.search(r"'(\w+)'", message.replace("\\", ""))
    near = re.search(r'Did you mean "(\w+)"', message)
    text = f"the configuration has no key {key[1]!r}" if key else message.splitlines()[0]
    return text + (f"; did you mean {near[1]!r}?" if near else "")


def _exit(message: str, status: int) -> NoReturn:
    print(message, file=sys.stderr)
    processes.leave(status)
    sys.exit(status)
