"""Shapes of what a network has and takes, by tracing it: nothing is computed.

The runs of a study share a network, and to trace it takes a moment; so what was found is kept.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import flax.errors
import jax
import numpy as np

KEPT = 64  # networks, the last of them


def with_plain_layers(model: Any) -> Any:
    """The network with plain layers: of the same variables and maps, traced in half the time."""
    return model.clone(implementation="xla") if hasattr(model, "implementation") else model


def variable_shapes(model: Any, image_shape: Sequence[int]) -> Mapping[str, Any]:
    """The shapes of a network's variables for images [H, W, C]: a tree of ShapeDtypeStruct."""
    return _variable_shapes(model, tuple(image_shape))


def traced_variables(model: Any, image_shape: Sequence[int]) -> Mapping[str, Any]:
    """The same, traced at every call, for whoever looks on with `nn.intercept_methods`."""
    image = jax.ShapeDtypeStruct((1, *image_shape), np.float32)
    key = jax.eval_shape(jax.random.key, 0)  # a real one would be compiled
    return jax.eval_shape(with_plain_layers(model).init, key, image)


_variable_shapes = functools.lru_cache(maxsize=KEPT)(traced_variables)


def side(image_shape: Sequence[int]) -> int | list[int]:
    """What to call the size of images [H, W, C]: their side, or height and width if not square."""
    height, width, _ = image_shape
    return height if height == width else [height, width]


def takes(model: Any, variables: Any, image_shape: tuple[int, ...]) -> bool:
    """Whether a network with these variables, arrays or their shapes, takes images [H, W, C].

    Some parameters are as large as the maps that they see.
    """
    leaves, tree = jax.tree.flatten(variables)
    shapes = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves)
    return _takes(model, tree, shapes, (1, *image_shape))


@functools.lru_cache(maxsize=KEPT)
def _takes(
    model: Any, tree: Any, shapes: Sequence[jax.ShapeDtypeStruct], images: tuple[int, ...]
) -> bool:
    variables = jax.tree.unflatten(tree, shapes)
    try:
        jax.eval_shape(
            with_plain_layers(model).apply, variables, jax.ShapeDtypeStruct(images, np.float32)
        )
    except (flax.errors.FlaxError, TypeError, ValueError, ZeroDivisionError):
        return False
    return True
