"""The slot of a network that an SE block sits in: what can be chosen, and who is chosen.

`SEConfig` holds the choices: the kind of block, the kind's own fields, the placement and the
stages. `attend` puts the block of that kind (`KINDS` in `layers/attention.py`) on a map. A network
decides *where* by asking `placement` (`layers/residual.py`), a block *what* is computed.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax

from senet_jax.layers.attention import KINDS
from senet_jax.layers.network import Layers
from senet_jax.layers.squeeze_excite import (
    check_choice,
    check_fields,
    is_whole,
)

IN_UNIT = ("standard", "pre", "post", "identity", "after_3x3", "parallel")
BETWEEN_STAGES = "between_stages"
PLACEMENTS = (*IN_UNIT, "before_convs", BETWEEN_STAGES)
# The placements in networks without residual branches, and in units that lack a single 3x3.
NO_BRANCH = ("standard",)
NO_3X3 = tuple(place for place in IN_UNIT if place != "after_3x3")


@dataclasses.dataclass(frozen=True)
class SEConfig:
    """Which SE block, and where. Every field is one ablation of the paper.

    Attributes:
      kind: "se", or a different block in its place: a successor from `layers/attention.py`, or
        "conv" (there, too). A field that the class of a kind lacks must keep its default.
      ratio: reduction ratio r (Table 10). The hidden width is `channels // ratio`, at least 1.
      squeeze: "avg", "max" (Table 11), or "none": no pooling, so the two layers act as 1x1
        convolutions on the full map (NoSqueeze, Table 16).
      excitation: "mlp", or "none": the gate acts on the squeezed value itself, without parameters
        (GE-theta-minus of Hu et al. 2018; "wrong variant 1" of the well-known article).
      gate: "sigmoid", "relu", "tanh" (Table 12), "identity" or "hard_sigmoid". Maps after a ReLU
        that "tanh" or "identity" scales are no longer free of negative values.
      placement: "standard", "pre", "post", "identity" (Table 14), "after_3x3" (Table 15);
        "parallel": the gate is computed from the block's input and scales its branch ("wrong
        variant 3"); "before_convs": one block before each convolution of a branch (GCT);
        "between_stages": one after each stage but the last (BAM).
      stages: the stages that carry SE blocks, numbered from 2 as in the paper (Table 13). An empty
        tuple gives the plain network.
      bias: whether the two layers of the excitation have biases. The paper's ablations have none
        (section 6); the authors' released networks and timm do.
      groups: groups of the convolution of kind "conv"; where they do not divide the channels, their
        greatest common divisor.
      rounding: rounding of the hidden width: "none", or "timm" for channels / ratio to the nearest
        multiple of 8, at least 8, as in timm's networks; of these only seresnet18 and 34 notice.

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
        check_choice("se.kind", self.kind, KINDS)
        check_choice("se.placement", self.placement, PLACEMENTS)
        check_fields(self, "se.")
        # Lists come from JSON; a tuple keeps the configuration hashable.
        stages: Any = self.stages if isinstance(self.stages, Iterable) else (self.stages,)
        stages = tuple(stages)
        if all(map(is_whole, stages)):  # in another order they are the same network
            stages = tuple(sorted(stages))
        object.__setattr__(self, "stages", stages)
        for field, choice in _without_effect(self):
            if getattr(self, field) != getattr(SEConfig, field):
                raise ValueError(f"se.{field} has no effect with {choice}; leave it out")
        for is_broken, sentence in RULES:
            if is_broken(self):
                raise ValueError(sentence.format(se=self))

    def check(self, family: str, stages: Sequence[int], placements: Sequence[str]) -> None:
        """Check the configuration against a family of networks.

        Raises: ValueError if the family lacks a configured stage or placement.
        """
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


# Configurations without a meaning: when a rule is broken, and the sentence that says so.
RULES: tuple[tuple[Callable[[SEConfig], bool], str], ...] = (
    (
        lambda se: not all(map(is_whole, se.stages)),
        "se.stages must be whole numbers, not {se.stages}",
    ),
    (
        lambda se: len(set(se.stages)) < len(se.stages),
        "se.stages names a stage twice: {se.stages}",
    ),
    (
        lambda se: se.placement == "parallel" and se.kind != "se",
        "se.placement='parallel' needs a gate computed from a different map than it scales, which "
        "se.kind={se.kind!r} lacks; only 'se' has one",
    ),
    (
        lambda se: se.kind == "bam" and se.placement != BETWEEN_STAGES,
        "se.kind='bam' sits between the stages of a network, not in its blocks; add "
        "se.placement='between_stages'",
    ),
    (
        lambda se: se.placement == "parallel" and se.squeeze == "none",
        "se.squeeze='none' cannot go with se.placement='parallel': without pooling, a gate "
        "computed from the block's input does not fit a branch of a different resolution",
    ),
    (
        lambda se: se.squeeze == "none" and se.excitation == "none",
        "se.squeeze='none' with se.excitation='none' leaves no SE block, only the activation "
        "u * gate(u); keep one of the two",
    ),
    (
        lambda se: se.placement == "parallel" and se.excitation == "none",
        "se.excitation='none' cannot go with se.placement='parallel': the pooled input has a "
        "different number of channels than the branch, and nothing maps one to the other",
    ),
)
# The fields of SEConfig that are not fields of a block: which one, and where.
OUTER_FIELDS = ("kind", "placement", "stages")


def fields_of(kind: str) -> tuple[str, ...]:
    """The fields of SEConfig with a meaning for a kind of block: those that its class has."""
    declared = {field.name for field in dataclasses.fields(KINDS[kind])}
    return tuple(field.name for field in dataclasses.fields(SEConfig) if field.name in declared)


def _without_effect(se: SEConfig) -> Iterator[tuple[str, str]]:
    """Fields of a block that do nothing here, each with the choice that makes it so."""
    for field in dataclasses.fields(SEConfig):
        if field.name not in (*OUTER_FIELDS, *fields_of(se.kind)):
            yield field.name, f"se.kind={se.kind!r}"
    if se.excitation == "none":
        for name in ("bias", "ratio", "rounding"):
            yield name, "se.excitation='none'"


def attend(
    config: SEConfig,
    layers: Layers,
    u: jax.Array,
    train: bool,
    *,
    source: jax.Array | None = None,
    activated: bool = False,
    name: str = "se",
) -> jax.Array:
    """Put the block that `config` describes on `u` [B, H, W, C]; the same shape and dtype.

    Called in a module, which gets the block as a part called `name`.

    Args:
      config: choices; the block gets those that its class has as fields.
      layers: settings of batch normalisation, for blocks that have it.
      u: map.
      train: whether batch normalisation takes the statistics of the batch.
      source: map [B, H', W', C'] that an SE block squeezes instead of `u`.
      activated: whether `u` is the output of a ReLU and the result goes on in its place: after a
        residual unit or a stage, and in networks without residual branches. Then what is not a gate
        ends with a ReLU as well.
      name: name of the part.
    """
    block = KINDS[config.kind]
    offered: dict[str, Any] = {**vars(config), "layers": layers}
    fields = {f.name: offered[f.name] for f in dataclasses.fields(block) if f.name in offered}
    sources = {} if source is None else {"source": source}
    u = block(**fields, name=name)(u, train, **sources)
    return nn.relu(u) if activated and not block.is_gate else u
