"""The Squeeze-and-Excitation block (Hu et al., arXiv 1709.01507, section 3).

    z = squeeze(u)                   one number per channel: the mean over height and width (eq. 2)
    s = gate(W2 relu(W1 z))          W1: C -> C/r, W2: C/r -> C                             (eq. 3)
    y = u * s                        channel by channel                                     (eq. 4)

Every choice that the paper's ablations vary is a field of the block or a place of `layers/slot.py`;
what a field can be is a line in one of the tables here. The successors of the block, which share
these tables and functions, are in `layers/attention.py`.
"""

import dataclasses
import numbers
from collections.abc import Callable, Iterable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from senet_jax.layers.deferred import Deferred
from senet_jax.layers.initial import he_normal
from senet_jax.layers.pool import largest

# From the last layer's output to the factor of a channel.
GATES: dict[str, Callable[[jax.Array], jax.Array]] = {
    "sigmoid": jax.nn.sigmoid,
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "identity": lambda s: s,
    "hard_sigmoid": jax.nn.hard_sigmoid,
}
# From a map [..., H, W, C] in float32 to what the excitation sees of it.
SQUEEZES: dict[str, Callable[[jax.Array], jax.Array]] = {
    "avg": lambda u: u.mean((-3, -2), keepdims=True),
    "max": lambda u: jnp.expand_dims(largest(lax.collapse(u, u.ndim - 3, u.ndim - 1), -2), -3),
    "none": lambda u: u,
}
EXCITATIONS = ("mlp", "none")
# From the channels and the ratio to the width between the two layers of the excitation.
ROUNDINGS: dict[str, Callable[[int, int], int]] = {
    "none": lambda channels, ratio: max(1, channels // ratio),
    "timm": lambda channels, ratio: max(8, int(channels / ratio + 4) // 8 * 8),
}

# What the fields of all blocks can be, by their names; see `check_fields`.
CHOICES: dict[str, Iterable[str]] = {
    "squeeze": SQUEEZES,
    "excitation": EXCITATIONS,
    "gate": GATES,
    "rounding": ROUNDINGS,
}
COUNTS = ("ratio", "groups")
SWITCHES = ("bias",)


class SlotBlock(nn.Module):
    """A block [..., H, W, C] to the same shape and dtype, for the slot of a network or alone.

    An array without axes before these is one map. So tokens [B, N, C] are given as `u[:, None]`.

    Its fields are all that can be chosen about it. `slot.attend` fills those that `SEConfig` has as
    well, and `layers` where a block has it. All blocks are called alike, with `(u, train)`.

    Raises:
      ValueError: for values of its fields outside the tables of this file.
    """

    is_gate = True  # scales a map, by factors that are not negative unless `gate` makes them so

    def __post_init__(self) -> None:
        check_fields(self)
        super().__post_init__()


class SqueezeExcite(SlotBlock):
    """Scale the channels of `u` [..., H, W, C] by a gate computed from it; same shape and dtype.

    In a network of your own it needs nothing else:

    >>> import jax, jax.numpy as jnp
    >>> block = SqueezeExcite(ratio=8)
    >>> variables = block.init(jax.random.key(0), jnp.ones([2, 7, 7, 64]))
    >>> jax.tree.map(jnp.shape, variables["params"])
    {'expand': {'kernel': (8, 64)}, 'reduce': {'kernel': (64, 8)}}
    >>> block.apply(variables, jnp.ones([2, 7, 7, 64])).shape
    (2, 7, 7, 64)

    Squeeze, excitation and gate are computed in float32 whatever the dtype of `u`: half precision
    makes the pooled mean, and with it training, unstable. Parameters: `reduce` [C', C/r] and
    `expand` [C/r, C], with `bias` also their biases; none with `excitation="none"`.

    Attributes:
      ratio: reduction ratio r. The hidden width is `channels // ratio`, at least 1.
      squeeze: "avg", "max" or "none", which leaves the map as it is.
      excitation: "mlp", or "none": the gate acts on the squeezed value itself.
      gate: a name from GATES.
      bias: whether the two layers of the excitation have biases.
      rounding: "none", or "timm": the hidden width is a multiple of 8.
    """

    ratio: int = 16
    squeeze: str = "avg"
    excitation: str = "mlp"
    gate: str = "sigmoid"
    bias: bool = False
    rounding: str = "none"

    @nn.compact
    def __call__(
        self, u: jax.Array, train: bool = False, *, source: jax.Array | None = None
    ) -> jax.Array:
        """Scale a map.

        Args:
          u: map [..., H, W, C].
          train: unused; blocks with batch normalisation need it.
          source: map [..., H', W', C'] to squeeze instead of `u`.
        """
        z = squeeze(u if source is None else source, self.squeeze)
        if self.excitation == "mlp":
            z = excitation(u.shape[-1], self.ratio, self.bias, self.rounding)(z)
        return scale(self, u, GATES[self.gate](z))


def squeeze(u: jax.Array, how: str) -> jax.Array:
    """[..., H, W, C] to [..., 1, 1, C] in float32 by mean or maximum; "none" keeps the map.

    Raises: ValueError for fewer axes.
    """
    check_map(u)
    if isinstance(u, Deferred) and how == "avg":
        return u.squeezed()
    return SQUEEZES[how](jnp.asarray(u).astype(jnp.float32))


def check_map(u: jax.Array) -> None:
    """Raises: ValueError unless a block's input has the axes of a map."""
    if u.ndim < 3:
        raise ValueError(f"a block takes maps [..., H, W, C], not an array of {list(u.shape)}")


def excitation(
    channels: int, ratio: int, bias: bool, rounding: str = "none"
) -> Callable[[jax.Array], jax.Array]:
    """[..., C'] to [..., channels] by the two layers `reduce` and `expand` of equation 3.

    Called in a module, whose layers they become; they may be applied several times.
    """
    reduce = dense(hidden_width(channels, ratio, rounding), bias, name="reduce")
    expand = dense(channels, bias, name="expand")
    return lambda z: expand(nn.relu(reduce(z)))


def hidden_width(channels: int, ratio: int, rounding: str = "none") -> int:
    """Width between the two layers of the excitation of a block for so many channels."""
    return ROUNDINGS[rounding](channels, ratio)


def dense(features: int, bias: bool, *, name: str) -> nn.Dense:
    """A layer of an excitation: He-initialised, in float32."""
    return nn.Dense(features, bias, kernel_init=he_normal, dtype=jnp.float32, name=name)


def scale(block: nn.Module, u: jax.Array, gate: jax.Array) -> jax.Array:
    """u * gate in the dtype of `u`, which is what a block returns.

    The gate is sown as ("gates", "gate") for callers that ask for this collection; nobody else
    pays.
    """
    if not block.is_initializing():  # initialisation asks for every collection
        block.sow("gates", "gate", gate)
    return u * gate.astype(u.dtype)


def check_fields(owner: Any, prefix: str = "") -> None:
    """Check the fields of a dataclass that have the names of fields of a block.

    `prefix` comes before a name in errors.

    Raises: ValueError for a value outside CHOICES, COUNTS and SWITCHES.
    """
    for field in dataclasses.fields(owner):
        name, value = f"{prefix}{field.name}", getattr(owner, field.name)
        if field.name in CHOICES:
            check_choice(name, value, CHOICES[field.name])
        elif field.name in COUNTS and not is_count(value):
            raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}")
        elif field.name in SWITCHES and not isinstance(value, bool):
            raise ValueError(f"{name} must be True or False, not {value!r}")


def check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    """Raises: ValueError, with the choices, unless the value is one of them."""
    if value not in tuple(choices):
        raise ValueError(f"{name} must be one of {', '.join(choices)}, not {value!r}")


def is_count(value: Any) -> bool:
    """Whether a value is an integer of at least 1."""
    return is_whole(value) and value >= 1


def is_whole(value: Any) -> bool:
    """Whether a value is an integer; a bool, which Python counts among them, is not."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)
