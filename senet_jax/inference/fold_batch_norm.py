"""Batch normalisation folded into the convolutions before it, for networks that no longer train.

By its running statistics batch norm is y * factor + shift with two numbers per channel. The factor
goes into the convolution's kernel, and adding the shift is all that is left. That needs a
convolution whose output goes to one batch norm and nowhere else: the normalisation before the
convolutions of a pre-activation network stays as it is.
"""

import collections
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.ad_checkpoint import checkpoint_name

from senet_jax.layers.conv import Conv
from senet_jax.layers.network import Network
from senet_jax.layers.norm import BatchNorm
from senet_jax.layers.normalize import beside

Path = tuple[str, ...]
MAP, NORM = "output of ", "input of "  # before a path, in the names of what is traced


def folded(
    model: Network, variables: Mapping[str, Any], image_shape: tuple[int, int, int]
) -> Callable[[jax.Array], jax.Array]:
    """The network as a function from normalised images [B, H, W, C] to logits, batch norm folded.

    It is equal to `model.apply` up to rounding.
    """
    arrays = {path: np.asarray(value) for path, value in flatten_dict(dict(variables)).items()}
    shifts = dict[Path, np.ndarray]()
    for norm, (conv, epsilon) in pairs(model, variables, image_shape).items():
        scale, bias = (arrays["params", *norm, name] for name in ("scale", "bias"))
        mean, var = (arrays["batch_stats", *norm, name] for name in ("mean", "var"))
        # In 64 bits: what is rounded once here would otherwise be rounded at every step.
        factor = scale.astype(np.float64) / np.sqrt(var.astype(np.float64) + epsilon)
        for name in ("kernel", "bias"):
            if (path := ("params", *conv, name)) in arrays:
                arrays[path] = (arrays[path] * factor).astype(np.float32)
        shifts[norm] = (bias - mean * factor).astype(np.float32)
    variables = unflatten_dict(arrays)

    def shift_alone(call: Any, arguments: Any, keywords: Any, context: Any) -> Any:
        module = context.module
        if isinstance(module, BatchNorm) and module.path in shifts:
            x = arguments[0]
            dtype = module.dtype or x.dtype
            return (x.astype(np.float32) + beside(shifts[module.path], x.ndim)).astype(dtype)
        return call(*arguments, **keywords)

    def apply(images: jax.Array) -> Any:
        with nn.intercept_methods(shift_alone):
            return model.apply(variables, images, train=False)

    return apply


def pairs(
    model: Network, variables: Mapping[str, Any], image_shape: tuple[int, int, int]
) -> dict[Path, tuple[Path, float]]:
    """The batch norms that can be folded, each with its convolution and its epsilon.

    Outputs of convolutions and inputs of batch norms are given names while the network is traced.
    A pair is an output with a name that a single operation uses, which names an input.
    """
    epsilons = dict[Path, float]()

    def name_ends(call: Any, arguments: Any, keywords: Any, context: Any) -> Any:
        module = context.module
        path = "/".join(module.path)
        if isinstance(module, Conv):
            return checkpoint_name(call(*arguments, **keywords), MAP + path)
        if isinstance(module, BatchNorm):
            epsilons[module.path] = module.epsilon
            arguments = (checkpoint_name(arguments[0], NORM + path), *arguments[1:])
        return call(*arguments, **keywords)

    def apply(images: jax.Array) -> Any:
        with nn.intercept_methods(name_ends):
            return model.apply(variables, images, train=False)

    images = jax.ShapeDtypeStruct((1, *image_shape), np.float32)
    jaxpr = jax.make_jaxpr(apply)(images).jaxpr
    uses = collections.Counter(
        atom
        for atoms in (jaxpr.outvars, *(equation.invars for equation in jaxpr.eqns))
        for atom in atoms
        if not hasattr(atom, "val")  # literals, which cannot be counted
    )
    named = [equation for equation in jaxpr.eqns if equation.primitive.name == "name"]
    calls = collections.Counter(equation.params["name"] for equation in named)
    maps, found = dict[Any, str](), dict[Path, tuple[Path, float]]()
    for equation in named:
        name = equation.params["name"]
        if calls[name] > 1:  # a layer that is used twice would be folded for one use only
            continue
        if name.startswith(MAP) and uses[equation.outvars[0]] == 1:
            maps[equation.outvars[0]] = name.removeprefix(MAP)
        elif name.startswith(NORM) and equation.invars[0] in maps:
            norm = tuple(name.removeprefix(NORM).split("/"))
            conv = tuple(maps[equation.invars[0]].split("/"))
            found[norm] = conv, epsilons[norm]
    return found
