"""Batches travel to the devices in order, as far ahead as asked, in the layout of the step."""

import itertools
import threading

import jax
import numpy as np
import pytest

from senet_jax.system.devices import (
    AXIS,
    map_step,
    prefetch,
    replicate,
    split_batch,
    sum_over_devices,
)


def numbered(count=8, taken=None):
    """Batches of 8 examples that say their number, which `taken` gets when they are made."""
    for number in range(count):
        if taken is not None:
            taken.append(number)
        yield {"image": np.full((8, 2, 2, 3), number, np.uint8), "label": np.arange(8)}


@pytest.mark.parametrize("depth", [1, 2, 3, 20])
def test_prefetched_batches_are_the_same_in_the_same_order(depth):
    devices = jax.local_devices()
    expected = (split_batch(batch, devices) for batch in numbered())
    placed = prefetch(numbered(), devices, depth)
    for one, other in zip(expected, placed, strict=True):
        jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_no_more_batches_are_taken_ahead_than_asked_for(depth, one_device):
    taken = []
    for number, _ in enumerate(prefetch(numbered(9, taken), one_device, depth)):
        assert taken == list(range(min(number + depth, 9)))


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_an_error_of_the_source_comes_after_the_batches_before(depth, one_device):
    def failing():
        yield from numbered(3)
        raise OSError("unreadable")

    seen = []
    with pytest.raises(OSError, match="unreadable"):
        seen.extend(prefetch(failing(), one_device, depth))
    assert [int(batch["image"].max()) for batch in seen] == [0, 1, 2]


def test_leaving_early_closes_the_source_and_leaves_no_thread(one_device):
    closed = []

    def endless():
        try:
            for number in itertools.count():
                yield np.full(8, number)
        finally:
            closed.append(True)

    threads = threading.active_count()
    batches = prefetch(endless(), one_device)
    next(batches)
    batches.close()
    assert closed == [True]
    assert threading.active_count() == threads


def test_steps_take_prefetched_batches_as_they_are_and_compile_once():
    devices = jax.local_devices()
    traces = []

    def step(state, batch):
        traces.append(batch["image"].shape)
        return state + sum_over_devices(batch["image"].astype(np.float32).sum(), AXIS)

    mapped = map_step(step, devices, donate_state=True)
    one, two = (replicate(np.float32(0), devices) for _ in range(2))
    for batch in prefetch(numbered(), devices):
        image = batch["image"]
        assert image.sharding.device_set == set(devices)
        assert [shard.data.shape for shard in image.addressable_shards] == [(1, 2, 2, 2, 3)] * 4
        with jax.transfer_guard("disallow"):
            one = mapped(one, batch)
    assert traces == [(2, 2, 2, 3)]
    for batch in numbered():
        two = mapped(two, split_batch(batch, devices))
    assert float(one) == float(two) == sum(range(8)) * 8 * 2 * 2 * 3
