"""Show where the runs of a study stand, from their work directories alone, whoever trains them.

    python -m experiments.status reduction [--dataset=cifar10] [--workdir=DIR] [--smoke]
    python -m experiments.status --all [--root=runs]
    python -m experiments.status reduction --watch

A run is queued (a launcher wants it, and no process has had it yet), running, done, failed, stopped
(its process was asked to end, and whoever starts the run again continues it), or stale: its process
was killed, or the machine of that process gives no sign of life. It is damaged where a file of it
cannot be read; the exit status is then 2. `--watch` refreshes in a terminal.
"""

import contextlib
import dataclasses
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from experiments.grid.plan import define_flags, directory_of
from experiments.studies import the_study
from senet_jax.config import flatten
from senet_jax.errors import InputError, Pruned, first_line, refuse
from senet_jax.runs import lock, workdir
from senet_jax.system import cli, files
from senet_jax.system.terminal import duration, print_whole

# The states and their colours. Where there is no room for all runs, the last are left out first.
STATES = {
    "running": "green",
    "stale": "yellow",
    "failed": "red",
    "damaged": "red",
    "stopped": "yellow",
    "queued": "",
    "pruned": "dim",
    "done": "dim",
}
REFRESH = 2.0  # seconds
TAIL = 2**16  # bytes to read from the end of metrics.jsonl


@dataclasses.dataclass(frozen=True)
class Standing:
    """A run as its work directory shows it; None for what the directory does not say.

    Attributes:
      directory: the run's work directory.
      state: one of STATES.
      step, total_steps: the steps that are done, and those of the whole run.
      epoch: the step in epochs.
      loss: the latest training loss.
      top1_error: the latest evaluation's top-1 error, in per cent.
      images_per_second: the speed of the latest steps.
      seconds_left: the time to the end at this speed, without evaluations.
      host: the machine of the latest process that trained the run.
      reason: the reason why the run failed, or is damaged.
    """

    directory: Path
    state: str
    step: int | None = None
    total_steps: int | None = None
    epoch: float | None = None
    loss: float | None = None
    top1_error: float | None = None
    images_per_second: float | None = None
    seconds_left: float | None = None
    host: str | None = None
    reason: str | None = None


def main(argv: list[str]) -> None:
    values = flags.FlagValues()
    define_flags(values)
    flags.DEFINE_bool("all", False, "All runs below --root.", flag_values=values)
    cli.define_path("root", "runs", "With --all: where the runs are.", flag_values=values)
    flags.DEFINE_bool("watch", False, "Refresh until Ctrl-C, in a terminal.", flag_values=values)
    names = cli.parse_flags(argv, values)
    if values.all:
        if names or values.workdir or values.dataset or values.smoke or values.folds:
            raise InputError("--all stands alone, with --root: it takes no study or --workdir")
        root, labels = Path(values.root), []
    else:
        study = the_study(names, "status")
        root, labels = directory_of(study, values), [row.label for row in study.rows]
    if not find(root, labels):
        raise InputError(f"there are no runs in {root}; `python -m experiments.run` makes them")
    console = Console(file=sys.stdout, highlight=False)
    if not (values.watch and console.is_terminal):
        runs = find(root, labels)
        print_whole(table(root, runs))
        refuse([str(run.reason) for run in runs if run.state == "damaged"])
        return
    live = Live(console=console, screen=True, auto_refresh=False)
    with contextlib.suppress(KeyboardInterrupt), live:
        while True:
            live.update(table(root, find(root, labels), console.height - 6), refresh=True)
            time.sleep(REFRESH)


def find(root: Path, labels: Sequence[str] = ()) -> list[Standing]:
    """Find the runs below a directory, in the order of the study's rows, and by seed."""

    def place(directory: Path) -> tuple[Any, ...]:
        row, _, seed = str(directory.relative_to(root)).rpartition("/seed")
        rank = labels.index(row) if row in labels else len(labels)
        return rank, row, int(seed) if seed.isdecimal() else 0

    closed: list[Standing] = []  # folders of others, say

    def close(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):  # removed meanwhile, say
            reason = f"{error.filename} cannot be read: {error.strerror}"
            closed.append(Standing(Path(error.filename), "damaged", reason=reason))

    runs = [standing(directory) for directory in _directories(root, close)]
    return sorted([*runs, *closed], key=lambda run: place(run.directory))


def _directories(root: Path, onerror: Callable[[OSError], None]) -> Iterator[Path]:
    for place, folders, names in files.walk(root, onerror):
        folders[:] = [name for name in folders if name != workdir.CHECKPOINTS]
        if "config.json" in (*names, *folders):  # a folder of this name is damage
            yield place


def standing(directory: Path) -> Standing:
    """Read where a run stands."""
    try:
        return _standing(directory)
    except InputError as error:
        return Standing(directory, "damaged", reason=str(error))


def _standing(directory: Path) -> Standing:
    """Where a run stands. Raises: InputError if a file of it cannot be read."""
    config = flatten(files.read_table(directory / "config.json") or {})
    process = lock.last_process(directory)
    result = files.read_table(directory / "result.json")
    failed = files.read_table(directory / "failed.json")
    latest = _latest(directory / "metrics.jsonl")
    step, total = latest.get("step"), process.get("total_steps")
    if result is not None:  # other files may be gone, or never written by an older version
        for key in ("step", "eval/top1_error"):
            if not _is_number(result.get(key)):
                raise InputError(
                    f"{directory / 'result.json'} is damaged: it does not say the {key}"
                )
        step, total = result["step"], result.get("planned_steps", result["step"])
        shown = ("train/loss", "images_per_second", "eval/top1_error")
        latest |= {key: result[key] for key in shown if key in result}
    numbers = {
        "step": step,
        "total_steps": total,
        **{key: latest.get(key) for key in ("train/loss", "eval/top1_error", "images_per_second")},
        **{key: config.get(key) for key in ("train.batch_size", "train.epochs")},
    }
    for key, value in numbers.items():
        if value is not None and not _is_number(value):
            raise InputError(f"{directory} is damaged: its {key} is {value!r}, not a number")
    speed, seconds_left = latest.get("images_per_second"), None
    if speed and step is not None and total:
        seconds_left = (total - step) * (config.get("train.batch_size") or 0) / speed
    share = step / total if step is not None and total else None
    state, reason = _state(result, failed, process)
    return Standing(
        directory=directory,
        state=state,
        step=step,
        total_steps=total,
        epoch=None if share is None else share * (config.get("train.epochs") or 0),
        loss=latest.get("train/loss"),
        top1_error=latest.get("eval/top1_error"),
        images_per_second=speed,
        seconds_left=seconds_left if state == "running" else None,
        host=process.get("host"),
        reason=reason,
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _state(result: Any, failed: Any, process: dict[str, Any]) -> tuple[str, str | None]:
    """The state of a run, and the reason why it failed.

    Args:
      failed: what a launcher wrote of it.
      process: what the latest process wrote of itself, with a reason if it gave up.
    """
    if result is not None:
        return "done", None
    if process.get("alive"):
        return "running", None
    if failed and failed.get("kind") == Pruned.__name__:
        return "pruned", None
    if failed := failed or (process if "reason" in process else None):
        return "failed", str(failed.get("reason"))
    if not process:
        return "queued", None
    return "stopped" if process["ended"] else "stale", None


def _latest(path: Path) -> dict[str, Any]:
    """The latest value of every metric, without a line that is still being written.

    Raises: InputError if another line is damaged.
    """
    metrics: dict[str, Any] = {}
    try:
        with path.open("rb") as file:
            start = file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            lines = file.read().splitlines(keepends=True)
    except FileNotFoundError:
        return metrics
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    for number, line in enumerate(lines):
        try:
            metrics |= json.loads(line)
        except (ValueError, TypeError, RecursionError) as error:
            is_cut = (start > 0 and number == 0) or not line.endswith(b"\n")
            if not is_cut:
                raise InputError(f"{path} cannot be read: {first_line(error)}") from error
    return metrics


def table(root: Path, runs: Sequence[Standing], room: int | None = None) -> Table:
    """One line per run, up to `room` of them, and a summary of all below."""
    order = list(STATES)
    shown = sorted(range(len(runs)), key=lambda index: order.index(runs[index].state))[:room]
    drawn = Table(box=box.SIMPLE_HEAD, caption=Text(summary(root, runs)), caption_justify="left")
    drawn.collapse_padding, drawn.pad_edge = True, False
    drawn.add_column("run", no_wrap=True)
    drawn.add_column("state", no_wrap=True)
    for heading in ("step", "epoch", "loss", "top-1 error", "images/s", "ETA"):
        drawn.add_column(heading, justify="right", no_wrap=True)
    drawn.add_column("host", overflow="ellipsis", no_wrap=True)
    for run in (runs[index] for index in sorted(shown)):
        step = "-" if run.step is None else f"{run.step}"
        drawn.add_row(
            Text(name(root, run)),
            Text(run.state, STATES[run.state]),
            step + (f"/{run.total_steps}" if run.total_steps else ""),
            _number(run.epoch, ".3g"),
            _number(run.loss, ".4f"),
            _number(run.top1_error, ".2f"),
            _number(run.images_per_second, ",.0f"),
            "-" if run.seconds_left is None else duration(run.seconds_left),
            Text(run.host or "-"),
        )
    return drawn


def name(root: Path, run: Standing) -> str:
    """The run's name in the table: its directory below `root`."""
    return os.path.relpath(run.directory, root)


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def summary(root: Path, runs: Sequence[Standing]) -> str:
    """The number of runs in each state, and the reasons of those that failed."""
    counts = {state: sum(run.state == state for run in runs) for state in STATES}
    lines = [", ".join(f"{count} {state}" for state, count in counts.items() if count)]
    for run in runs:
        if run.reason:
            lines.append(f"{name(root, run)}: {run.reason.splitlines()[0]}")
    return "\n".join(lines)


if __name__ == "__main__":
    cli.run(main, __doc__)
