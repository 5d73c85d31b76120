"""The gates of a trained network: found, recorded over a dataset, and replaced by constants.

A gated block is a module that sows its gate as "gate" into the collection "gates", and whose
`__call__(u, ...)` returns `u` scaled by it. Nothing is kept unless the collection is made mutable,
as it is here only.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from senet_jax import data
from senet_jax.evaluation.loop import outputs
from senet_jax.layers.network import Network
from senet_jax.system.devices import Devices, gather_over_devices

HIGH, LOW = 0.95, 0.05  # a gate above or below hardly depends on its input


@dataclasses.dataclass(frozen=True)
class Block:
    """A gated block: its module's path ("stage2/block1/se"), its stage, and its channels.

    Stages are those of `se.stages`, numbered as in the paper.
    """

    name: str
    stage: int
    channels: int

    @property
    def label(self) -> str:
        """For people: "stage2/block1"."""
        return self.name.removesuffix("/se")


def gates_of(model: nn.Module, variables: Any, images: jax.Array) -> dict[str, jax.Array]:
    """Path of each gated block to its gates [B, C], in the order of the computation.

    Gates that differ from position to position (NoSqueeze) are averaged over them.
    """
    _, sown = model.apply(variables, images, train=False, mutable=["gates"])
    flat: dict[tuple[str, ...], Any] = traverse_util.flatten_dict(sown.get("gates", {}))
    return {
        "/".join(path[:-1]): jnp.mean(gate, axis=tuple(range(1, gate.ndim - 1)))
        for path, (gate,) in flat.items()
    }


def find_blocks(model: Network, image_shape: tuple[int, int, int]) -> tuple[Block, ...]:
    """The gated blocks of a network in the order of the computation; nothing is computed.

    A block's stage is the one without which it is not there: paths do not say it in every family.
    """
    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), image)

    def channels(network: Network) -> dict[str, int]:
        found: dict[str, int] = {}

        def trace(variables: Any, image: jax.Array) -> None:
            gates = gates_of(network, variables, image)
            found.update({name: gate.shape[-1] for name, gate in gates.items()})

        jax.eval_shape(trace, variables, image)
        return found

    everything = channels(model)
    stages = {
        name: stage
        for stage in getattr(model, "se").stages  # noqa: B009 (each family declares its own)
        for name in everything.keys() - channels(without_stage(model, stage)).keys()
    }
    return tuple(Block(name, stages[name], count) for name, count in everything.items())


def without_stage(model: Any, stage: int) -> Network:
    """The network with no SE blocks in a stage."""
    kept = tuple(number for number in model.se.stages if number != stage)
    return model.clone(se=dataclasses.replace(model.se, stages=kept))


def make_gate_step(
    model: nn.Module, normalize: Callable[[jax.Array], jax.Array], axis_name: str | None
) -> Callable[[Any, Mapping[str, jax.Array]], jax.Array]:
    """Gates of all blocks, side by side [B, sum of C], for a whole batch on every device."""

    def gate_step(variables: Any, batch: Mapping[str, jax.Array]) -> jax.Array:
        gates = gates_of(model, variables, normalize(batch["image"]))
        return gather_over_devices(jnp.concatenate([*gates.values()], axis=-1), axis_name)

    return gate_step


def with_constants(
    step: Callable[..., Any], constants: Mapping[str, float | np.ndarray]
) -> Callable[..., Any]:
    """`step`, with the gates of the named blocks replaced: 1 is the network without the block.

    Args:
      constants: path of a block to a number or one number a channel [C].
    """

    def replace(
        next_fun: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext
    ) -> Any:
        name = "/".join(context.module.path)
        if context.method_name != "__call__" or name not in constants:
            return next_fun(*args, **kwargs)
        u = args[0]
        return u * jnp.asarray(constants[name], u.dtype)

    def replaced(*args: Any) -> Any:
        with nn.intercept_methods(replace):
            return step(*args)

    return replaced


@dataclasses.dataclass
class GateSums:
    """What is kept of the gates of N examples: sums in float64, never the gates themselves.

    Attributes:
      examples: [K], of each class.
      total: [K, C], of the gates by class.
      squares: [C], of the squared gates.
      high, low: [C], numbers of gates above HIGH and below LOW.
    """

    examples: np.ndarray
    total: np.ndarray
    squares: np.ndarray
    high: np.ndarray
    low: np.ndarray

    @classmethod
    def zeros(cls, classes: int, channels: int) -> "GateSums":
        return cls(
            np.zeros(classes, np.int64),
            np.zeros((classes, channels)),
            np.zeros(channels),
            np.zeros(channels),
            np.zeros(channels),
        )

    def add(self, gates: np.ndarray, labels: np.ndarray) -> None:
        """Count gates [B, C] of examples with labels [B]."""
        gates = gates.astype(np.float64)
        for label in np.unique(labels):
            of_class = gates[labels == label]
            self.examples[label] += len(of_class)
            self.total[label] += of_class.sum(axis=0)
        self.squares += np.square(gates).sum(axis=0)
        self.high += (gates > HIGH).sum(axis=0)
        self.low += (gates < LOW).sum(axis=0)

    def split(self, blocks: Sequence[Block]) -> Iterator[tuple[Block, "GateSums"]]:
        """Each block with its own part of the channels."""
        start = 0
        for block in blocks:
            part = slice(start, start + block.channels)
            yield (
                block,
                GateSums(
                    self.examples,
                    self.total[:, part],
                    self.squares[part],
                    self.high[part],
                    self.low[part],
                ),
            )
            start += block.channels

    @property
    def mean(self) -> np.ndarray:
        """[C], over all examples."""
        return self.total.sum(axis=0) / self.examples.sum()

    @property
    def class_means(self) -> np.ndarray:
        """[K, C]; not a number for a class without examples."""
        examples = np.where(self.examples > 0, self.examples, np.nan)
        return self.total / examples[:, None]

    def summary(self) -> dict[str, float]:
        """One number each for all gates of N examples and C channels.

        mean, std: over all N C gates; std is the square root of their variance, divided by N C.
        high, low: the fraction of the N C gates above HIGH, and below LOW.
        between: variance of the class means about the mean of all examples, each class weighted by
          its number of examples; for each channel by itself, then averaged over channels.
        within: variance of the gates about the mean of their class, averaged in the same way. So
          between + within is the variance over examples, averaged over channels, and with the
          variance of the channels' means over channels it is std^2.
        share: between / (between + within): 1 if the gate is a function of the class, 0 if classes
          do not differ; not a number if no gate depends on the example.
        """
        n, mean = self.examples.sum(), self.mean
        present = self.examples > 0
        weights = self.examples[present, None] / n
        deviations = self.class_means[present] - mean
        between = float((weights * deviations**2).sum(axis=0).mean())
        # Of the channels' own variance what is between classes is taken away; rounding can leave
        # less than nothing.
        variance = np.maximum(self.squares / n - mean**2, 0)
        within = max(float(variance.mean()) - between, 0.0)
        return {
            "mean": float(mean.mean()),
            "std": float(np.sqrt(variance.mean() + mean.var())),
            "high": float(self.high.mean() / n),
            "low": float(self.low.mean() / n),
            "between": between,
            "within": within,
            "share": between / (between + within) if between + within else float("nan"),
        }


def record(
    gate_step: Callable[..., jax.Array],
    variables: Any,
    split: data.Split,
    batch_size: int,
    classes: int,
    devices: Devices,
) -> GateSums:
    """The sums over every example of a split; padding is left out.

    Args:
      gate_step: mapped over `devices`, see make_gate_step.
      batch_size: examples a step, rounded up to a multiple of the devices.
    """
    sums = None
    for batch, found in outputs(gate_step, variables, split, batch_size, devices):
        gates = np.asarray(found)
        sums = sums or GateSums.zeros(classes, gates.shape[-1])
        real = batch["mask"] > 0
        sums.add(gates[real], batch["label"][real])
    assert sums is not None, "a split has examples"
    return sums
