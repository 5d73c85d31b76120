"""Exact numbers of parameters and multiply-adds of a model, stage by stage.

A multiply-add counts as one, and only convolutions and fully connected layers count. This gives the
paper's "GFLOPs" to within the last printed digit.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from senet_jax.errors import InputError, did_you_mean
from senet_jax.models import MODELS
from senet_jax.models.shapes import plain


@dataclasses.dataclass(frozen=True)
class Part:
    """One top-level scope of a model: its name, its parameters, its multiply-adds per image."""

    name: str
    params: int
    macs: int


@dataclasses.dataclass(frozen=True)
class Summary:
    """Parts of a model in the order of the computation, and their sums."""

    parts: tuple[Part, ...]

    @property
    def params(self) -> int:
        return sum(part.params for part in self.parts)

    @property
    def macs(self) -> int:
        return sum(part.macs for part in self.parts)


def summarize(model: nn.Module, image_shape: Sequence[int]) -> Summary:
    """Count parameters and multiply-adds for one image [H, W, C] by abstract evaluation.

    Nothing is computed or allocated. The multiply-adds of a layer are the size of its `kernel`
    times the number of positions at which it is applied. This holds for full, grouped and depthwise
    convolutions and for fully connected layers alike.

    Raises: InputError for an image of which nothing would be left on the way.
    """
    height, width, _ = image_shape
    if min(height, width) < (least := getattr(model, "least_image_size", 1)):
        raise InputError(
            f"this network needs {least} pixels in height and width, not {height} x {width}"
        )
    macs: dict[str, int] = {}

    def count(next_fun: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        output = next_fun(*args, **kwargs)
        module = context.module
        if context.method_name == "__call__" and "kernel" in module.variables.get("params", {}):
            kernel = module.variables["params"]["kernel"]
            positions = math.prod(output.shape[1:-1])
            scope = module.path[0]
            macs[scope] = macs.get(scope, 0) + math.prod(kernel.shape) * positions
        return output

    with nn.intercept_methods(count):
        variables = jax.eval_shape(
            plain(model).init,
            jax.random.key(0),
            jax.ShapeDtypeStruct((1, *image_shape), jnp.float32),
        )
    params = {
        scope: sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
        for scope, tree in variables["params"].items()
    }
    # `macs` has met the scopes in the order of the computation; `params` is in alphabetical order.
    names = [*macs, *sorted(params.keys() - macs.keys())]
    return Summary(tuple(Part(name, params[name], macs.get(name, 0)) for name in names))


def image_shape_of(name: str) -> tuple[int, int, int]:
    """Shape [H, W, C] of the images that a network is made for.

    Sides are 32 pixels for CIFAR and 299 or 224 for ImageNet.

    Raises: InputError for a name that is not among `list_models()`.
    """
    if name not in MODELS:
        raise InputError(f"unknown model {name!r}{did_you_mean(name, MODELS)}")
    constructor = MODELS[name]
    network: Any = constructor.func
    size = 32 if constructor.keywords.get("stem") == "cifar" else network.image_size
    return (size, size, 3)
