"""What every command shares: flags, and errors in one sentence instead of a traceback."""

import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from absl import flags
from ml_collections import ConfigDict

from senet_jax import processes, workdir
from senet_jax.errors import InputError, Terminated, did_you_mean


def run(main: Callable[[list[str]], None], usage: str | None) -> None:
    """Call `main(argv)`; bad input exits with status 2 and a sentence, Ctrl-C with 130.

    SIGTERM, where it is answered at a safe point, exits with 143. One of several processes that
    train together ends without waiting for the others, see processes.leave.

    `--help` prints `usage`, the docstring of the command.
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
        _exit(f"\n{kind}; the same command continues", status)
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
    except (TypeError, ValueError, OSError, ImportError) as error:
        raise InputError(str(error).splitlines()[0]) from error


def given_keys(arguments: Sequence[str], name: str, config: ConfigDict) -> list[str]:
    """The keys that `--name.key=...` sets. Raises: InputError for the first `config` lacks."""
    keys = []
    values = workdir.flatten(config.to_dict())
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
