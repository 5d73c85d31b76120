"""The cost of SE as a table, from the rows that experiments/cost.py measures."""

import statistics
from collections.abc import Iterable, Mapping, Sequence

from senet_jax.errors import counted

# The paper's ratios of the SE network's time to the plain network's.
PAPER = {"train": 209 / 190, "infer": 167 / 164}


def by_row(rows: Sequence[Mapping[str, str]]) -> dict[str, dict[str, Mapping[str, str]]]:
    """The rows of the file by label, then by kind of step, "train" or "infer"."""
    by_label: dict[str, dict[str, Mapping[str, str]]] = {}
    for row in rows:
        by_label.setdefault(row["row"], {})[row["what"]] = row
    return by_label


HEADINGS = ("row", "parameters", "GMACs", "train / plain", "infer / plain", "memory / plain")


def cells(rows: Sequence[Mapping[str, str]], intervals: bool = False) -> list[list[str]]:
    """The lines below HEADINGS, one per row of the ablations; memory is the peak of training."""
    time = _with_interval if intervals else _ratio
    lines = []
    for label, steps in by_row(rows).items():
        first = next(iter(steps.values()))
        line = [label, f"{int(first['params']):,}", f"{float(first['gmacs']):.3f}"]
        line += [time(steps[what]) if what in steps else "-" for what in PAPER]
        training = steps.get("train")
        ratio = float(training["peak_gb"]) / float(training["plain_gb"]) if training else None
        lines.append([*line, "-" if ratio is None else f"{ratio:.2f}"])
    return lines


def _ratio(row: Mapping[str, str]) -> str:
    """The time by the plain network's."""
    return f"{float(row['times_plain']):.3f}"


def _with_interval(row: Mapping[str, str]) -> str:
    """The same with its interval, if the row has one."""
    interval = f" ({float(row['low']):.2f} to {float(row['high']):.2f})" if row["low"] else ""
    return _ratio(row) + interval


def notes(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """The conditions under which the numbers were measured, in sentences."""
    first = rows[0]
    measured = []
    for what in dict.fromkeys(row["what"] for row in rows):
        of_kind = [row for row in rows if row["what"] == what]
        images = counted(int(of_kind[0]["batch"]), "image")
        plain = statistics.median(float(row["plain_s"]) for row in of_kind)
        turns, steps = (_span(row[key] for row in of_kind) for key in ("turns", "steps"))
        measured.append(
            f"{what} {images} a step, plain {plain:.3f} s, {steps} steps in {turns} turns"
        )
    return [
        f"{first['network']}, {first['size']} pixels, float32; {'; '.join(measured)}; the "
        "median over turns of the ratio to the plain network.",
        "Counts are those of the networks that were timed: bottlenecks stride on the 3x3; those of "
        "the studies on the first 1x1.",
        "Paper, SE-ResNet-50: 1.100 (training, 256 images, GPUs), 1.018 (one image, a CPU).",
        *measured_at(rows),
    ]


def _span(numbers: Iterable[str]) -> str:
    """The least and the most of some numbers, or the only one."""
    values = sorted(set(map(int, numbers)))
    return f"{values[0]} to {values[-1]}" if len(values) > 1 else str(values[0])


def measured_at(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Machine and commit, in a sentence each; of all but the most frequent, with their rows."""
    labels: dict[str, dict[str, None]] = {}
    for row in rows:
        where = f"{row['machine']}, commit {row['commit']}"
        labels.setdefault(where, {})[row["row"]] = None
    usual, *others = sorted(labels, key=lambda where: -len(labels[where]))
    return [f"{usual}.", *(f"{where}: {', '.join(labels[where])}." for where in others)]


def markdown(rows: Sequence[Mapping[str, str]]) -> str:
    """The table, with intervals, and its notes as Markdown."""
    headings = [
        f"{heading} (95 % interval)" if heading.partition(" ")[0] in PAPER else heading
        for heading in HEADINGS
    ]
    lines = [f"| {' | '.join(headings)} |", f"|---|{'---:|' * (len(HEADINGS) - 1)}"]
    lines += [f"| {' | '.join(line)} |" for line in cells(rows, intervals=True)]
    return "\n".join([*lines, "", *(f"- {note}" for note in notes(rows))]) + "\n"
