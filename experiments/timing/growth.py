"""Measure how time and memory grow with what there is more of: images, layers, classes, examples.

    python -m experiments.timing.growth --csv=experiments/results/timing/growth_of.csv
    python -m experiments.timing.growth --only=evaluation,report --csv=growth_of.csv
    python -m experiments.timing.growth --markdown=FILE           (as a table)

Each kind is a race (race.py) of processes that differ in one number, so that a machine that slows
down slows all of them. Steps are those of training of SE-ResNet-20 on 128 images of 32 pixels, but
for that number. Orders and evaluations are of examples whose images take no memory; the network of
the evaluation is one layer. A report is of runs that were not trained (many_runs.py).
"""

import dataclasses
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from experiments.statistics.medians import interval_of_median
from experiments.timing.answers import Steps, serve
from experiments.timing.contestants import Entry
from experiments.timing.race import TURN_S, Contestant, machine, race
from experiments.timing.records import append, columns_of, read
from senet_jax.errors import InputError, did_you_mean
from senet_jax.runs import provenance
from senet_jax.system import cli

PUBLISHED = Path(__file__).parents[1] / "results" / "timing" / "growth_of.csv"
BATCH, SIZE = 128, 32
EXAMPLES = (10**4, 10**5, 10**6, 10**7)
EVALUATED = 1000  # examples per batch of an evaluation


@dataclasses.dataclass(frozen=True)
class Task:
    """A contestant that does something as often as it is asked to, with so many things."""

    who: str
    count: int
    module: str = "experiments.timing.growth"

    def arguments(self) -> list[str]:
        return [self.who, str(self.count)]


def _step(batch: int = BATCH, size: int = SIZE, devices: int = 1, **fields: Any) -> Entry:
    network = {"name": "seresnet20_cifar"} | fields
    return Entry("ours", network, "train", batch, size, devices=devices)


# What grows, what there is more of, and the contestants by that number.
KINDS: Mapping[str, tuple[str, Mapping[int, Contestant]]] = {
    "batch": ("images", {n: _step(batch=n) for n in (32, 64, 128, 256)}),
    "size": ("pixels", {n**2: _step(size=n) for n in (16, 32, 64, 96)}),
    "depth": ("blocks", {3 * n: _step(stage_sizes=(n,) * 3) for n in (3, 9, 18)}),
    "classes": ("classes", {n: _step(num_classes=n) for n in (10, 100, 1000, 21841)}),
    "devices": ("simulated devices", {n: _step(devices=n) for n in (1, 2, 4, 8)}),
    "order": ("examples", {n: Task("order", n) for n in EXAMPLES}),
    "evaluation": ("examples", {n: Task("evaluation", n) for n in EXAMPLES[:-1]}),
    "report": (
        "runs",
        {n: Task("report", n, "experiments.reporting.many_runs") for n in (10, 100, 1000)},
    ),
}
# What is measured of a kind, in a table.
TITLES = {kind: f"step, by {kind}" for kind in KINDS} | {
    "order": "order of an epoch",
    "evaluation": "evaluation",
    "report": "report",
}


def main(argv: list[str]) -> None:
    if len(argv) == 3 and argv[1] in TASKS:
        start = time.perf_counter()
        steps = TASKS[argv[1]](int(argv[2]))
        return serve(steps, time.perf_counter() - start)
    values = flags.FlagValues()
    flags.DEFINE_list("only", list(KINDS), "What grows.", flag_values=values)
    flags.DEFINE_integer("steps", 12, "Bursts to time, two per turn.", flag_values=values)
    cli.define_path("csv", "growth_of.csv", "File to add rows to.", flag_values=values)
    cli.define_path("markdown", None, "Print this file as a table.", flag_values=values)
    if rest := cli.parse_flags(argv, values):
        raise InputError(f"growth takes flags only, not {rest[0]!r}")
    if values.markdown:
        cli.check_beside(values, "markdown")
        with columns_of(values.markdown):
            print(markdown(read(values.markdown)), end="")
        return None
    for kind in values.only:
        if kind not in KINDS:
            raise InputError(f"--only has no {kind!r}{did_you_mean(kind, KINDS)}")
    for kind in values.only:
        rows = measure(kind, values.steps)
        append(Path(values.csv), rows)
        print(markdown(rows), flush=True)
    return None


def measure(kind: str, bursts: int) -> list[dict[str, Any]]:
    """The rows of a race, one per number."""
    unit, contestants = KINDS[kind]
    taken, _ = race({str(n): entry for n, entry in contestants.items()}, bursts, turn_s=TURN_S)
    rows = []
    for n in contestants:
        result = taken[str(n)]
        turns = result.by_turn or result.seconds  # the two bursts of a turn belong together
        low, high = interval_of_median(turns) or ("", "")
        times = {"median_s": statistics.median(turns), "low_s": low, "high_s": high}
        rows.append(
            {"kind": kind, "unit": unit, "count": n}
            | {name: value and float(f"{value:.4g}") for name, value in times.items()}
            | {"peak_gb": round(result.peak_gb, 3), "turns": len(turns)}
            | {"machine": machine(), "commit": provenance.git_commit()}
        )
    return rows


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as a table; "growth" is how much more there is than in the row before, and slower."""
    lines = ["| what | of | s (95 % interval) | growth | GB |", "|---|---:|---:|---:|---:|"]
    before: Mapping[str, Any] = {}
    for row in rows:
        growth = "-"
        if before.get("kind") == row["kind"]:
            more = int(row["count"]) / int(before["count"])
            slower = float(row["median_s"]) / float(before["median_s"])
            growth = f"x{more:.3g}: x{slower:.2f}"
        count, unit = int(row["count"]), row["unit"]
        seconds = f"{float(row['median_s']):.4g}"
        if row["low_s"]:
            seconds += f" ({float(row['low_s']):.4g} to {float(row['high_s']):.4g})"
        lines.append(
            f"| {TITLES[row['kind']]} | {count:,} {unit if count > 1 else unit.removesuffix('s')} "
            f"| {seconds} | {growth} | {float(row['peak_gb']):.2f} |"
        )
        before = row
    conditions: dict[str, dict[str, None]] = {}
    for row in rows:
        condition = f"{row['machine']}, commit {row['commit']}."
        conditions.setdefault(condition, {})[TITLES[row["kind"]]] = None
    for condition, titles in conditions.items():
        lines += ["", f"{'; '.join(titles).capitalize()}: {condition}"]
    return "\n".join(lines) + "\n"


def published() -> str:
    """The table of docs/performance.md."""
    return markdown(read(str(PUBLISHED)))


def _images(count: int) -> Any:
    """A split of so many examples of 1000 classes, whose images are one."""
    from senet_jax.data.in_memory import Images

    image = np.broadcast_to(np.zeros((1, 2, 2, 1), np.uint8), (count, 2, 2, 1))
    return Images(image, (np.arange(count) % 1000).astype(np.int32))


def order(count: int) -> Steps:
    """Go through the order of an epoch, batch by batch."""
    split = _images(count)

    def steps(epochs: int) -> None:
        batches = split.train_indices(BATCH, seed=0)
        for _ in range(epochs * (count // BATCH)):
            next(batches)

    return steps


def evaluation(count: int) -> Steps:
    """Evaluate a layer on all examples."""
    import flax.linen as nn
    import jax
    import jax.numpy as jnp

    from senet_jax.evaluation.loop import evaluate
    from senet_jax.evaluation.steps import make_eval_step
    from senet_jax.system.devices import AXIS, map_step, replicate

    class Layer(nn.Module):
        @nn.compact
        def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
            return nn.Dense(1000)(images.reshape(len(images), -1))

    split, model, devices = _images(count), Layer(), jax.local_devices()[:1]
    variables = model.init(jax.random.key(0), jnp.zeros((1, *split.image_shape)))
    step = make_eval_step(model, lambda images: images.astype(jnp.float32), AXIS)
    mapped, variables = map_step(step, devices, donate_state=False), replicate(variables, devices)

    def steps(evaluations: int) -> None:
        for _ in range(evaluations):
            evaluate(mapped, variables, split, EVALUATED, devices, classes=1000)

    return steps


TASKS = {"order": order, "evaluation": evaluation}


if __name__ == "__main__":
    cli.run(main, sys.modules[__name__].__doc__)
