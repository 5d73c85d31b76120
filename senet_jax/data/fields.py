"""What the fields of `data` mean that are right or wrong on whatever dataset."""

import dataclasses
from typing import Any

from senet_jax.config import build
from senet_jax.data.crops import CropSpec
from senet_jax.data.folds import Fold
from senet_jax.data.statistics import Statistics
from senet_jax.errors import InputError, named

# The others, apart from those of augmentation: only a dataset tells them right from wrong.
ON_SOURCES = ("train_split", "eval_split", "image", "label", "classes")


def read_fields(
    name: str,
    *,
    fold: tuple[int, ...] = (),
    image_size: int = 0,
    mean: tuple[float, ...] = (),
    std: tuple[float, ...] = (),
    eval_size: int = 0,
    repeats: int = 1,
    **crops: Any,
) -> tuple[CropSpec | None, CropSpec | None, Statistics, Fold | None]:
    """What the fields of `load_dataset` mean that need no data.

    Returns: crops of streamed images in training and in evaluation, None for those in memory;
      given mean and deviation; the fold, if there is one.

    Raises: InputError for the first that cannot be.
    """
    crop_spec = crop_spec_of(image_size, crops)
    eval_spec = _eval_spec(crop_spec, eval_size)
    _check_repeats(repeats, name)
    statistics = build(Statistics, "data", {"mean": mean, "std": std})
    return crop_spec, eval_spec, statistics, Fold.of(fold)


def crop_spec_of(image_size: int, crops: dict[str, Any]) -> CropSpec | None:
    """The crops of streamed images; None for images that are kept in memory.

    What streaming alone looks at is checked all the same: a slip shows before it matters.
    """
    spec = build(CropSpec, "data", {"image_size": image_size, **crops}) if crops else None
    return spec if image_size else None


def _eval_spec(crop_spec: CropSpec | None, eval_size: int) -> CropSpec | None:
    """The crops of evaluation. Raises: InputError if `eval_size` is no size."""
    if not eval_size or crop_spec is None:
        return crop_spec
    with named("data.eval_size"):
        fields = dataclasses.asdict(crop_spec) | {"image_size": eval_size}
        return build(CropSpec, "data", fields)


def _check_repeats(repeats: int, name: str) -> None:
    """Raises: InputError for a number of views that is none, or of noise, which is all alike."""
    if isinstance(repeats, bool) or not isinstance(repeats, int) or repeats < 1:
        raise InputError(f"data.repeats must be at least 1 and whole, not {repeats!r}")
    if repeats > 1 and name == "fake":
        raise InputError(f"data.repeats has no effect on {name!r}: leave it at 1")
