"""Results written as CSV and read back: all that a study's table and figures need of its runs."""

import ast
import csv
import io
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from experiments.reporting.collect import Results, Unfinished
from experiments.reporting.run_files import CURVE, NEEDED, Result
from senet_jax.errors import InputError
from senet_jax.system import files

RUNS, CURVES, RIGHT = "runs.csv", "curves.csv", "right.csv"
EXAMPLES = "eval/right"  # of a result: which examples are right, see senet_jax/evaluation/loop.py
CONFIG = "config."  # the prefix of a configuration's keys
# Of a result, what has columns or a file of its own, and what is too long for a cell.
NOT_CELLS = ("config", "curve", "class_names", "class_weights", EXAMPLES, "eval_ema/right")


def runs_csv(results: Results, unfinished: Unfinished) -> bytes:
    """The runs, one line each: row, result, configuration; if unfinished, row, seed, reason."""
    done = [
        {
            "row": label,
            **{k: _encode(v) for k, v in run.items() if k not in NOT_CELLS},
            **{f"{CONFIG}{k}": _encode(v) for k, v in run["config"].items()},
        }
        for label, runs in results.items()
        for run in runs
    ]
    rest = [
        {"row": label, "seed": seed, "failed": _encode(why)}
        for label, seeds in unfinished.items()
        for seed, why in seeds.items()
    ]
    return to_csv([*done, *rest])


def curves_csv(results: Results) -> bytes:
    """The curves, one line per evaluation of a run."""
    return to_csv(
        [
            {"row": label, "seed": run["seed"], **point}
            for label, runs in results.items()
            for run in runs
            for point in run["curve"]
        ]
    )


def right_csv(results: Results) -> bytes:
    """Which examples each run has right, one line per run that says it."""
    return to_csv(
        [
            {"row": label, "seed": run["seed"], EXAMPLES: run[EXAMPLES]}
            for label, runs in results.items()
            for run in runs
            if EXAMPLES in run
        ]
    )


def to_csv(rows: Sequence[dict[str, Any]]) -> bytes:
    """Write rows as CSV whose header has the keys of all rows; a cell that a row lacks is empty."""
    text = io.StringIO()
    names = dict.fromkeys(name for row in rows for name in row)
    writer = csv.DictWriter(text, fieldnames=list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return files.encoded(text.getvalue())


def read_results(directory: Path) -> tuple[Results, Unfinished]:
    """Read back the results from which the directory's RUNS, CURVES and RIGHT were written.

    Raises: InputError if they are not files of runs.
    """
    path = directory / RUNS
    results: Results = {}
    unfinished: dict[str, dict[int, str]] = {}
    for line in _lines(path):
        label, values = line.pop("row"), {key: _decode(text) for key, text in line.items() if text}
        if "failed" in values:
            unfinished.setdefault(label, {})[values["seed"]] = values["failed"]
            continue
        if lacking := [key for key in NEEDED if key not in values]:
            raise InputError(f"{path} lacks {', '.join(lacking)} in row {label}")
        result = {key: value for key, value in values.items() if not key.startswith(CONFIG)}
        config = {k.removeprefix(CONFIG): v for k, v in values.items() if k.startswith(CONFIG)}
        results.setdefault(label, []).append(result | {"config": config, "curve": []})
    for line, result in _with_results(directory / CURVES, results):
        result["curve"].append({key: _decode(line[key]) for key in CURVE if line.get(key)})
    for line, result in _with_results(directory / RIGHT, results):
        result[EXAMPLES] = line[EXAMPLES]
    return results, unfinished


def _with_results(path: Path, results: Results) -> Iterator[tuple[dict[str, str], Result]]:
    """The lines of a file about runs, which need not be there, each with the run's result."""
    for line in _lines(path) if path.exists() else []:
        seed = _decode(line["seed"])
        yield from ((line, run) for run in results.get(line["row"], []) if run["seed"] == seed)


def _lines(path: Path) -> list[dict[str, str]]:
    lines = list(csv.DictReader(io.StringIO(path.read_text("utf-8"), newline="")))
    if not lines or not {"row", "seed"} <= lines[0].keys():
        raise InputError(f"{path} is not a file of runs: it has no columns row and seed")
    return lines


def _encode(value: Any) -> str:
    """Write a value as a cell that _decode reads back; text that looks like a value is quoted."""
    return value if isinstance(value, str) and value and _decode(value) == value else repr(value)


def _decode(text: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is nearly Python
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
