"""The race of `python -m experiments.benchmark --input`: our stream against a loader on Pillow."""

import statistics
from typing import Any

from experiments.timing import readers
from experiments.timing.performance import ratio_cell, ratio_columns
from experiments.timing.race import Reader, machine, race
from senet_jax.runs import provenance


def rows(dataset: str, size: int, batch: int, steps: int) -> list[dict[str, Any]]:
    """Time the readers; returns one row each. Raises: InputError if the dataset cannot be read."""
    readers.find(dataset)
    entries = {who: Reader(who, dataset, size, batch) for who in readers.CONTESTANTS}
    times, _ = race(entries, steps, ahead=True)
    ours, images = times["ours"], batch * readers.BATCHES
    conditions = {"machine": machine(), "commit": provenance.git_commit()}
    result = []
    for who, taken in times.items():
        step_s = statistics.median(taken.by_turn or taken.seconds)
        result.append(
            {
                "dataset": dataset,
                "size": size,
                "batch": batch,
                "contestant": who,
                "images_per_s_core": round(images / step_s, 1),
                **ratio_columns(taken, ours),
                "steps": steps,
                "images": images * steps,
                **conditions,
            }
        )
    return result


def markdown_table(rows: list[dict[str, Any]]) -> str:
    """Rows as a table with one line per contestant."""
    lines = [
        "| dataset, pixels | reader | images/s/core | times ours | steps |",
        "|---|---|---:|---:|---:|",
    ]
    for row in rows:
        lines.append(
            f"| `{row['dataset']}`, {row['size']} | {row['contestant']} "
            f"| {row['images_per_s_core']} | {ratio_cell(row)} | {row['steps']} |"
        )
    machines = dict.fromkeys(f"{row['machine']}, commit {row['commit']}" for row in rows)
    note = (
        f"Processor time; medians over turns of {2 * readers.BATCHES} batches each, with 95 % "
        "intervals. "
    )
    lines += ["", *(note + f"{name}." for name in machines)]
    return "\n".join(lines) + "\n"
