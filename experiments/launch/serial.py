"""Runs one after the other, in this process, so that they share compiled programs and data."""

import traceback
from collections.abc import Sequence
from pathlib import Path

from experiments.grid.plan import PlannedRun
from experiments.launch import pruning, titles
from senet_jax.errors import Diverged, InputError, Occupied, Pruned
from senet_jax.runs import workdir
from senet_jax.training.loggers import USUAL


def train(
    runs: Sequence[PlannedRun], log: Sequence[str] = USUAL, *, keep_going: bool = False
) -> dict[Path, str]:
    """Train the runs, and skip those that another process trains.

    Args:
      log: names of their loggers.
      keep_going: whether the first run may be refused like any other.

    Raises: InputError if the first run is refused: most likely the others would be, too.
    """
    from senet_jax.training import process
    from senet_jax.training.loop import train_and_evaluate

    process.begin()
    failures, names = {}, titles(runs)
    for run in runs:
        print(names[run.workdir], flush=True)
        try:
            train_and_evaluate(
                run.config,
                run.workdir,
                log=log,
                group=run.row.label,
                after_evaluation=pruning.of(run.workdir),
            )
        except Occupied as error:
            print(f"skipped: {error}", flush=True)
        except Pruned as error:
            print(workdir.fail(run.workdir, error), flush=True)
        except Exception as error:  # one failing run must not stop the others
            is_refused = isinstance(error, InputError) and not isinstance(error, Diverged)
            if run is runs[0] and is_refused and not keep_going:
                raise
            if not isinstance(error, InputError):
                traceback.print_exc()
            failures[run.workdir] = workdir.fail(run.workdir, error)
    return failures
