"""Which sizes of images a network takes: some parameters are as large as the maps that they see."""

from collections.abc import Sequence
from typing import Any

import flax.errors
import flax.linen as nn
import jax
import numpy as np


def side(image_shape: Sequence[int]) -> int | list[int]:
    """What to call the size of images [H, W, C]: their side, or height and width if not square."""
    height, width, _ = image_shape
    return height if height == width else [height, width]


def takes(model: nn.Module, variables: Any, image_shape: tuple[int, ...]) -> bool:
    """Whether a network with these variables, arrays or their shapes, takes images [H, W, C]."""
    image = jax.ShapeDtypeStruct((1, *image_shape), np.float32)
    try:
        jax.eval_shape(model.apply, variables, image)
    except (flax.errors.FlaxError, TypeError, ValueError, ZeroDivisionError):
        return False
    return True
