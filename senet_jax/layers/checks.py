"""What every network checks: its fields when it is made, and its images when it is called."""

import dataclasses
import typing
from typing import Any

import jax
import jax.numpy as jnp

from senet_jax.errors import InputError
from senet_jax.layers.squeeze_excite import is_count


def check_batch(images: jax.Array, train: bool, least: int) -> None:
    """Check the input of a network that needs `least` pixels in height and width.

    Raises: InputError for what cannot be normalised images [B, H, W, C], for images of which
      nothing would be left on the way, or for none in training.
    """
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise InputError(
            f"images must be normalised, (image / 255 - mean) / std, not of {images.dtype}"
        )
    shape = images.shape
    if len(shape) != 4:
        raise InputError(f"images must be [B, H, W, C], not of shape {list(shape)}")
    batch, height, width, channels = shape
    if height <= 4 < min(width, channels):
        raise InputError(
            f"images must be [B, H, W, C], and those of shape {list(shape)} look like PyTorch's "
            f"[B, C, H, W]: give {[batch, width, channels, height]}"
        )
    if min(height, width) < least:
        raise InputError(
            f"this network needs {least} pixels in height and width, not {height} x {width}"
        )
    if train and not batch:
        raise InputError("a batch without images has no statistics to train with")


def check_counts(module: Any) -> None:
    """Raises: ValueError for a field of whole numbers with another value, or with one below 1."""
    for field in dataclasses.fields(module):
        value = getattr(module, field.name)
        several = typing.get_origin(field.type) is tuple and typing.get_args(field.type)[0] is int
        if several and not (value and all(map(is_count, value))):
            raise ValueError(
                f"{field.name} must be whole numbers of at least 1, not {tuple(value)}"
            )
        if field.type == (int | None) and value is None:
            continue
        if field.type in (int, int | None) and not is_count(value):
            raise ValueError(f"{field.name} must be at least 1, not {value!r}")
