"""The race of `python -m experiments.benchmark --input`: our stream against a loader on Pillow."""

import statistics
from typing import Any

from experiments.timing import readers
from experiments.timing.race import Reader, machine, race
from senet_jax.runs import provenance


def rows(dataset: str, size: int, batch: int, steps: int) -> list[dict[str, Any]]:
    """Time the readers; returns one row each. Raises: InputError if the dataset cannot be read."""
    readers.find(dataset)
    entries = {who: Reader(who, dataset, size, batch) for who in readers.CONTESTANTS}
    times, _ = race(entries, steps)
    ours, images = times["ours"].seconds, batch * readers.BATCHES
    conditions = {"machine": machine(), "commit": provenance.git_commit()}
    result = []
    for who, taken in times.items():
        ratios = [seconds / base for seconds, base in zip(taken.seconds, ours, strict=True)]
        result.append(
            {
                "dataset": dataset,
                "size": size,
                "batch": batch,
                "contestant": who,
                "images_per_s_core": round(images / taken.median, 1),
                "times_ours": round(statistics.median(ratios), 3),
                "least": round(min(ratios), 3),
                "most": round(max(ratios), 3),
                "steps": steps,
                "images": images * steps,
                **conditions,
            }
        )
    return result


def markdown_table(rows: list[dict[str, Any]]) -> str:
    """Rows as a table with one line per contestant."""
    lines = [
        "| dataset, pixels | reader | images/s/core | times ours | least - most | steps |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for row in rows:
        lines.append(
            f"| `{row['dataset']}`, {row['size']} | {row['contestant']} "
            f"| {row['images_per_s_core']} "
            f"| {float(row['times_ours']):.2f} | {float(row['least']):.2f} - "
            f"{float(row['most']):.2f} | {row['steps']} |"
        )
    machines = dict.fromkeys(f"{row['machine']}, commit {row['commit']}" for row in rows)
    note = f"Processor time; medians of steps of {readers.BATCHES} batches taken in turn. "
    lines += ["", *(note + f"{name}." for name in machines)]
    return "\n".join(lines) + "\n"
