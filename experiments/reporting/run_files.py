"""The files of one finished run, read for tables and figures."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from senet_jax.config import flatten, right_kind
from senet_jax.errors import InputError, first_line
from senet_jax.system import files

# The content of result.json, with the flat "config", and the "curve": one dict per evaluation with
# the keys of CURVE.
Result = dict[str, Any]

CURVE = ("step", "epoch", "eval/top1_error", "eval/loss", "train/loss")
# The keys of a result that tables need; others are shown if a result has them.
NEEDED = (
    *("seed", "model", "dataset", "params", "eval/top1_error", "eval/examples"),
    *("wall_time_seconds", "device_kind", "devices", "host_cpus", "jax_version", "git_commit"),
)
# What values of a result and of a configuration are, of those that tables calculate with.
KINDS = {
    **dict.fromkeys(("seed", "params", "eval/examples", "step", "planned_steps"), int),
    **dict.fromkeys(("eval/top1_error", "wall_time_seconds", "macs"), float),
    **dict.fromkeys(("model", "dataset", "finished"), str),
}
CONFIG_KINDS = {
    **dict.fromkeys(("seed", "model.width", "model.se.ratio"), int),
    **dict.fromkeys(("model.name", "data.name", "data.train_split", "data.eval_split"), str),
    "train.epochs": float,
    "data.fold": tuple[int, ...],
    "model.se.stages": tuple[int, ...],
}


def made_up(config: Any) -> Result:
    """What NEEDED asks of a finished run of a configuration, for runs that were not trained."""
    return {
        "model": config.model.name,
        "dataset": config.data.name,
        "seed": config.seed,
        "params": 1000,
        "eval/top1_error": 50.0,
        "eval/examples": 360,
        "wall_time_seconds": 10.0,
        "device_kind": "cpu",
        "devices": 1,
        "host_cpus": 2,
        "jax_version": "0",
        "git_commit": "abc",
    }


def read_run(directory: Path, damaged: list[str]) -> Result | None:
    """The run in a work directory; None if it has no result.

    Where its metrics alone are damaged it is without a curve, and a sentence is added to `damaged`.

    Raises: InputError if another file of it is.
    """
    config = files.read_table(directory / "config.json")
    result = files.read_table(path := directory / "result.json")
    if result is None:
        return None
    if config is None:
        raise InputError(f"{directory} has a result.json but no config.json")
    if lacking := [key for key in NEEDED if key not in result]:
        raise InputError(
            f"{path} lacks {', '.join(lacking)}; run it again in a different --workdir"
        )
    flat = flatten(config)
    _check_kinds(path, result, KINDS)
    _check_kinds(directory / "config.json", flat, CONFIG_KINDS)
    for key, ours in {"seed": "seed", "model": "model.name", "dataset": "data.name"}.items():
        if result[key] != flat.get(ours):
            raise InputError(f"{path} is not of the run in its config.json: its {key} differs")
    earlier = result.get("earlier_environments", [])
    if not (isinstance(earlier, list) and all(isinstance(each, dict) for each in earlier)):
        raise InputError(f"{path} is damaged: earlier_environments must be a list of tables")
    curve = []
    try:
        epochs = flat.get("train.epochs", 0)
        if "planned_steps" in result:  # it stopped early
            epochs *= result["step"] / result["planned_steps"]
        curve = _curve(directory / "metrics.jsonl", epochs, result)
    except InputError as error:
        damaged.append(str(error))
    return result | {"config": flat, "curve": curve}


def _check_kinds(path: Path, values: Mapping[str, Any], kinds: Mapping[str, Any]) -> None:
    """Raises: InputError for a value that is not what it should be; one that is missing may be."""
    for key, kind in kinds.items():
        if key in values and (right := right_kind(kind, values[key])):
            raise InputError(f"{path} is damaged: {key} must be {right}, not {values[key]!r}")


def _curve(path: Path, epochs: float, result: Result) -> list[dict[str, float]]:
    """The evaluations of a finished run, each with the training loss of the steps before it."""
    steps: dict[int, dict[str, float]] = {}
    number = 0
    try:
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
            values = json.loads(line)
            known = [values[key] for key in CURVE if key in values]
            if not all(isinstance(value, int | float) for value in known):
                raise ValueError(f"line {number} has something else than numbers")
            if not isinstance(values["step"], int) or math.isnan(values.get("eval/top1_error", 0)):
                raise ValueError(f"line {number} has no step, or an error that is no number")
            steps.setdefault(values["step"], {}).update(values)
    except FileNotFoundError:  # the file may have been deleted; the result stands without it
        return []
    except KeyError as error:
        raise InputError(f"{path} cannot be read: line {number} has no {error}") from error
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {first_line(error)}") from error
    evaluations = [v for v in steps.values() if {"eval/loss", "eval/top1_error"} <= v.keys()]
    if not evaluations or min(values["step"] for values in evaluations) < 1:
        raise InputError(f"{path} is damaged: it lacks the evaluations of a finished run")
    _check_complete(path, [int(values["step"]) for values in evaluations], result)
    for values in evaluations:  # the last evaluation is at the end of the run
        values["epoch"] = epochs * values["step"] / evaluations[-1]["step"]
    return [{key: values[key] for key in CURVE if key in values} for values in evaluations]


def _check_complete(path: Path, steps: list[int], result: Result) -> None:
    """Check that evaluations after these steps are all of a run: at equal distances, and its last.

    Raises: InputError if not: the file was cut short, or lost while the run was not finished.
    """
    last = result.get("step", steps[-1])
    every = [*range(steps[0], last, steps[0]), last]
    if steps != every or (result.get("best_step") or last) not in steps:
        raise InputError(
            f"{path} lacks evaluations of its run, which ended after step {last}: it has those "
            f"after step {', '.join(map(str, steps))}; the run is left out of the curves"
        )
