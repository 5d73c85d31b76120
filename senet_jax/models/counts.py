"""Exact numbers of parameters and multiply-adds of a model, stage by stage.

A multiply-add counts as one, and only convolutions and fully connected layers count. This gives the
paper's "GFLOPs" to within the last printed digit.
"""

import collections
import dataclasses
import logging
import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from senet_jax.errors import InputError, did_you_mean, first_line
from senet_jax.layers.squeeze_excite import is_whole
from senet_jax.layers.with_se import SE
from senet_jax.models import MODELS
from senet_jax.models.products import products
from senet_jax.models.shapes import traced_variables, with_plain_layers

PARAMS = ("params", SE)  # the collections of what is trained


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
    convolutions and for fully connected layers alike; a transposed convolution is applied at the
    positions of its input. Blocks of `with_se` belong to what they follow. Products of two maps, as
    in attention, do not count. Where a network of others multiplies more or less with its
    parameters, as inside nn.scan, both numbers are said.

    Raises: InputError for what is no shape of an image, or one of which nothing would be left on
      the way.
    """
    is_sequence = isinstance(image_shape, Sequence)
    if not is_sequence or len(image_shape) != 3 or not all(map(is_whole, image_shape)):
        raise InputError(
            f"the shape of an image is height, width and channels, such as (224, 224, 3), not "
            f"{image_shape!r}"
        )
    # Whether modules that are alike share layers is known of our own networks alone.
    is_ours = type(model) in {constructor.func for constructor in MODELS.values()}
    counter = _Counter(repeats=is_ours)
    with nn.intercept_methods(counter.call):
        variables = traced_variables(model, image_shape)
    params, macs = counter.params, counter.macs
    for collection in PARAMS:
        for scope, tree in variables.get(collection, {}).items():
            params[scope] += _size(tree)
    if not is_ours:
        _compare(sum(macs.values()), model, variables, image_shape)
    # `macs` has met the scopes in the order of the computation; `params` is in alphabetical order.
    names = dict.fromkeys([*(name for name in macs if macs[name]), *sorted(params)])
    return Summary(tuple(Part(name, params[name], macs[name]) for name in names if params[name]))


def _compare(counted: int, model: nn.Module, variables: Any, image_shape: Sequence[int]) -> None:
    """Say so where layers have other multiply-adds than the program, see products.py."""
    batch = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    try:
        multiplied = products(with_plain_layers(model), variables, batch)
    except Exception as error:  # whatever a network of others does not do but when it is drawn
        logging.warning(
            "the multiply-adds are those of layers, and not compared with the program, which "
            "cannot be traced: %s",
            first_line(error),
        )
        return
    if counted != multiplied:
        logging.warning(
            "by its layers this network has %s multiply-adds, but its program has %s in products "
            "with parameters: it uses layers, or matrices of its own, in a way that is not known "
            "here",
            f"{counted:,}",
            f"{multiplied:,}",
        )


def _macs(module: nn.Module, args: Any, outputs: Any) -> int:
    """The multiply-adds of a layer itself: none where it has no kernel."""
    kernel = module.variables.get("params", {}).get("kernel")
    return 0 if kernel is None else math.prod(kernel.shape) * _positions(module, args, outputs)


def _positions(module: nn.Module, args: Any, outputs: Any) -> int:
    """The number of positions at which the kernel of a layer is applied."""
    if isinstance(module, nn.ConvLocal):  # whose kernel has them all
        return 1
    if not isinstance(outputs, jax.Array):  # a cell of a recurrent network
        return 0
    if isinstance(module, nn.ConvTranspose) and args:
        return math.prod(args[0].shape[1:-1])
    features = getattr(module, "features", ()) if isinstance(module, nn.DenseGeneral) else ()
    axes = len(features) if isinstance(features, Sequence) and features else 1
    return math.prod(outputs.shape[1:-axes])


def _size(tree: Any) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


@dataclasses.dataclass(frozen=True)
class _Counted:
    """A module that has been called: its outputs, and what it and its parts have."""

    outputs: Any
    params: int
    macs: int


class _Counter:
    """A count of a network, made as its modules are called.

    Networks repeat themselves, and to trace them takes long. So where it `repeats`, a module like
    one that was counted, with the same fields and inputs, is not called: it has what that one has.
    This is wrong of networks whose modules call layers of others, or have blocks of `with_se` after
    one of two that are alike.

    Blocks of `with_se` have scopes of their own, apart from the network's: they belong to the scope
    that is entered at the time.

    Attributes:
      macs: multiply-adds by outermost scope, in the order of the computation.
      params: parameters of modules that were not called, by outermost scope.
    """

    def __init__(self, *, repeats: bool) -> None:
        self.macs: dict[str, int] = collections.defaultdict(int)
        self.params: dict[str, int] = collections.defaultdict(int)
        self._repeats = repeats
        self._counted: dict[Any, _Counted] = {}
        self._called: set[tuple[str, ...]] = set()  # paths, whose parameters are there
        self._not_called: set[tuple[str, ...]] = set()  # paths, whose parameters are counted
        self._entered: list[str] = []  # outermost scopes of the modules that are being called
        self._block_in = ""  # outermost scope of what the block follows that is being called

    def call(
        self, method: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext
    ) -> Any:
        module, path = context.module, context.module.path
        if context.method_name != "__call__":
            return method(*args, **kwargs)
        if self._block_in or (self._entered and not path):
            return self._call_block(method, args, kwargs, module)
        if not path:
            outputs = method(*args, **kwargs)
            if macs := _macs(module, args, outputs):  # the network is one layer
                self.macs["kernel"] += macs
            return outputs
        self._entered.append(path[0])
        try:
            return self._call(method, args, kwargs, module)
        finally:
            self._entered.pop()

    def _call_block(self, method: Any, args: Any, kwargs: Any, module: nn.Module) -> Any:
        before, self._block_in = self._block_in, self._block_in or self._entered[-1]
        try:
            outputs = method(*args, **kwargs)
        finally:
            scope, self._block_in = self._block_in, before
        if not module.is_initializing():  # it is drawn, then applied
            self.macs[scope] += _macs(module, args, outputs)
        return outputs

    def _call(self, method: Any, args: Any, kwargs: Any, module: nn.Module) -> Any:
        path, scope = module.path, module.path[0]
        kind = _kind(module, args, kwargs) if self._repeats else None
        is_new = path not in self._called
        if is_new and kind in self._counted:
            like = self._counted[kind]
            self.macs[scope] += like.macs
            if path not in self._not_called:
                self.params[scope] += like.params
                self._not_called.add(path)
            return jax.tree.map(jnp.zeros_like, like.outputs)
        self._called.add(path)
        params_before, macs_before = self.params[scope], self.macs[scope]
        outputs = method(*args, **kwargs)
        self.macs[scope] += _macs(module, args, outputs)
        if is_new and kind is not None:
            self._counted[kind] = _Counted(
                jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), outputs),
                _size(module.variables.get("params", {})) + self.params[scope] - params_before,
                self.macs[scope] - macs_before,
            )
        return outputs


def _kind(module: nn.Module, args: Any, kwargs: Any) -> Any:
    """What modules that do the same have in common; None if that cannot be said."""
    names = [field.name for field in dataclasses.fields(module)]
    own = tuple(getattr(module, name) for name in names if name not in ("name", "parent"))
    leaves, tree = jax.tree.flatten((args, kwargs))
    inputs = tuple(
        (leaf.shape, leaf.dtype) if isinstance(leaf, jax.Array) else leaf for leaf in leaves
    )
    kind = (type(module), own, tree, inputs)
    try:
        hash(kind)
    except TypeError:  # a field that may change
        return None
    return kind


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
