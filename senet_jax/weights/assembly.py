"""From arrays by their paths to what `model.apply` takes, a new classifier included."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict

from senet_jax.errors import InputError
from senet_jax.layers.initial import he_normal
from senet_jax.layers.network import Network
from senet_jax.weights.torch_names import HEAD, Shapes, shapes_of

Variables = dict[str, Any]


def with_head(model: Network, asked: int | None, classes: int, origin: str) -> Network:
    """The module with as many classes as it will have.

    Args:
      asked: number of classes that the caller wants, if that was said.
      classes: number of classes of the weights; 0 if they have no classifier.

    Raises: InputError if neither is known and the module has a classifier.
    """
    if not (asked or classes or model.features):
        raise InputError(f"{origin} has no classifier; give num_classes for a new one")
    return model.clone(num_classes=asked or classes or 1)


def variables_of(
    model: Network,
    arrays: Mapping[tuple[str, ...], np.ndarray],
    shapes: Shapes,
    origin: str,
    image_shape: tuple[int, int, int] | None = None,
) -> Variables:
    """What `model.apply` takes: arrays of JAX, with a new classifier where the weights lack one.

    Args:
      shapes: shapes of all variables of the model with its classifier, for images [H, W, C].
      origin: what errors call the arrays.

    Raises: InputError for arrays of another type, or with which no answer could be finite.
    """
    for path, value in arrays.items():
        if value.dtype != np.float32:
            raise InputError(f"{'/'.join(path)} must be float32 or shorter, not {value.dtype}")
        fault = ""
        if not np.isfinite(value).all():
            fault = "numbers that are not finite"
        elif path[-1] == "var" and (value <= -model.layers.epsilon).any():
            fault = "a variance below 0"
        if fault:
            raise InputError(
                f"{origin} has {fault} in {'/'.join(path[1:])}, as if its training had diverged or "
                "the file were damaged; take other weights"
            )
    variables: dict[tuple[str, ...], Any] = {p: jnp.asarray(value) for p, value in arrays.items()}
    for path in shapes.keys() - variables.keys():
        initialise = he_normal if path == HEAD else jax.nn.initializers.zeros
        variables[path] = initialise(jax.random.key(0), shapes[path])
    wanted = shapes_of(model, image_shape) if model.features else shapes
    return unflatten_dict({path: variables[path] for path in wanted})
