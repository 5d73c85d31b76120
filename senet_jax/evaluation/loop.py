"""The evaluation loop: every example exactly once, whatever the batch size and the devices."""

from collections.abc import Callable, Iterator
from typing import Any

import jax

from senet_jax import data
from senet_jax.evaluation import metrics
from senet_jax.system import processes
from senet_jax.system.devices import Devices, split_batch


def evaluate(
    eval_step: Callable[..., dict[str, jax.Array]],
    variables: Any,
    split: data.Split,
    batch_size: int,
    devices: Devices,
    between: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Mean loss, top-1 and top-5 error in per cent, and the number of examples of a split.

    Of several processes each evaluates its share, and all get the result.

    Args:
      eval_step: step of `make_eval_step`, mapped over `devices`.
      variables: `params` and `batch_stats`, on these devices.
      batch_size: examples per step, rounded up to a multiple of the devices; padding is masked.
      between: function to call before each batch; what it raises ends the evaluation.
    """
    sums, examples = [], 0
    for batch, batch_sums in outputs(eval_step, variables, split, batch_size, devices, between):
        examples += int(batch["mask"].sum())
        sums.append(batch_sums)
    result = metrics.means(sums)
    examples = processes.total(examples)
    assert result["examples"] == examples, (result["examples"], examples)
    return result


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
        yield batch, step(variables, split_batch(batch, devices))
