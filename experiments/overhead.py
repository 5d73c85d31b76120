"""Time the training loop against the bare step: batches, metrics, their files, the terminal.

    python -m experiments.overhead --config=configs/cifar.py:seresnet20,cifar100 \\
        --steps=10 --rounds=60
    python -m experiments.overhead --config=configs/digits.py:seresnet20 \\
        --config.train.steps_per_call=8 --steps=400 --csv=overhead.csv

A round takes --steps steps in the loop of senet_jax/training/loop.py and as many bare ones, on a
batch that is on the device already. The bare ones come first in every other round. The result is
the median of the rounds' ratios, and from six rounds on its 95 % interval. Many short rounds say
more than few long ones, because a machine's speed drifts. Neither side counts first calls, which
compile, or evaluation and checkpoints.
"""

import dataclasses
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from absl import flags

from experiments.statistics.medians import interval_of_median
from experiments.timing.race import machine
from experiments.timing.records import append
from senet_jax import data
from senet_jax.errors import InputError, counted
from senet_jax.runs import provenance
from senet_jax.system import cli, host_memory, interrupt
from senet_jax.system.devices import place_batches
from senet_jax.training import loop as train
from senet_jax.training import process
from senet_jax.training.given import ConfigFlag
from senet_jax.training.loggers import Loggers
from senet_jax.training.prepare import Run, prepare
from senet_jax.training.session import Session
from senet_jax.training.writer import MetricWriter


def main(argv: list[str]) -> None:
    values = flags.FlagValues()
    flag = ConfigFlag(values, argv)
    numbers = (
        flags.DEFINE_integer("steps", 60, "Steps of each kind in a round.", flag_values=values),
        flags.DEFINE_integer("rounds", 6, "Rounds to take.", flag_values=values),
    )
    cli.define_path("csv", None, "File to append the rounds to.", flag_values=values)
    if rest := cli.parse_flags(argv, values):
        raise InputError(f"unexpected argument {rest[0]!r}; flags look like --steps=60")
    if not any(argument.lstrip("-").startswith("config") for argument in argv[1:]):
        raise InputError("give a configuration, e.g. --config=configs/digits.py:seresnet20")
    for number in numbers:
        if not number.value or number.value < 1:
            raise InputError(f"--{number.name} must be at least 1, not {number.value}")
    config = flag.value
    process.begin()
    run = prepare(config, jax.local_devices())
    ratios = []
    for number, (bare, loop) in enumerate(rounds(run, values.steps, values.rounds), start=1):
        ratios.append(loop / bare)
        row = {
            "network": config.model.name,
            "dataset": config.data.name,
            "batch": run.settings.batch_size,
            "devices": len(run.devices),
            "steps_per_call": run.settings.steps_per_call,
            "log_every_steps": run.settings.log_every_steps,
            "steps": values.steps,
            "round": number,
            "bare_s": round(bare, 6),
            "loop_s": round(loop, 6),
            "ratio": round(loop / bare, 4),
            "machine": machine(),
            "commit": provenance.git_commit(),
        }
        if values.csv:
            append(Path(values.csv), [row])
        print(
            f"round {number}: bare {bare:.4f} s, loop {loop:.4f} s per step, {loop / bare:.3f}",
            file=sys.stderr,
            flush=True,
        )
    found = interval_of_median(ratios)
    interval = " (95 % interval {:.3f} to {:.3f})".format(*found) if found else ""
    print(
        f"loop / bare step: median {statistics.median(ratios):.3f}{interval} of "
        f"{counted(len(ratios), 'round')} of {counted(values.steps, 'step')}; {machine()}"
    )


def rounds(run: Run, steps: int, count: int) -> Iterator[tuple[float, float]]:
    """Seconds per step, bare and in the loop, of `count` rounds after one that is not counted."""
    # The run evaluates one batch, and ends after the steps and the first call, which is not timed.
    total = steps + run.settings.steps_per_call
    run = dataclasses.replace(
        run,
        plan=dataclasses.replace(
            run.plan, total_steps=total, freeze_after=total, eval_every_steps=total
        ),
        dataset=dataclasses.replace(run.dataset, eval=FirstBatch(run.dataset.eval)),
    )
    kinds = {"bare": bare_steps, "loop": loop_steps}
    for number in range(count + 1):
        order = list(kinds) if number % 2 else list(kinds)[::-1]
        seconds = {kind: kinds[kind](run) for kind in order}
        if number:
            yield seconds["bare"], seconds["loop"]


class Stopwatch:
    """A step that measures from the end of its first call to that of its last."""

    def __init__(self, run: Run) -> None:
        self._step, self._total = run.steps.train, run.plan.total_steps
        self._done = self._timed_from = 0
        self._began = self.seconds = 0.0

    def __call__(self, state: Any, batch: Any) -> Any:
        state, sums = self._step(state, batch)
        self._done += 1 if sums["loss"].ndim == 0 else len(sums["loss"])
        if not self._timed_from:
            jax.block_until_ready(state)
            self._timed_from, self._began = self._done, time.perf_counter()
        elif self._done == self._total:
            jax.block_until_ready(state)
            self.seconds = (time.perf_counter() - self._began) / (self._done - self._timed_from)
        return state, sums


def bare_steps(run: Run) -> float:
    """Seconds per step of the loop's calls, on batches that are on the device."""
    step, state = Stopwatch(run), fresh(run)
    batch = next(run.dataset.train.train_batches(run.settings.batch_size, run.seed))
    placed: dict[int, Any] = {}
    for count in run.plan.calls(0):
        if count not in placed:
            placed[count] = place_batches([batch] * count, run.devices)
        state, _ = step(state, placed[count])
    return step.seconds


def loop_steps(run: Run) -> float:
    """Seconds per step in the loop, as train_and_evaluate runs it."""
    step = Stopwatch(run)
    timed = dataclasses.replace(run, steps=dataclasses.replace(run.steps, train=step))
    with tempfile.TemporaryDirectory() as folder, Loggers() as loggers:
        directory = Path(folder)
        session = Session(timed, directory / "checkpoints", time.perf_counter(), fresh(run))
        loggers.begin({}, directory, 0)
        with MetricWriter(directory, loggers) as writer:
            train.train(timed, session, writer, interrupt.Stop())
    return step.seconds


def fresh(run: Run) -> Any:
    """Copy the initial state: a step donates the one it gets."""
    return jax.tree.map(lambda leaf: leaf.copy(), run.initial_state)


@dataclasses.dataclass(frozen=True)
class FirstBatch:
    """A split that is evaluated on its first batch only."""

    whole: data.Split

    def __len__(self) -> int:
        return len(self.whole)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """[H, W, C] of each image."""
        return self.whole.image_shape

    def train_batches(self, batch_size: int, seed: int, start: int = 0) -> Iterator[data.Batch]:
        return self.whole.train_batches(batch_size, seed, start)

    def eval_batches(self, batch_size: int) -> Iterator[data.Batch]:
        yield next(self.whole.eval_batches(batch_size))


if __name__ == "__main__":
    host_memory.use_huge_pages()
    cli.run(main, __doc__)
