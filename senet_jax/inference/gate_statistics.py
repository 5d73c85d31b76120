"""Statistics of gates: of one image, and of every example of a split, by class."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from senet_jax import data
from senet_jax.evaluation.loop import outputs
from senet_jax.inference.gated_blocks import GatedBlock, gates_of
from senet_jax.system.devices import Devices, gather_over_devices

HIGH, LOW = 0.95, 0.05  # a gate above or below hardly depends on its input


def summary_of_image(gates: np.ndarray, most: int = 3) -> dict[str, Any]:
    """Sum up one block's gates [C] for one image: mean, shares nearly open and shut, extremes.

    Args:
      most: how many channels are named, of the most open ones and of the most shut ones.
    """
    order = np.argsort(-gates, kind="stable")
    return {
        "channels": len(gates),
        "mean": float(gates.mean()),
        "high": float((gates > HIGH).mean()),
        "low": float((gates < LOW).mean()),
        "most_open": [(int(channel), float(gates[channel])) for channel in order[:most]],
        "most_shut": [(int(channel), float(gates[channel])) for channel in order[::-1][:most]],
    }


def make_gate_step(
    model: nn.Module, normalize: Callable[[jax.Array], jax.Array], axis_name: str | None
) -> Callable[[Any, Mapping[str, jax.Array]], jax.Array]:
    """Make the step from a batch to the gates of all its blocks, side by side [B, sum of C].

    Every device gets those of the whole batch.
    """

    def gate_step(variables: Any, batch: Mapping[str, jax.Array]) -> jax.Array:
        gates = gates_of(model, variables, normalize(batch["image"]))
        return gather_over_devices(jnp.concatenate([*gates.values()], axis=-1), axis_name)

    return gate_step


@dataclasses.dataclass
class GateSums:
    """What is kept of the gates of N examples: sums in float64, never the gates themselves.

    Attributes:
      examples: number of examples per class [K].
      total: sums of the gates by class [K, C].
      squares: sums of the squared gates [C].
      high, low: numbers of gates above HIGH and below LOW [C].
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
        """Count in the gates [B, C] of examples with labels [B]."""
        gates = gates.astype(np.float64)
        for label in np.unique(labels):
            of_class = gates[labels == label]
            self.examples[label] += len(of_class)
            self.total[label] += of_class.sum(axis=0)
        self.squares += np.square(gates).sum(axis=0)
        self.high += (gates > HIGH).sum(axis=0)
        self.low += (gates < LOW).sum(axis=0)

    def split(self, blocks: Sequence[GatedBlock]) -> Iterator[tuple[GatedBlock, "GateSums"]]:
        """Yield each block with the sums of its channels."""
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
        """The mean of each channel's gate over all examples [C]."""
        return self.total.sum(axis=0) / self.examples.sum()

    @property
    def class_means(self) -> np.ndarray:
        """The means by class [K, C]; not a number for a class without examples."""
        examples = np.where(self.examples > 0, self.examples, np.nan)
        return self.total / examples[:, None]

    def summary(self) -> dict[str, float]:
        """Sum up all gates of N examples and C channels in one number each.

        mean, std: over all N C gates; std is the square root of their variance, divided by N C.
        high, low: the fractions of the N C gates above HIGH, and below LOW.
        between: variance of the class means about the mean of all examples, each class weighted by
          its number of examples; for each channel by itself, then averaged over channels.
        within: variance of the gates about the mean of their class, averaged in the same way.
          between + within is the variance over examples, averaged over channels. Together with the
          variance of the channels' means over channels it is std^2.
        share: between / (between + within): 1 if the gate is a function of the class, 0 if classes
          do not differ; not a number if no gate depends on the example.
        """
        n, mean = self.examples.sum(), self.mean
        present = self.examples > 0
        weights = self.examples[present, None] / n
        deviations = self.class_means[present] - mean
        between = float((weights * deviations**2).sum(axis=0).mean())
        # A channel's variance less what is between classes; rounding can make it negative.
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
    """Sum up the gates of every example of a split; padding does not count.

    Args:
      gate_step: mapped over `devices`, see make_gate_step.
      batch_size: examples per step, rounded up to a multiple of the devices.
    """
    sums = None
    for batch, on_device in outputs(gate_step, variables, split, batch_size, devices):
        gates = np.asarray(on_device)
        sums = sums or GateSums.zeros(classes, gates.shape[-1])
        real = batch["mask"] > 0
        sums.add(gates[real], batch["label"][real])
    assert sums is not None, "a split has examples"
    return sums
