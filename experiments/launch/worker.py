"""Train the run whose configuration is in a work directory. Launchers start this command.

    python -m experiments.launch.worker DIR [--log=LOGGER,...] [--processors=0,1] [--distributed]

Its exit status is that of `senet_jax.main`; OCCUPIED if another process trains there.
"""

import signal

if __name__ == "__main__":
    from senet_jax.system import startup

    # SLURM sends it to all processes of a job; the parent turns it into a SIGTERM where it means
    # the end.
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    startup.begin()

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from absl import flags

from experiments.launch import LOG, pruning
from senet_jax.errors import InputError, Occupied, Pruned
from senet_jax.runs import workdir
from senet_jax.system import cli, host_memory, processes, startup
from senet_jax.training import loggers

OCCUPIED = 75  # EX_TEMPFAIL of sysexits.h
# Asked to end, it saved; or it was asked before it could answer, with nothing to save yet.
STOPPED = (130, 143, *(-number for number in startup.DEFAULTS), -signal.SIGUSR2)


def start(
    directory: Path,
    log: Sequence[str] = loggers.USUAL,
    flags: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> "subprocess.Popen[bytes]":
    """Start the command; its output is added to the run's log.

    The process has its own session: Ctrl-C and a scheduler's signals reach it through its launcher.
    """
    with (directory / LOG).open("ab") as output:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "experiments.launch.worker", str(directory)),
                *(f"--log={','.join(log)}", *flags),
            ],
            env=os.environ | (environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def main(argv: list[str]) -> None:
    values = flags.FlagValues()
    loggers.define_flag(values)
    flags.DEFINE_list("processors", [], "Processors to use; default: all.", flag_values=values)
    flags.DEFINE_bool(
        "distributed", False, "Train with the job's other processes.", flag_values=values
    )
    rest = cli.parse_flags(argv, values)
    if len(rest) != 1:
        raise InputError("give one work directory")
    directory = Path(rest[0])
    if values.processors:
        os.sched_setaffinity(0, map(int, values.processors))
    config = workdir.load_config(directory)
    if values.distributed:
        processes.join(None, None, None, timeout=300)

    from senet_jax.system import compilation_cache
    from senet_jax.training.loop import train_and_evaluate
    from senet_jax.training.result import in_words

    compilation_cache.enable()
    host_memory.release_after_compilation()
    try:
        group = directory.absolute().parent.name  # the row
        prune = pruning.of(directory)
        result = train_and_evaluate(
            config, directory, log=values.log, group=group, after_evaluation=prune
        )
    except Occupied as error:
        print(f"error: {error}", file=sys.stderr)
        processes.leave(OCCUPIED)
        sys.exit(OCCUPIED)
    except Pruned as error:
        if processes.is_first():
            print(workdir.fail(directory, error))
        return
    except Exception as error:
        if not values.distributed or processes.is_first():
            workdir.fail(directory, error)
        raise
    if processes.is_first():
        print(in_words(result, directory))


if __name__ == "__main__":
    cli.run(main, __doc__, continues=True)
