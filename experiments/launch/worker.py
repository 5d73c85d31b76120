"""Train the run whose configuration is in a work directory. Launchers start this command.

    python -m experiments.launch.worker DIR [--log=LOGGER,...] [--processors=0,1] [--distributed]

Its exit status is that of `senet_jax.main`; OCCUPIED if another process trains there. With
`--answers=FD` it then trains those that are named on its standard input, a line of JSON each, and
writes the status of each to that file descriptor. What is unexpected ends it.
"""

import signal

if __name__ == "__main__":
    from senet_jax.system import startup

    # SLURM sends it to all processes of a job; the parent turns it into a SIGTERM where it means
    # the end.
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    startup.begin()

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from absl import flags

from experiments.launch import LOG, pruning
from senet_jax.errors import InputError, Occupied, Pruned
from senet_jax.runs import workdir
from senet_jax.system import cli, files, processes, processors, startup
from senet_jax.training import loggers

OCCUPIED = 75  # EX_TEMPFAIL of sysexits.h
REFUSED = 2  # that of cli.run
# Asked to end, it saved; or it was asked before it could answer, with nothing to save yet.
STOPPED = (130, 143, *(-number for number in startup.DEFAULTS), -signal.SIGUSR2)


def start(
    directory: Path,
    log: Sequence[str] = loggers.USUAL,
    flags: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    answers: int | None = None,
) -> "subprocess.Popen[bytes]":
    """Start the command; its output is added to the run's log.

    The process has its own session: Ctrl-C and a scheduler's signals reach it through its launcher.

    Args:
      answers: a file descriptor for the statuses of this run and of further ones, if there are any.

    Raises: InputError if the log cannot be written.
    """
    if answers is not None:
        flags = [*flags, f"--answers={answers}"]
    with open_log(directory) as output:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "experiments.launch.worker", str(directory)),
                *(f"--log={','.join(log)}", *flags),
            ],
            env=os.environ | (environment or {}),
            stdin=subprocess.DEVNULL if answers is None else subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=() if answers is None else (answers,),
        )


def open_log(directory: Path) -> IO[bytes]:
    """Open a run's log to add to it. Raises: InputError if it cannot be written."""
    with files.refused(directory / LOG):
        return (directory / LOG).open("ab")


def main(argv: list[str]) -> None:
    values = flags.FlagValues()
    loggers.define_flag(values)
    flags.DEFINE_list("processors", [], "Processors to use; default: all.", flag_values=values)
    flags.DEFINE_bool(
        "distributed", False, "Train with the job's other processes.", flag_values=values
    )
    flags.DEFINE_integer(
        "answers", None, "Train the runs on standard input, too; answer here.", flag_values=values
    )
    rest = cli.parse_flags(argv, values)
    if len(rest) != 1:
        raise InputError("give one work directory")
    processors.be_nice_to_other_sessions()
    if values.processors:
        os.sched_setaffinity(0, map(int, values.processors))
    if values.distributed:
        processes.join(None, None, None, timeout=300)

    from senet_jax.training import process

    process.begin()
    if values.answers is None:
        if status := train(Path(rest[0]), values.log, distributed=values.distributed):
            processes.leave(status)
            sys.exit(status)
        return
    with open(values.answers, "w", encoding="ascii") as answers:
        for directory in itertools.chain(map(Path, rest), further()):
            try:
                status = train(directory, values.log)
            except InputError as error:
                print(f"error: {error}", file=sys.stderr)
                status = REFUSED
            print(status, file=answers, flush=True)


def further() -> Iterator[Path]:
    """The work directories on standard input, to whose logs the output goes from there on."""
    for line in sys.stdin:
        directory = Path(json.loads(line))
        sys.stdout.flush()
        sys.stderr.flush()
        with open_log(directory) as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        yield directory


def train(directory: Path, log: Sequence[str], *, distributed: bool = False) -> int:
    """Train a run. Returns: 0, or OCCUPIED. Raises: what ended it, which it has on record then."""
    from senet_jax.training.loop import train_and_evaluate
    from senet_jax.training.result import in_words

    try:
        result = train_and_evaluate(
            workdir.load_config(directory),
            directory,
            log=log,
            group=directory.absolute().parent.name,  # the row
            after_evaluation=pruning.of(directory),
        )
    except Occupied as error:
        print(f"error: {error}", file=sys.stderr)
        return OCCUPIED
    except Pruned as error:
        if processes.is_first():
            print(workdir.fail(directory, error))
        return 0
    except Exception as error:
        if not distributed or processes.is_first():
            workdir.fail(directory, error)
        raise
    if processes.is_first():
        print(in_words(result, directory))
    return 0


if __name__ == "__main__":
    cli.run(main, __doc__, continues=True)
