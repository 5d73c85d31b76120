"""What a run has left: configuration, result, and weights that are checked against it.

A run has up to three sets of weights, and whoever takes a network from its directory says the same
word for them: `final`, the last checkpoint's, which all of result.json is about and which are taken
where nothing else is asked for; `ema`, their moving averages, where train.ema_decay is above 0; and
`best`, those of the lowest evaluation top-1 error on the way, where train.keep_best kept them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from senet_jax.errors import InputError, did_you_mean
from senet_jax.runs import checkpoints, provenance, workdir
from senet_jax.runs.workdir import BEST, EMA, FINAL, WEIGHTS
from senet_jax.system import files

if TYPE_CHECKING:
    from ml_collections import ConfigDict

EARLIER = ""  # what configurations that lack model.weights meant: averages, where there are any


class Unfinished(InputError):
    """A run that has no result yet."""


@dataclasses.dataclass(frozen=True)
class StoredRun:
    """A run with one of its sets of weights, read without its data.

    Attributes:
      directory: its work directory.
      config: its configuration, nested.
      result: the content of its result.json, or {} if there is none yet.
      variables: `params` and `batch_stats`, as `model.apply` takes them.
      step: the step at which it had them.
      dataset: what its checkpoints record of its dataset; {} in those of earlier versions.
    """

    directory: Path
    config: dict[str, Any]
    result: dict[str, Any]
    variables: dict[str, Any]
    step: int
    dataset: dict[str, Any]

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """[H, W, C] of its images; None where its result does not say it, as in older versions."""
        return tuple(self.result.get("image_shape", ())) or None


def load_weights(directory: Path, weights: str = FINAL, *, unfinished: bool = False) -> StoredRun:
    """Read the run in a work directory, without its data.

    Args:
      weights: one of WEIGHTS.
      unfinished: take a run without a result, at its latest checkpoint.

    Raises: InputError if there is no such run, it lacks such weights or they cannot be read, or its
      final ones are not those of its result; Unfinished if it has no result.
    """
    config, result = read_records(directory, unfinished=unfinished)
    sections: dict[str, Any] = config.to_dict()
    if weights == EARLIER:
        weights = EMA if _has_averages(config) else FINAL
    check_choice(directory, weights, config, is_finished=bool(result))

    def read(step: int | None) -> checkpoints.Restored:
        parts = ("params", "batch_stats", "ema")
        return checkpoints.read(directory / workdir.CHECKPOINTS, parts, step)

    def final(state: dict[str, Any]) -> dict[str, Any]:
        return {"params": state["params"], "batch_stats": state.get("batch_stats", {})}

    end = read(None)
    check_weights(directory, final(end.state), result)
    chosen = choose(directory, weights, end, read)
    variables = chosen.state["ema"] if weights == EMA else final(chosen.state)
    dataset = end.notes.get("dataset", {})
    return StoredRun(directory, sections, result, variables, chosen.step, dataset)


def read_records(directory: Path, *, unfinished: bool = False) -> tuple[ConfigDict, dict[str, Any]]:
    """Read configuration and result of a run that has a checkpoint.

    Args:
      unfinished: whether a run without a result will do; {} then stands for it.

    Raises: InputError if there is no such run or it has no checkpoint; Unfinished if it has no
      result.
    """
    config = workdir.load_config(directory)
    result = files.read_table(directory / "result.json")
    if result is None and not unfinished:
        raise Unfinished(f"{directory} has no result.json: its run is not finished")
    steps = checkpoints.complete_steps(directory / workdir.CHECKPOINTS)
    if not steps and result is None:
        raise InputError(f"{directory} has no checkpoint yet")
    if not steps:
        raise InputError(
            f"{directory} has a result but not the weights behind it, as runs of versions that "
            "kept none do; train again into another --workdir"
        )
    return config, result or {}


def result_of(directory: Path) -> dict[str, Any]:
    """The result of a run; {} where there is none. Raises: InputError if it is damaged."""
    return files.read_table(directory / "result.json") or {}


def check_weights(directory: Path, variables: Any, result: dict[str, Any]) -> None:
    """Raises: InputError if the weights are not those of the result, unless that is {}."""
    if result and provenance.fingerprint(variables) != result.get("params_sha256"):
        raise InputError(
            f"the weights in {directory / workdir.CHECKPOINTS} are not those of "
            f"{directory / 'result.json'}: their params_sha256 differ"
        )


def check_choice(directory: Path, weights: str, config: ConfigDict, *, is_finished: bool) -> None:
    """Raises: InputError for a word that is none of WEIGHTS, or averages that the run lacks.

    Even averages are there at the end alone: before it they are of fewer weights, or of none, and
    without batch statistics of their own.
    """
    if weights not in WEIGHTS:
        raise InputError(
            f"weights must be one of {', '.join(WEIGHTS)}, not {weights!r}"
            f"{did_you_mean(weights, WEIGHTS)}"
        )
    if weights == EMA and not _has_averages(config):
        raise InputError(
            f"{directory} has no moving averages: its train.ema_decay is 0, and so is "
            "train.swa_epochs"
        )
    swa_epochs = config.to_dict().get("train", {}).get("swa_epochs")
    if weights == EMA and swa_epochs and not is_finished:
        raise InputError(
            f"{directory} has no averages yet: those of train.swa_epochs={swa_epochs} are there "
            "when its run is finished"
        )


def _has_averages(config: ConfigDict) -> bool:
    train = config.to_dict().get("train", {})
    return bool(train.get("ema_decay") or train.get("swa_epochs"))


def choose(
    directory: Path,
    weights: str,
    end: checkpoints.Restored,
    restore: Callable[[int], checkpoints.Restored],
) -> checkpoints.Restored:
    """The checkpoint that has such weights.

    Args:
      end: the latest checkpoint.
      restore: reads that of another step.

    Raises: InputError if the run has not kept them.
    """
    if weights != BEST:
        return end
    if not end.notes.get("best"):
        raise InputError(f"{directory} has not been evaluated yet, so no weights are the best")
    error, step = end.notes["best"]
    if step == end.step:
        return end
    if step not in checkpoints.complete_steps(directory / workdir.CHECKPOINTS):
        raise InputError(
            f"{directory} has no weights of its lowest top-1 error, {error:.2f} % at step {step}: "
            "they are kept with train.keep_best=True"
        )
    return restore(step)
