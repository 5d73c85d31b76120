"""The rows of `python -m experiments.benchmark`, and their tables by hardware.

Published rows are in experiments/results/timing/performance/, a file for each hardware. Rows of
earlier versions lack some columns: they are of float32, one device and bursts of one step.
"""

import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.statistics.medians import interval_of_median
from experiments.timing.contestants import Entry
from experiments.timing.race import Taken, machine
from experiments.timing.records import columns_of, read
from senet_jax.errors import InputError
from senet_jax.runs import provenance

FOLDER = Path(__file__).parents[1] / "results" / "timing" / "performance"
# The costs of a first start, and of a second one that finds its programs compiled.
COMPILED = (("compile_s", "again_s"), ("peak_gb", "again_gb"))
RACE = ("network", "what", "dtype", "batch", "size", "devices")  # what identifies a race
USUAL = {"dtype": "float32", "devices": "1"}  # what rows that lack these columns are of
SHOWN = ("seresnet50", "seresnet20_cifar")  # networks in the short table

Row = Mapping[str, Any]


def rows_of(
    entry: Entry, times: Mapping[str, Taken], again: Taken, macs: int
) -> list[dict[str, Any]]:
    """One row per contestant of a race.

    Args:
      entry: the race's entry of ours.
      times: the measurements by contestant, ours among them.
      again: those of ours with its programs compiled.
      macs: multiply-adds of an image.
    """
    ours = times["ours"]
    accelerator = ours.facts["hardware"]
    flops = 2 * macs * entry.batch * (3 if entry.what == "train" else 1)
    common = {key: getattr(entry, key) for key in ("what", "dtype", "batch", "size", "devices")}
    conditions = {"machine": machine(accelerator), "commit": provenance.git_commit()}
    rows = []
    for name, taken in times.items():
        moved = taken.facts.get("moved_gb", 0.0)
        first = name == "ours"
        rows.append(
            {
                "network": entry.fields["name"],
                **common,
                "contestant": name,
                "median_s": round(taken.median, 6),
                "min_s": round(min(taken.seconds), 6),
                "max_s": round(max(taken.seconds), 6),
                "steps": len(taken.seconds),
                "burst": taken.burst,
                "images_per_s": round(entry.batch / taken.median, 1),
                **ratio_columns(taken, ours),
                "tflops": round(flops / taken.median / 1e12, 4),
                "machine_tflops": round(ours.facts["machine_tflops"], 4),
                "moved_gb": round(moved, 4) or "",
                "gb_s": round(moved / taken.median, 2) or "",
                "machine_gb_s": round(ours.facts["machine_gb_s"], 2),
                "compile_s": round(taken.compile_s, 1) or "",
                "again_s": round(again.compile_s, 1) if first else "",
                "peak_gb": round(taken.peak_gb, 2),
                "again_gb": round(again.peak_gb, 2) if first else "",
                "gmacs": round(entry.batch * macs / 1e9, 3),
                **conditions,
            }
        )
    return rows


def ratio_columns(taken: Taken, ours: Taken, name: str = "times_ours") -> dict[str, float | str]:
    """`ratio_of` as columns of a row; "" for an interval that there is not."""
    ratio, *interval = (round(value, 3) for value in ratio_of(taken, ours))
    low, high = interval or ("", "")
    return {name: ratio, "low": low, "high": high}


def ratio_of(taken: Taken, ours: Taken) -> tuple[float, ...]:
    """The median over turns of a contestant's time by ours, and its interval if it has one."""
    ratios = [a / b for a, b in zip(taken.by_turn, ours.by_turn, strict=True)]
    if not ratios:
        return (taken.median / ours.median,)
    return statistics.median(ratios), *(interval_of_median(ratios) or ())


def csv_of(path: Path, machine: str) -> Path:
    """The file for rows of a machine: the path, or the one of this hardware in a folder.

    Raises: InputError if the folder cannot be made.
    """
    if path.suffix == ".csv" or (path.exists() and not path.is_dir()):
        return path
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--csv={path} cannot be made: {error.strerror}") from None
    return path / f"{slug(machine.partition(', jax ')[0])}.csv"


def slug(name: str) -> str:
    """A name of hardware as that of a file."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def ratio_cell(row: Row) -> str:
    """The ratio to ours, with its interval if the row has one."""
    interval = f" ({float(row['low']):.2f} to {float(row['high']):.2f})" if row.get("low") else ""
    return f"{float(row['times_ours']):.2f}{interval}"


def of_machine(row: Row, unit: str) -> str:
    """TFLOP/s ("tflops") or GB/s ("gb_s"), and its part of what the machine did; "" for none."""
    if not row.get(unit):
        return ""
    part = float(row[unit]) / float(row[f"machine_{unit}"])
    return f"{float(row[unit]):.3g} ({part:.0%})"


def races_of(rows: Sequence[Row]) -> list[tuple[tuple[str, ...], dict[str, Row]]]:
    """The races of a file, each with the values of RACE and its rows by contestant."""
    races: list[tuple[tuple[str, ...], dict[str, Row]]] = []
    for row in rows:  # a race measured again, after a change of the code, is another
        race = tuple(str(row[key] if key in row else USUAL[key]) for key in RACE)
        if not races or races[-1][0] != race or row["contestant"] in races[-1][1]:
            races.append((race, {}))
        races[-1][1][row["contestant"]] = row
    return races


def markdown_table(rows: Sequence[Row]) -> str:
    """Rows of `--csv` as a table with one line per race, PyTorch in the faster of its layouts.

    Columns that no row has are left out.
    """
    lines = [_line(race, entries) for race, entries in races_of(rows)]
    columns = [name for name in lines[0] if any(line[name] != "-" for line in lines)]
    table = [
        f"| {' | '.join(columns)} |",
        f"|---|{'---:|' * (len(columns) - 1)}",
        *(f"| {' | '.join(line[name] for name in columns)} |" for line in lines),
    ]
    machines = dict.fromkeys(f"{row['machine']}, commit {row['commit']}" for row in rows)
    note = (
        "Float32 but where it says so; medians of steps taken in turn; in brackets, with compiled "
    )
    note += "programs kept. "
    return "\n".join([*table, "", *(note + f"{name}." for name in machines)]) + "\n"


def _line(race: tuple[str, ...], entries: Mapping[str, Row]) -> dict[str, str]:
    network, what, dtype, batch, size, devices = race
    ours = entries["ours"]
    best = _eager(entries)
    words = [f"`{network}` {what}", batch, size]
    words += [dtype] if dtype != "float32" else []
    words += [f"{devices} devices"] if devices != "1" else []

    def ratio(row: Row | None) -> str:
        return ratio_cell(row) if row else "-"

    return {
        "network, batch, pixels": ", ".join(words),
        "s/step": f"{float(ours['median_s']):.3f}",
        "images/s": str(ours.get("images_per_s") or "-"),
        "fused / ours": ratio(entries.get("fused")),
        "plain / ours": ratio(entries.get("plain")),
        "without oneDNN / ours": ratio(entries.get("no-onednn")),
        "PyTorch / ours": ratio(best),
        "compiled": ratio(entries.get("torch-compile")),
        "with huge pages": ratio(entries.get("torch-huge")),
        "TFLOP/s (of a matrix product's)": of_machine(ours, "tflops") or "-",
        "GB/s (of a copy's)": of_machine(ours, "gb_s") or "-",
        **{
            name: f"{ours[cold]} ({ours[kept]})"
            for name, (cold, kept) in zip(("compile s", "GB"), COMPILED, strict=True)
        },
        "PyTorch GB": str(best["peak_gb"]) if best else "-",
    }


def _eager(entries: Mapping[str, Row]) -> Row | None:
    """The row of PyTorch in the faster of its layouts, as it comes."""
    torch = [entries[name] for name in ("torch", "torch-nchw") if name in entries]
    return min(torch, key=lambda row: float(row["median_s"]), default=None)


def _published() -> list[tuple[str, list[dict[str, str]]]]:
    """The published rows by hardware."""
    published = []
    for path in sorted(FOLDER.glob("*.csv")):
        rows = read(str(path))
        with columns_of(str(path)):
            published.append((rows[0]["machine"].partition(", jax ")[0], rows))
    return published


def headline() -> str:
    """The newest training speed of some networks on each hardware, as a short table."""
    lines = ["| hardware | training step | images/s | PyTorch / ours |", "|---|---|---:|---:|"]
    for hardware, rows in _published():
        newest = {race: entries for race, entries in races_of(rows) if race[0] in SHOWN}
        for (network, what, dtype, batch, *_), entries in newest.items():
            if what == "train":
                other = _eager(entries)
                ratio = ratio_cell(other) if other else "-"
                cells = hardware, f"`{network}`, {dtype}, batch {batch}"
                lines.append(
                    f"| {' | '.join(cells)} | {entries['ours']['images_per_s']} | {ratio} |"
                )
    return "\n".join(lines) + "\n"


def overview() -> str:
    """All published tables, each under the name of its hardware."""
    tables = (f"**{hardware}**\n\n{markdown_table(rows)}" for hardware, rows in _published())
    return "\n".join(tables)
