"""The evaluation loop: every example exactly once, whatever the batch size and the devices.

What is right and what is not is kept for each example, at a bit each: with that, comparisons of
networks can be computed again, and for new test images.
"""

import base64
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from senet_jax import data
from senet_jax.data import resident
from senet_jax.evaluation import metrics
from senet_jax.evaluation.tally import Tally
from senet_jax.system import processes
from senet_jax.system.devices import Devices, place_batches

OUTCOMES = ("place", "label", "predicted", "confidence")  # of each example, see make_eval_step


def evaluate(
    eval_step: Callable[..., dict[str, jax.Array]],
    variables: Any,
    split: data.Split,
    batch_size: int,
    devices: Devices,
    between: Callable[[], None] = lambda: None,
    *,
    classes: int,
) -> tuple[dict[str, Any], Tally]:
    """Mean loss, top-1 and top-5 error in per cent, and the number of examples of a split.

    Beside these means (`metrics.means`) there are those of the Tally; and "right", a text that
    `unpack` reads: for each example that could be read, in the order of the split, whether its most
    probable class is the right one. Of several processes each evaluates its share, and all get the
    result.

    Returns: these metrics, and the counts of all examples by class and confidence.

    Args:
      eval_step: step of `make_eval_step`, mapped over `devices`.
      variables: `params` and `batch_stats`, on these devices.
      batch_size: examples per step, rounded up to a multiple of the devices; padding is masked.
      between: function to call before each batch; what it raises ends the evaluation.
      classes: number of classes.
    """
    sums, outcomes, examples = [], [], 0
    for batch, result in outputs(eval_step, variables, split, batch_size, devices, between):
        examples += int(batch["mask"].sum())
        outcomes.append([result.pop(name) for name in OUTCOMES])
        sums.append(result)
    means = metrics.means(sums)
    examples = processes.total(examples)
    assert means["examples"] == examples, (means["examples"], examples)
    batches = zip(*jax.device_get(outcomes), strict=True)
    place, label, predicted, confidence = (np.concatenate(arrays) for arrays in batches)
    _, first = np.unique(place, return_index=True)
    first = first[place[first] >= 0]
    assert len(first) == examples, (len(first), examples)
    label, predicted, confidence = label[first], predicted[first], confidence[first]
    tally = Tally.of(label, predicted, confidence, classes)
    return means | tally.means | {"right": pack(label == predicted)}, tally


def pack(right: np.ndarray) -> str:
    """Zeros and ones [N] as text, at a bit each."""
    return base64.b64encode(np.packbits(right.astype(bool)).tobytes()).decode()


def unpack(text: str, examples: int) -> np.ndarray:
    """The zeros and ones [examples] of `pack`. Raises: ValueError for text of another length."""
    bits = np.unpackbits(np.frombuffer(base64.b64decode(text, validate=True), np.uint8))
    if len(bits) != -(-examples // 8) * 8:
        raise ValueError(f"{len(bits)} bits cannot be those of {examples} examples")
    return bits[:examples]


def outputs(
    step: Callable[..., Any],
    variables: Any,
    split: data.Split,
    batch_size: int,
    devices: Devices,
    between: Callable[[], None] = lambda: None,
) -> Iterator[tuple[data.Batch, Any]]:
    """Give each masked batch of a split with `step(variables, batch)`; see `evaluate`."""
    batch_size = -(-batch_size // len(devices)) * len(devices)
    for batch in split.eval_batches(batch_size):
        between()
        yield batch, step(variables, place_batches([batch], devices, resident.images(split)))
