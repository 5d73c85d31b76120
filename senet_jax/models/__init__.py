"""The networks by name. Each family is a file, whose `MODELS` maps names to constructors."""

import contextlib
import dataclasses
import fnmatch
import functools
from collections.abc import Iterable, Mapping
from typing import Any

import jax.numpy as jnp

from senet_jax.config import build
from senet_jax.errors import InputError, did_you_mean
from senet_jax.layers.network import Network
from senet_jax.layers.slot import SEConfig
from senet_jax.models import (
    bninception,
    inception_resnet,
    mobilenet,
    preresnet,
    resnet,
    resnext,
    senet,
    shakeshake,
    shufflenet,
    vgg,
    wrn,
)

FAMILIES = (
    resnet,
    resnext,
    senet,
    vgg,
    bninception,
    inception_resnet,
    mobilenet,
    shufflenet,
    preresnet,
    wrn,
    shakeshake,
)
DTYPES = ("float32", "bfloat16")
MODELS: dict[str, functools.partial[Any]] = {
    name: constructor for family in FAMILIES for name, constructor in family.MODELS.items()
}


def list_models(pattern: str = "*") -> list[str]:
    """Names that match a shell pattern, in order: `list_models("se*")`."""
    return matching(pattern, MODELS)


def matching(pattern: str, names: Iterable[str]) -> list[str]:
    """The names that match a shell pattern, in order."""
    return sorted(fnmatch.filter(names, pattern))


def create_model(
    name: str,
    *,
    num_classes: int | None = None,
    dtype: Any = jnp.float32,
    se: Mapping[str, Any] | SEConfig | None = None,
    **overrides: Any,
) -> Network:
    """The network `name` as a Linen module: images [B, H, W, C] to logits [B, num_classes].

    Args:
      name: one of `list_models()`: "resnet50", "seresnet50", "seresnet20_cifar".
      num_classes: width of the classifier; by default that of the network's dataset.
      dtype: dtype of activations, e.g. "bfloat16"; parameters stay float32.
      se: fields of SEConfig that differ from the network's default, e.g. `dict(ratio=8)`, or a
        whole SEConfig.
      **overrides: further fields of the module, e.g. `stride_on="1x1"`.

    Raises:
      InputError: for an unknown name or field, or a value that the network refuses.
    """
    if name not in MODELS:
        raise InputError(
            f"unknown model {name!r}{did_you_mean(name, MODELS)} "
            f"(see `python -m senet_jax.summary --list`)"
        )
    return construct(name, MODELS[name], num_classes=num_classes, dtype=dtype, se=se, **overrides)


def construct(
    name: str,
    constructor: functools.partial[Any],
    *,
    num_classes: int | None = None,
    dtype: Any = jnp.float32,
    se: Mapping[str, Any] | SEConfig | None = None,
    **overrides: Any,
) -> Network:
    """The network of a constructor, with the arguments of `create_model`.

    Errors call it `name`.
    """
    default = constructor.keywords["se"]
    fields = dict(overrides, se=_merge(name, default, se))
    if num_classes is not None:
        fields["num_classes"] = num_classes
    module: Any = constructor.func
    names = {field.name for field in dataclasses.fields(module)} - {"parent", "name"}
    if unknown := sorted(set(fields) - names):
        raise InputError(f"{name} has no field {unknown[0]!r}{did_you_mean(unknown[0], names)}")
    fields["dtype"] = _dtype(name, dtype)
    return build(constructor, f"model {name}", fields)


def _dtype(name: str, dtype: Any) -> Any:
    with contextlib.suppress(TypeError):  # not a dtype at all
        if jnp.dtype(dtype).name in DTYPES:
            return jnp.dtype(dtype)
    raise InputError(f"model {name}: dtype must be {' or '.join(DTYPES)}, not {dtype!r}")


def _merge(name: str, default: SEConfig, se: Mapping[str, Any] | SEConfig | None) -> SEConfig:
    if se is None or isinstance(se, SEConfig):
        return default if se is None else se
    if not hasattr(se, "keys"):  # ConfigDict is no Mapping
        raise InputError(f"model {name}: se must be its fields, as in {{'ratio': 8}}, not {se!r}")
    names = [field.name for field in dataclasses.fields(SEConfig)]
    if unknown := sorted(set(se) - set(names)):
        raise InputError(f"SE blocks have no field {unknown[0]!r}{did_you_mean(unknown[0], names)}")
    if se and not default.stages and "stages" not in se:
        raise InputError(
            f"{name} has no SE blocks for se.{next(iter(se))} to act on; use 'se{name}'"
        )
    return build(functools.partial(dataclasses.replace, default), f"model {name}", se)
