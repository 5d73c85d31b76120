"""The Squeeze-and-Excitation block (Hu et al., arXiv 1709.01507, section 3).

    z = squeeze(u)                   one number a channel: the mean over height and width (eq. 2)
    s = gate(W2 relu(W1 z))          W1: C -> C/r, W2: C/r -> C                           (eq. 3)
    y = u * s                        channel by channel                                   (eq. 4)

`SEConfig` holds every choice the paper's ablations vary, one field an ablation, and which of its
successors (`layers/attention.py`) takes its place. The layer decides *what* is computed; the
residual block decides *where* it sits, by asking `placement`.
"""

import dataclasses
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from senet_jax.layers.network import he_normal
from senet_jax.layers.pool import largest

GATES: dict[str, Callable[[jax.Array], jax.Array]] = {
    "sigmoid": jax.nn.sigmoid,
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "identity": lambda s: s,
    "hard_sigmoid": jax.nn.hard_sigmoid,
}
SQUEEZES = ("avg", "max", "none")
EXCITATIONS = ("mlp", "none")
ROUNDINGS = ("none", "timm")
IN_UNIT = ("standard", "pre", "post", "identity", "after_3x3", "parallel")
PLACEMENTS = (*IN_UNIT, "before_convs", "between_stages")
# The placements in networks without residual branches, and in blocks that have no one 3x3.
NO_BRANCH = ("standard",)
NO_3X3 = tuple(place for place in IN_UNIT if place != "after_3x3")
# Which fields have a meaning for which kind of block; the others must keep their defaults.
KINDS: dict[str, tuple[str, ...]] = {
    "se": ("ratio", "squeeze", "excitation", "gate", "bias", "rounding"),
    "conv": ("groups",),
    "eca": ("gate",),
    "ese": ("gate",),
    "cbam_channel": ("ratio", "gate", "bias"),
    "cbam": ("ratio", "gate", "bias"),
    "bam": ("ratio",),
    "ge_theta": ("gate",),
    "ge_theta_plus": ("ratio", "gate", "bias"),
    "gc": ("ratio", "bias"),
    "srm": ("gate",),
    "gct": (),
    "simam": (),
    "fca": ("ratio", "gate", "bias"),
}


@dataclasses.dataclass(frozen=True)
class SEConfig:
    """Which SE block, and where. Every field is one ablation of the paper.

    Attributes:
      kind: "se", a successor from `layers/attention.py`, or "conv" (there, too): 3x3 convolution
        and batch norm in its place ("wrong variant 2" of the well-known article). A field without
        a meaning for a kind (see KINDS) must keep its default.
      ratio: reduction ratio r (Table 10). The hidden width is `channels // ratio`, at least 1.
      squeeze: "avg", "max" (Table 11), or "none": no pooling, so the two layers act as 1x1
        convolutions on the full map (NoSqueeze, Table 16).
      excitation: "mlp", or "none": the gate acts on the squeezed value itself, without parameters
        (GE-theta-minus of Hu et al. 2018; "wrong variant 1" of the well-known article).
      gate: "sigmoid", "relu", "tanh" (Table 12), "identity" or "hard_sigmoid".
      placement: "standard", "pre", "post", "identity" (Table 14), "after_3x3" (Table 15);
        "parallel": the gate is computed from the block's input and scales its branch ("wrong
        variant 3"); "before_convs": one block before each convolution of a branch (GCT);
        "between_stages": one after each stage but the last (BAM).
      stages: the stages that carry SE blocks, numbered from 2 as in the paper (Table 13). An empty
        tuple gives the plain network.
      bias: whether the two layers of the excitation have biases. The paper's ablations have none
        (section 6); the authors' released networks and timm do.
      groups: of the convolution of kind "conv"; where the channels do not divide by it, the largest
        common divisor.
      rounding: of the hidden width: "none", or "timm" for channels / ratio to the nearest multiple
        of 8, at least 8, as in timm's networks; of these only seresnet18 and 34 notice.

    Raises:
      ValueError: for a value outside these, and for combinations without a meaning.
    """

    ratio: int = 16
    squeeze: str = "avg"
    excitation: str = "mlp"
    gate: str = "sigmoid"
    placement: str = "standard"
    stages: tuple[int, ...] = (2, 3, 4, 5)
    bias: bool = False
    kind: str = "se"
    groups: int = 1
    rounding: str = "none"

    def __post_init__(self) -> None:
        for field in ("ratio", "groups"):
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"se.{field} must be a whole number of at least 1, not {value!r}")
        for field, known in (
            ("kind", tuple(KINDS)),
            ("squeeze", SQUEEZES),
            ("excitation", EXCITATIONS),
            ("gate", tuple(GATES)),
            ("placement", PLACEMENTS),
            ("rounding", ROUNDINGS),
        ):
            if getattr(self, field) not in known:
                value = getattr(self, field)
                raise ValueError(f"se.{field} must be one of {', '.join(known)}, not {value!r}")
        if not isinstance(self.bias, bool):
            raise ValueError(f"se.bias must be True or False, not {self.bias!r}")
        # Lists come from JSON; a tuple keeps the configuration hashable.
        object.__setattr__(self, "stages", tuple(self.stages))
        if not all(isinstance(stage, int) and not isinstance(stage, bool) for stage in self.stages):
            raise ValueError(f"se.stages must be whole numbers, not {self.stages}")
        if len(set(self.stages)) < len(self.stages):
            raise ValueError(f"se.stages names a stage twice: {self.stages}")
        self._refuse_meaningless()

    def _refuse_meaningless(self) -> None:
        for field in ("ratio", "squeeze", "excitation", "gate", "bias", "groups", "rounding"):
            if field not in KINDS[self.kind] and getattr(self, field) != getattr(SEConfig, field):
                raise ValueError(
                    f"se.{field} has no effect with se.kind={self.kind!r}; leave it out"
                )
        if self.kind != "se" and self.placement == "parallel":
            raise ValueError(
                f"se.placement='parallel' needs a gate computed from another map than it scales, "
                f"which se.kind={self.kind!r} has not; only 'se' has"
            )
        if self.kind == "bam" and self.placement != "between_stages":
            raise ValueError(
                "se.kind='bam' sits between the stages of a network, not in its blocks; add "
                "se.placement='between_stages'"
            )
        if self.squeeze == "none" and self.placement == "parallel":
            raise ValueError(
                "se.squeeze='none' cannot go with se.placement='parallel': without pooling, a gate "
                "computed from the block's input does not fit a branch of another resolution"
            )
        if self.excitation == "mlp":
            return
        if self.squeeze == "none":
            raise ValueError(
                "se.squeeze='none' with se.excitation='none' leaves no SE block, only the "
                "activation u * gate(u); keep one of the two"
            )
        if self.placement == "parallel":
            raise ValueError(
                "se.excitation='none' cannot go with se.placement='parallel': the pooled input has "
                "another number of channels than the branch, and nothing maps one to the other"
            )
        for field in ("bias", "ratio", "rounding"):
            if getattr(self, field) != getattr(SEConfig, field):
                raise ValueError(
                    f"se.{field} has no effect with se.excitation='none'; leave it out"
                )

    def check(self, family: str, stages: Sequence[int], placements: Sequence[str]) -> None:
        """Raises: ValueError for a stage or a placement that a family of networks has not."""
        if missing := sorted(set(self.stages) - set(stages)):
            raise ValueError(
                f"se.stages names stage {missing[0]}, but this network has stages "
                f"{', '.join(map(str, stages))}"
            )
        if self.placement not in placements:
            raise ValueError(
                f"se.placement={self.placement!r} has no meaning in {family}; it can be "
                f"{', '.join(placements)}"
            )

    def hidden_width(self, channels: int) -> int:
        """Width of the bottleneck for a block that scales `channels` channels."""
        if self.rounding == "timm":
            return max(8, int(channels / self.ratio + 4) // 8 * 8)
        return max(1, channels // self.ratio)


class SqueezeExcite(nn.Module):
    """Scale the channels of `u` [..., H, W, C] by a gate computed from it; same shape and dtype.

    Squeeze, excitation and gate are computed in float32 whatever the dtype of `u`: half precision
    makes the pooled mean, and with it training, unstable. Parameters: `reduce` [C', C/r] and
    `expand` [C/r, C], plus biases if `config.bias`.
    """

    config: SEConfig = SEConfig()

    @nn.compact
    def __call__(self, u: jax.Array, source: jax.Array | None = None) -> jax.Array:
        """Args: u [..., H, W, C]; source [..., H', W', C'], what to squeeze instead of `u`."""
        config = self.config
        z = squeeze(u if source is None else source, config.squeeze)
        if config.excitation == "mlp":
            z = excitation(config, u.shape[-1])(z)
        return scale(self, u, GATES[config.gate](z))


def scale(block: nn.Module, u: jax.Array, gate: jax.Array) -> jax.Array:
    """u * gate in the dtype of `u`, which is what a block returns.

    The gate is sown as ("gates", "gate") for who asks for that collection; nobody else pays.
    """
    if not block.is_initializing():  # there every collection is asked for
        block.sow("gates", "gate", gate)
    return u * gate.astype(u.dtype)


def excitation(config: SEConfig, channels: int) -> Callable[[jax.Array], jax.Array]:
    """[..., C'] to [..., channels] by the two layers `reduce` and `expand` of equation 3.

    Called in a module, whose layers they become; they may be applied several times.
    """
    reduce = dense(config.hidden_width(channels), config.bias, name="reduce")
    expand = dense(channels, config.bias, name="expand")
    return lambda z: expand(nn.relu(reduce(z)))


def dense(features: int, bias: bool, *, name: str) -> nn.Dense:
    """A layer of an excitation: He-initialised, in float32."""
    return nn.Dense(features, bias, kernel_init=he_normal, dtype=jnp.float32, name=name)


def squeeze(u: jax.Array, kind: str) -> jax.Array:
    """[..., H, W, C] to [..., 1, 1, C] in float32 by mean or maximum; "none" keeps the map."""
    u = u.astype(jnp.float32)
    if kind == "avg":
        return u.mean((-3, -2), keepdims=True)
    if kind == "max":
        *batch, height, width, channels = u.shape
        return largest(u.reshape(*batch, 1, height * width, channels), -2)
    return u
