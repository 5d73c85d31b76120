"""The errors of a run and of those beside it that differ from it in nothing but the seed."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from senet_jax.config import flatten
from senet_jax.data.split import DECIMALS, OF_SPLITS
from senet_jax.errors import InputError
from senet_jax.runs.stored import result_of
from senet_jax.runs.workdir import load_config
from senet_jax.system import files
from senet_jax.weights import sources

# What a result has of the images, and of the weights to start or to learn from, that the keys of
# its configuration name: they may have changed between two runs of one configuration.
NAMED = (*OF_SPLITS, "eval/examples", "mean", "pretrained_sha256", "teacher_sha256")


def errors(directory: Path, metric: str) -> tuple[float, ...]:
    """Errors of a run and of the finished runs beside it, in the order of their seeds.

    A seed counts once: a copy of a run, or one that was trained again elsewhere, is no other seed.
    Neither is one with other images or other weights by the same names.
    """
    (_, wanted), found = _seed_and_rest(directory), dict[int, float]()
    own = result_of(directory)
    beside = files.children(directory.absolute().parent, onerror=_warn)
    others = [path for folder in beside for path in files.children(folder, "result.json", _warn)]
    for place in (directory.absolute(), *(path.parent for path in others)):
        result = result_of(place)
        value = result.get(metric)
        if value is not None and sources.is_run(place) and _are_alike(own, result):
            seed, rest = _seed_and_rest(place)
            if rest == wanted:
                found.setdefault(seed, value)
    return tuple(found[seed] for seed in sorted(found))


def _warn(error: InputError) -> None:
    print(f"warning: {error}; a run there is left out of the mean over seeds", file=sys.stderr)


def _are_alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two results have the same images and weights, as far as both say it."""
    return all(
        _rounded(one[key]) == _rounded(other[key])
        for key in NAMED
        if one.get(key) is not None and other.get(key) is not None
    )


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return round(value, DECIMALS) if isinstance(value, float) else value


def _seed_and_rest(directory: Path) -> tuple[int, dict[str, Any]]:
    """The seed of a run, and the other values of its configuration."""
    config: dict[str, Any] = flatten(load_config(directory).to_dict())
    return config.pop("seed"), config
