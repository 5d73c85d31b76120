"""What every command shares: flags, and errors in one sentence instead of a traceback."""

import ast
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
from senet_jax.errors import InputError, Terminated, did_you_mean
from senet_jax.system import processes

# What Python says of a value that is none, and what it should have been.
NOT_A_VALUE = {
    "invalid literal for int()": "a whole number",
    "could not convert string to float": "a number",
    "Non-boolean argument": "true or false",
}


def run(main: Callable[[list[str]], None], usage: str | None, *, continues: bool = False) -> None:
    """Call `main(argv)`; bad input exits with status 2 and a sentence, Ctrl-C with 130.

    SIGTERM, where it is answered at a safe point, exits with 143. One of several processes that
    train together ends without waiting for the others, see processes.leave.

    `--help` prints `usage`, the docstring of the command. After an interruption it is said whether
    the same command `continues`; otherwise it begins anew.
    """
    if {"-h", "--help"} & set(sys.argv[1:]):
        print((usage or "").strip())
        return
    try:
        main(sys.argv)
    except InputError as error:
        _exit(f"error: {error}", 2)
    except KeyboardInterrupt as error:
        terminated = isinstance(error, Terminated)
        kind, status = ("terminated", 143) if terminated else ("interrupted", 130)
        _exit(f"\n{kind}{'; the same command continues' * continues}", status)
    except BrokenPipeError:  # the reader of our output, `head` say, is gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        processes.fail(error)
        raise


def parse_flags(
    argv: Sequence[str], values: flags.FlagValues, *, known_only: bool = False
) -> list[str]:
    """Parse the command line into `values` and return what is left after the program's name.

    Raises: InputError for an unknown flag or configuration key, naming the nearest, or a bad value.
    """
    try:
        return values(argv, known_only=known_only)[1:]
    except flags.Error as error:
        raise InputError(_flag_error(str(error))) from error
    except (AttributeError, KeyError) as error:
        raise InputError(_unknown_key(str(error))) from error
    except (TypeError, ValueError, OSError) as error:
        raise InputError(str(error).splitlines()[0]) from error
    except Exception as error:  # of somebody's configuration file
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise InputError(
            f"{place.filename}, line {place.lineno}: {type(error).__name__}: {error}"
        ) from error


def with_flags(config: ConfigDict, arguments: Sequence[str]) -> ConfigDict:
    """The configuration, changed by `--config.KEY=VALUE`. Raises: InputError for a bad one."""
    values, argv = flags.FlagValues(), [sys.argv[0], *arguments]
    config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
    parse_flags(argv, values)
    return values.config


def check_config_file(value: str) -> None:
    """Raises: InputError unless `value`, up to a colon, is a Python file that has get_config."""
    name = value.partition(":")[0]
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


def given_keys(arguments: Sequence[str], name: str, config: ConfigDict) -> list[str]:
    """The keys that `--name.key=...` sets. Raises: InputError for the first `config` lacks."""
    keys = []
    values = flatten(config.to_dict())
    for argument in arguments:
        if match := re.match(rf"--?(?:no)?{name}\.([^=]+)", argument):
            key = match[1]
            if key not in values:
                raise InputError(f"unknown key --{name}.{key}{did_you_mean(key, values)}")
            if "=" not in argument and not isinstance(values[key], bool):
                raise InputError(
                    f"give --{name}.{key} its value with =, as in --{name}.{key}=VALUE"
                )
            keys.append(key)
    return keys


def _flag_error(message: str) -> str:
    # What a configuration file refuses comes with a traceback; its last line is the reason.
    if "Traceback" in message:
        flag, reason = message.partition(":")[0], message.strip().splitlines()[-1]
        given = re.search(r"--config=\S+(?=: Error)", message)
        return f"{given[0] if given else flag}: {reason.partition(': ')[2] or reason}"
    given = re.match(r"flag (--[\w.]+)=(.*?): ", message, re.DOTALL)
    for reason, right in NOT_A_VALUE.items():
        if given and reason in message:
            return f"{given[1]} must be {right}, not {given[2]!r}"
    return message.replace("\n", " ").strip()


def _unknown_key(message: str) -> str:
    # ml_collections says: '\'ratoi\'\nDid you mean "ratio" instead of "ratoi"?'
    key = re.search(r"'(\w+)'", message.replace("\\", ""))
    near = re.search(r'Did you mean "(\w+)"', message)
    text = f"the configuration has no key {key[1]!r}" if key else message.splitlines()[0]
    return text + (f"; did you mean {near[1]!r}?" if near else "")


def _exit(message: str, status: int) -> NoReturn:
    print(message, file=sys.stderr)
    processes.leave(status)
    sys.exit(status)
