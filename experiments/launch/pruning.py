"""Runs that are ended on the way because earlier trials of a search were better there.

A run learns from pruning.json in its work directory which search it belongs to, so that every
launcher can train it. The rule looks at finished trials alone: whatever trains beside it, it is
ended at the same evaluation.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from experiments.grid import trials
from senet_jax.errors import Pruned
from senet_jax.system import files

FILE = "pruning.json"
PRUNED = "pruned at evaluation"  # how the reason begins


def mark(directory: Path, journal: Path) -> None:
    """Have a run ended where the median of the search's finished trials was better."""
    files.write_json(directory / FILE, {"journal": str(journal.absolute())})


def of(directory: Path) -> Callable[[int, Mapping[str, Any]], None] | None:
    """What `train_and_evaluate` calls after an evaluation; None for a run that is not pruned."""
    about = files.read_table(directory / FILE)
    if about is None:
        return None
    study = trials.load(Path(about["journal"]))
    errors = evaluations(directory)

    def after_evaluation(step: int, means: Mapping[str, Any]) -> None:
        errors[step] = means["top1_error"]
        until_now = [errors[known] for known in sorted(errors) if known <= step]
        if trials.would_prune(study, until_now):
            raise Pruned(
                f"{PRUNED} {len(until_now)}, step {step}: its lowest top-1 error by then, "
                f"{min(until_now):.2f} %, was above the median of the trials before"
            )

    return after_evaluation


def evaluations(directory: Path) -> dict[int, float]:
    """The top-1 errors in metrics.jsonl, by step; a line that is cut short is left out."""
    errors: dict[int, float] = {}
    path = directory / "metrics.jsonl"
    for line in path.read_text("utf-8").splitlines() if path.exists() else []:
        try:
            values = json.loads(line)
        except ValueError:
            continue
        if "eval/top1_error" in values:
            errors[values["step"]] = values["eval/top1_error"]
    return errors
