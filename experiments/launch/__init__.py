"""Ways to train the runs of a grid: one after the other, several at once, as jobs of a cluster.

A launcher takes the runs that lack a result and whose work directories hold their configurations.
It returns why runs failed, if any did.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.grid.plan import PlannedRun, is_fold_of_seed
from experiments.grid.study import PRETRAINED
from senet_jax.config import flatten
from senet_jax.errors import InputError, Pruned
from senet_jax.runs import lock, workdir
from senet_jax.system import files

Failures = Mapping[Path, str]  # a run's directory to why the run has no result
Launcher = Callable[[Sequence[PlannedRun]], Failures]

FOLD = "data.fold"
LOG = "log.txt"  # output of a run that has a process of its own, in its work directory
# What a run's directory has before it is worth keeping.
WITHOUT_STATE = {"config.json", "failed.json", lock.PROCESS, lock.LOCK, LOG}
WITHOUT_RESULT = "ended without a result"
LAST_LINES = 5  # lines to quote from the log of a run that failed


def launch(runs: Sequence[PlannedRun], launcher: Launcher) -> Failures:
    """Have the launcher train the runs that lack a result.

    Raises: InputError, before anything is trained, if there are no runs, if a work directory holds
      a different configuration or cannot be written, or if the launcher refuses the runs.
    """
    if not runs:
        raise InputError("no run is selected: give at least one row and one seed")
    missing = [run for run in runs if not workdir.finished_result(run.config, run.workdir)]
    for run in runs:  # the other seeds of the row, too: they end in one mean
        for neighbour in run.workdir.parent.glob("seed*"):
            workdir.check_same(run.config, neighbour, apart_from=_of_seeds(run, neighbour))
    if len(runs) > len(missing):
        print(f"{len(runs) - len(missing)} of {len(runs)} runs are done already")
    if not missing:
        return {}
    for run in missing:
        workdir.check_usable(run.workdir)
    folders = {folder for run in missing for folder in (run.workdir, *run.workdir.parents)}
    created = [folder for folder in folders if not folder.exists()]
    for run in missing:  # from here on they are queued
        workdir.queue(run.workdir, run.config)
    try:
        return launcher(missing)
    except InputError:
        _give_back(missing, created)
        raise


def _of_seeds(run: PlannedRun, neighbour: Path) -> list[str]:
    """The keys in which runs of one row may differ: on folds of their seeds, also the fold."""
    stored = files.read_table(neighbour / "config.json") or {}
    both: list[dict[str, Any]] = [flatten(run.config.to_dict()), flatten(stored)]
    one_of_as_many = len({tuple(config.get(FOLD) or ())[1:] for config in both}) == 1
    on_folds = one_of_as_many and all(map(is_fold_of_seed, both))
    return ["seed", PRETRAINED, *([FOLD] if on_folds else [])]


def in_waves(launcher: Launcher) -> Launcher:
    """Let a launcher train a run only after the run whose weights it starts from.

    A launcher that trains several runs at once needs this.
    """

    def train(runs: Sequence[PlannedRun]) -> Failures:
        failures, waiting = {}, list(runs)
        while waiting:
            places = {str(run.workdir) for run in waiting}
            wave, later = [], []
            for run in waiting:
                weights = _weights_of(run)
                if weights in places:
                    later.append(run)
                elif Path(weights) in failures:
                    why = f"it starts from {weights}, which failed"
                    failures[run.workdir] = workdir.fail(run.workdir, why)
                else:
                    wave.append(run)
            waiting = later
            if wave:
                failures |= launcher(wave)
        return failures

    return train


def _weights_of(run: PlannedRun) -> str:
    """The weights a run starts from: a work directory, another source, or "" for none."""
    config: Any = run.config
    return config.model.pretrained


def titles(runs: Sequence[PlannedRun]) -> dict[Path, str]:
    """The names of runs in lists and messages, by work directory."""
    return {
        run.workdir: f"[{number}/{len(runs)}] {run.row.label}, seed {run.seed}"
        for number, run in enumerate(runs, start=1)
    }


def _give_back(runs: Sequence[PlannedRun], created: Sequence[Path]) -> None:
    """Undo the queueing of runs that were not begun, and remove the folders made for them."""
    for run in runs:
        there = [*run.workdir.iterdir()]
        ours = WITHOUT_STATE if run.workdir in created else {"config.json"}
        if {path.name for path in there} <= ours:
            for path in there:
                path.unlink(missing_ok=True)
    for folder in sorted(created, key=lambda path: len(path.parts), reverse=True):
        with contextlib.suppress(OSError):  # there is something in it
            folder.rmdir()


def why_unfinished(directory: Path) -> str | None:
    """The reason why a run whose process is gone has no result; None if it has, or was pruned."""
    if files.read_json(directory / "result.json") or is_pruned(directory):
        return None
    failed = files.read_json(directory / "failed.json")
    return failed["reason"] if failed else WITHOUT_RESULT


def is_pruned(directory: Path) -> bool:
    """Whether a run was ended on the way because others were better; see pruning.py."""
    return kind_of_failure(directory) == Pruned.__name__


def kind_of_failure(directory: Path) -> str:
    """The name of the error that ended a run, such as "Diverged"; "" for none, or one unknown."""
    return str((files.read_table(directory / "failed.json") or {}).get("kind", ""))


def last_lines(path: Path) -> list[str]:
    """The last lines of a log that are not empty; none where there is no log."""
    with contextlib.suppress(OSError):
        text = path.read_text("utf-8", errors="replace")
        return [line for line in text.splitlines() if line.strip()][-LAST_LINES:]
    return []
