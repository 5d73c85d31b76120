"""Exact parameters and multiply-adds of a model, stage by stage, by abstract evaluation.

A multiply-add is counted as one, for convolutions and fully connected layers only: the paper's
convention for its "GFLOPs" to within the last printed digit.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from senet_jax.models import MODELS


@dataclasses.dataclass(frozen=True)
class Part:
    """One top-level scope of a model: its name, parameters, and multiply-adds for one image."""

    name: str
    params: int
    macs: int


@dataclasses.dataclass(frozen=True)
class Summary:
    """The parts of a model in the order of the computation."""

    parts: tuple[Part, ...]

    @property
    def params(self) -> int:
        return sum(part.params for part in self.parts)

    @property
    def macs(self) -> int:
        return sum(part.macs for part in self.parts)


def summarize(model: nn.Module, image_shape: Sequence[int]) -> Summary:
    """Count by abstract evaluation for one image [H, W, C]: nothing is computed or allocated.

    A layer's multiply-adds are the size of its `kernel` times the positions it is applied at, which
    holds for full, grouped and depthwise convolutions and for fully connected layers alike.
    """
    # Of the same parameters and maps, plain layers are traced in less than half the time.
    model = model.clone(implementation="xla")
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
            model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
        )
    params = {
        scope: sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))
        for scope, tree in variables["params"].items()
    }
    # `macs` has met the scopes in the order of the computation; `params` is in alphabetical order.
    names = [*macs, *sorted(params.keys() - macs.keys())]
    return Summary(tuple(Part(name, params[name], macs.get(name, 0)) for name in names))


def image_shape_of(name: str) -> tuple[int, int, int]:
    """Shape of the images a network is made for: 32 pixels for CIFAR, 299 or 224 for ImageNet."""
    constructor = MODELS[name]
    network: Any = constructor.func
    size = 32 if constructor.keywords.get("stem") == "cifar" else network.image_size
    return (size, size, 3)
