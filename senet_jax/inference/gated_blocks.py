"""The gated blocks of a network: found, asked for their gates, and replaced by constants.

A gated block is a module that sows its gate as "gate" into the collection "gates", and whose
`__call__(u, ...)` returns `u` scaled by it, and perhaps by another. Nothing is kept unless the
collection is made mutable, which happens only here.
"""

import dataclasses
import functools
import inspect
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from senet_jax.layers.network import Network
from senet_jax.models.shapes import variable_shapes, with_plain_layers


@dataclasses.dataclass(frozen=True)
class GatedBlock:
    """A gated block: its module's path ("stage2/block1/se"), its stage, and its channels.

    Stages are those of `se.stages`, numbered as in the paper.
    """

    name: str
    stage: int
    channels: int

    @property
    def label(self) -> str:
        """The path for people: "stage2/block1"."""
        return self.name.removesuffix("/se")


def gates_of(
    model: nn.Module, variables: Any, images: jax.Array, **arguments: Any
) -> dict[str, jax.Array]:
    """The gates of each SE block for each image, in the order of the computation.

        gates = senet_jax.gates_of(model, variables, images)
        gates["stage2/block1/se"]  # [B, 256], between 0 and 1 where the gate is a sigmoid

    Compiled, `jax.jit(senet_jax.gates_of, static_argnums=0)`, it is several times as fast, already
    at the first call of a large network.

    Args:
      variables: `params` and `batch_stats`, as `model.apply` takes them.
      images: [B, H, W, C], normalised.
      **arguments: other arguments of the model's call, where it needs any.

    Returns: path of each block to its gates [B, C]; {} for a network without SE blocks. Gates that
      differ from position to position (`squeeze="none"`) are averaged over positions. Blocks in
      layers of `nn.scan`, see `with_se`, have the axis of these before the others, and so have
      blocks that are called several times that of the calls.
    """
    if "train" in inspect.signature(model.__call__).parameters:
        arguments = {"train": False} | arguments
    asked = {name: value for name, value in variables.items() if name != "gates"}  # of another call
    _, sown = model.apply(asked, images, mutable=["gates"], **arguments)
    flat: dict[tuple[str, ...], Any] = traverse_util.flatten_dict(sown.get("gates", {}))
    # Of a plain dict JAX would sort the paths, where it is compiled.
    return OrderedDict(("/".join(path[:-1]), _of_calls(gates)) for path, gates in flat.items())


def _of_calls(gates: tuple[jax.Array, ...]) -> jax.Array:
    """The means of gates over positions, [..., B, C], or [calls, ..., B, C] of several calls."""
    means = [jnp.mean(gate, axis=(-3, -2)) for gate in gates]
    return means[0] if len(means) == 1 else jnp.stack(means)


# What a network is said to have that has other blocks, or none.
NO_GATES = "no blocks with a gate for each channel, as SE blocks have"


def find_blocks(model: Network, image_shape: tuple[int, int, int]) -> tuple[GatedBlock, ...]:
    """The gated blocks of a network in the order of the computation; nothing is computed.

    A block is in the stage without which it would be absent: not every family says it in its paths.

    Args:
      image_shape: [H, W, C].
    """
    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    variables = variable_shapes(model, image_shape)

    def channels(network: Network) -> dict[str, int]:
        ask = functools.partial(gates_of, with_plain_layers(network))
        return {
            name: gate.shape[-1] for name, gate in jax.eval_shape(ask, variables, image).items()
        }

    everything = channels(model)
    stages = {
        name: stage
        for stage in getattr(model, "se").stages  # noqa: B009 (each family declares its own)
        for name in everything.keys() - channels(without_stage(model, stage)).keys()
    }
    return tuple(GatedBlock(name, stages[name], count) for name, count in everything.items())


def without_stage(model: Any, stage: int) -> Network:
    """The network with no SE blocks in a stage."""
    kept = tuple(number for number in model.se.stages if number != stage)
    try:
        return model.clone(se=dataclasses.replace(model.se, stages=kept))
    except ValueError:  # none of those kept has a block, as between stages after the last one
        return model.clone(se=dataclasses.replace(model.se, stages=()))


def is_all_gates(model: Any) -> bool:
    """Whether blocks do no more than scale each channel by its gate: CBAM gates positions, too."""
    return model.se.kind != "cbam"


def with_constants(
    apply: Callable[..., Any], constants: Mapping[str, float | np.ndarray]
) -> Callable[..., Any]:
    """Replace the gates of the named blocks in whatever `apply` computes.

    A gate of 1 gives the network without the block. Other constants stand for gates of blocks that
    are no more than these, see is_all_gates.

    Args:
      apply: a function that applies the network, such as an evaluation step.
      constants: path of a block to one number, or to one per channel [C].
    """

    def replace(
        next_fun: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext
    ) -> Any:
        name = "/".join(context.module.path)
        if context.method_name != "__call__" or name not in constants:
            return next_fun(*args, **kwargs)
        u = args[0]
        return u * jax.lax.broadcast_to_rank(jnp.asarray(constants[name], u.dtype), u.ndim)

    def replaced(*args: Any) -> Any:
        with nn.intercept_methods(replace):
            return apply(*args)

    return replaced
