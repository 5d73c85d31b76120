"""What SE costs, as a table: rows of experiments/cost.py."""

import statistics
from collections.abc import Mapping, Sequence

# Times the plain network, in the paper.
PAPER = {"train": 209 / 190, "infer": 167 / 164}


def by_row(rows: Sequence[Mapping[str, str]]) -> dict[str, dict[str, Mapping[str, str]]]:
    """Label to what was measured to the row of the file."""
    found: dict[str, dict[str, Mapping[str, str]]] = {}
    for row in rows:
        found.setdefault(row["row"], {})[row["what"]] = row
    return found


HEADINGS = ("row", "parameters", "GMACs", "train / plain", "infer / plain", "memory / plain")


def cells(rows: Sequence[Mapping[str, str]]) -> list[list[str]]:
    """Under HEADINGS; memory is the peak of training."""
    lines = []
    for label, found in by_row(rows).items():
        first = next(iter(found.values()))
        line = [label, f"{int(first['params']):,}", f"{float(first['gmacs']):.3f}"]
        line += [
            f"{float(found[what]['times_plain']):.3f}" if what in found else "-" for what in PAPER
        ]
        memory = found.get("train")
        ratio = float(memory["peak_gb"]) / float(memory["plain_gb"]) if memory else None
        lines.append([*line, "-" if ratio is None else f"{ratio:.2f}"])
    return lines


def notes(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """What the numbers are of."""
    first = rows[0]
    batches = {row["what"]: row["batch"] for row in rows}
    plains = {what: [float(r["plain_s"]) for r in rows if r["what"] == what] for what in batches}
    measured = "; ".join(
        f"{what} {batches[what]} image(s) a step, plain {statistics.median(seconds):.3f} s"
        for what, seconds in plains.items()
    )
    return [
        f"{first['network']}, {first['size']} pixels, float32; {measured}; medians of ratios of "
        f"{first['steps']} steps taken in turn with the plain network.",
        "Paper, SE-ResNet-50: 1.100 (training, 256 images, GPUs), 1.018 (one image, a CPU).",
        *dict.fromkeys(f"{row['machine']}, commit {row['commit']}." for row in rows),
    ]


def markdown(rows: Sequence[Mapping[str, str]]) -> str:
    """The same as Markdown."""
    lines = [f"| {' | '.join(HEADINGS)} |", f"|---|{'---:|' * (len(HEADINGS) - 1)}"]
    lines += [f"| {' | '.join(line)} |" for line in cells(rows)]
    return "\n".join([*lines, "", *(f"- {note}" for note in notes(rows))]) + "\n"
