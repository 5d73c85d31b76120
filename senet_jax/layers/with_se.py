r"""SE blocks, or their successors, in any Flax Linen module, without touching its code.

    model = with_se(ConvNeXt(), SEConfig(ratio=8), where=r"stage\d/block\d")
    variables = model.init(key, images)  # those of ConvNeXt, and the collection "se"

Linen's interception gives every call of a submodule; those that match get a block after them. The
module's own collections stay as they are, to the last path, so that its weights still load. The
blocks' parameters are in collections of their own, `se` and, of those with batch normalisation,
`se_stats`. An optimizer must be given both `params` and `se`.
"""

import dataclasses
import functools
import inspect
import operator
import re
import sys
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from senet_jax.config import build
from senet_jax.errors import InputError, did_you_mean
from senet_jax.layers.attention import KINDS
from senet_jax.layers.network import Layers
from senet_jax.layers.slot import BETWEEN_STAGES, SEConfig

SE, STATS, GATES = "se", "se_stats", "gates"  # collections
KEY = "se_key"  # the scope that a block is drawn in, which no submodule has
TRAIN = ("train", "training", "is_training")  # what modules call it
DETERMINISTIC = "deterministic"

Where = str | Callable[[str, nn.Module], bool]


def with_se(model: nn.Module, se: SEConfig | dict[str, Any], where: Where) -> "WithSE":
    """A module that computes what `model` does, with a block after each submodule that matches.

    It is called as `model` is, and has its parameters at the same paths. Blocks of a kind with
    batch normalisation take the statistics of the batch where the call, or else a field of the
    module, says train=True, training=True, is_training=True or deterministic=False; where neither
    says one of these words, or both say None, the call is refused.

    Args:
      model: a Linen module, not bound to variables.
      se: what block, as everywhere; `placement` and `stages` say where in networks of ours, and
        must keep their defaults, or for BAM its only placement.
      where: a regular expression that the whole path of a submodule matches, such as
        r"stage\\d/block\\d"; or a function of the path and the submodule. What the submodule
        returns is a map [B, ..., C] with one axis between (tokens, signals), or two (images).

    Raises:
      ValueError: for a module that is none of Linen's or has blocks already, settings without an
        effect here, or a bad expression; in a call, if no submodule matches, or one that matches
        returns no such map, is a module of NNX, is called by another method than __call__ alone, or
        is inside a lifted transformation (nn.scan, nn.vmap) that does not pass the collection `se`
        on, `se_stats` where blocks have statistics, or `gates` where these are asked for.
    """
    if not isinstance(model, nn.Module) or isinstance(model, WithSE):
        raise InputError(
            "with_se takes a Flax Linen module without blocks of its own making, not "
            f"{type(model).__name__}"
        )
    if isinstance(se, dict):
        own = {"placement": BETWEEN_STAGES} if se.get("kind") == "bam" else {}
        se = build(SEConfig, "se", own | se)
    usual = SEConfig.placement if se.kind != "bam" else BETWEEN_STAGES
    for field, default in (("placement", usual), ("stages", SEConfig.stages)):
        if getattr(se, field) != default:
            raise InputError(f"se.{field} has no effect here, where `where` says it; leave it out")
    if not (isinstance(where, str) or callable(where)):
        raise InputError(f"where must be a regular expression or a function, not {where!r}")
    try:
        re.compile(where if isinstance(where, str) else "")
    except re.error as error:
        raise InputError(f"where is {where!r}, no regular expression: {error}") from error
    return WithSE(model, se, where)


class WithSE(nn.Module):
    """See with_se."""

    model: nn.Module
    se: SEConfig
    where: Where

    @nn.compact
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        nn.share_scope(self, self.model)
        _tell_nnx()
        train = self._is_training(args, kwargs)
        seen: list[str] = []
        matched: set[str] = set()
        otherwise: dict[str, tuple[nn.Module, str]] = {}  # what is called by other methods
        in_block = False  # whose own parts get no blocks

        def intercept(
            next_fun: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext
        ) -> Any:
            nonlocal in_block
            module = context.module
            result = next_fun(*args, **kwargs)
            path = module.path[len(self.path) :]
            if in_block or not path:
                return result
            if context.method_name != "__call__":
                if context.method_name != "setup":
                    otherwise["/".join(path)] = module, context.method_name
                return result
            seen.append("/".join(path))
            if not self._matches(seen[-1], module):
                return result
            matched.add(seen[-1])
            _check(seen[-1], module, result)
            in_block = True
            try:
                return self._attend(module.scope, train, result)
            finally:
                in_block = False

        with nn.intercept_methods(intercept):
            result = self.model(*args, **kwargs)
        for path, (module, name) in otherwise.items():
            if path not in seen and self._matches(path, module):
                raise ValueError(
                    f"{path} is called by its method {name!r} alone, after which no block comes: "
                    "match what is around it"
                )
        if not matched:
            what = repr(self.where) if isinstance(self.where, str) else "where"
            hint = did_you_mean(self.where, seen) if isinstance(self.where, str) else ""
            paths = ", ".join(dict.fromkeys(seen))
            raise ValueError(f"{what} matches no submodule{hint}; there are {paths or 'none'}")
        return result

    def _matches(self, path: str, module: nn.Module) -> bool:
        if callable(self.where):
            return self.where(path, module)
        return bool(re.fullmatch(self.where, path))

    def _is_training(self, args: Any, kwargs: Any) -> bool:
        """Whether the network is trained, which its call says, or else its field of the same name.

        None says nothing, as to nn.merge_param.
        """
        if not self._has_norm:
            return False
        signature = inspect.signature(self.model.__call__)
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        given = dict(bound.arguments)
        for parameter in signature.parameters.values():
            if parameter.kind is parameter.VAR_KEYWORD:
                given |= given.pop(parameter.name)
        fields = {f.name: getattr(self.model, f.name) for f in dataclasses.fields(self.model)}
        for said in (given, fields):
            for name in (*TRAIN, DETERMINISTIC):
                if (value := said.get(name)) is not None:
                    return bool(value) != (name == DETERMINISTIC)
        raise ValueError(
            f"se.kind={self.se.kind!r} has batch normalisation, and {type(self.model).__name__} is "
            f"not told whether it is trained, by {', '.join((*TRAIN, DETERMINISTIC))}; choose a "
            "kind without"
        )

    @property
    def _has_norm(self) -> bool:
        return any(field.name == "layers" for field in dataclasses.fields(KINDS[self.se.kind]))

    def _attend(self, scope: Any, train: bool, u: jax.Array) -> jax.Array:
        """Apply the block of a submodule, in the scope of that, to what it has returned."""
        if self.is_initializing():
            for collection in (SE, STATS) if self._has_norm else (SE,):
                self._check_passed(scope, collection)
        offered = {**vars(self.se), "layers": Layers()}
        kind = KINDS[self.se.kind]
        fields = {f.name: offered[f.name] for f in dataclasses.fields(kind) if f.name in offered}
        block = kind(**fields, parent=None)
        maps = u[:, None] if u.ndim == 3 else u

        @functools.cache
        def drawn() -> Any:
            # A key of its own: the module's weights are those that it has without blocks.
            return block.init(scope.push(KEY, reuse=True).make_rng("params"), maps, train)

        def stored(collection: str, part: str) -> Any:
            if not scope.has_variable(collection, SE):
                if not self.is_initializing():
                    raise ValueError(f"the variables lack the collection {collection!r}: see init")
                scope.put_variable(collection, SE, drawn().get(part, {}))
            return scope.get_variable(collection, SE)

        values = {"params": stored(SE, "params")}
        if self._has_norm:
            values["batch_stats"] = stored(STATS, "batch_stats")
        result, changed = block.apply(values, maps, train, mutable=["batch_stats", GATES])
        if train and self._has_norm and not self.is_initializing():
            scope.put_variable(STATS, SE, changed["batch_stats"])
        if self.is_mutable_collection(GATES) and not self.is_initializing():
            self._check_passed(scope, GATES)
            gates = changed.get(GATES, {})
            if scope.has_variable(GATES, SE):  # of an earlier call of the same submodule
                earlier = scope.get_variable(GATES, SE)
                gates = jax.tree.map(operator.add, earlier, gates, is_leaf=_is_sown)
            scope.put_variable(GATES, SE, gates)
        return result[:, 0] if u.ndim == 3 else result

    def _check_passed(self, scope: Any, collection: str) -> None:
        """Raises: ValueError if a collection that can be changed cannot be in a submodule."""
        if not scope.is_mutable_collection(collection):
            raise ValueError(
                f"{'/'.join(scope.path)} is inside a lifted transformation, such as nn.scan, that "
                f"does not pass the collection {collection!r} on: add it there, or match what is "
                "outside"
            )


def _tell_nnx() -> None:
    """Make NNX, where it is in use, take the blocks' collections for parameters and statistics.

    Its bridge would give them types of their own, which no optimizer of `nnx.Param` trains.
    """
    if nnx := sys.modules.get("flax.nnx"):  # which takes a second to import
        for collection, base in ((SE, nnx.Param), (STATS, nnx.BatchStat)):
            if not issubclass(nnx.variable_type_from_name(collection, allow_register=True), base):
                named = type(collection, (base,), {})
                nnx.register_variable_name(collection, named, overwrite=True)


def _is_sown(node: Any) -> bool:
    """Whether a node of a collection is what `sow` makes: a tuple with an item for each call."""
    return isinstance(node, tuple)


def _check(path: str, module: nn.Module, result: Any) -> None:
    """Raises: ValueError if a submodule can have no block, or what it returns is no map."""
    nnx = sys.modules.get("flax.nnx")
    if nnx and isinstance(module, nnx.bridge.ToLinen):
        raise ValueError(
            f"{path} is a module of NNX, which would take the block's parameters for its own: "
            "match a Linen module around it"
        )
    if not isinstance(result, jax.Array) or result.ndim not in (3, 4):
        shape = getattr(result, "shape", type(result).__name__)
        raise ValueError(
            f"{path} returns {shape}, and a block needs a map [B, H, W, C] or [B, N, C]: match "
            "other submodules"
        )
