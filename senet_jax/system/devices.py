"""Steps on all devices, and what travels to them. The only file that says pmap.

The state keeps its natural shapes and is replicated; batches are split along their first axis. So a
step is written for one device and averages what it computes over `AXIS`.

`devices` are those of all processes that train together. Each process puts its batches and its copy
of the state on its local ones, and gets what a step returns there.
"""

import collections
import functools
import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from senet_jax.errors import InputError
from senet_jax.system import processes

AXIS = "batch"
Devices = Sequence[Any]  # jax.Device, which type checkers take for a variable
Tree = TypeVar("Tree")


def all_devices() -> Devices:
    """The devices of all processes, process by process."""
    return sorted(jax.devices(), key=lambda device: (device.process_index, device.id))


def local_devices(devices: Devices) -> Devices:
    """The devices of this process among `devices`."""
    return [device for device in devices if device.process_index == jax.process_index()]


def pmap_step(
    step: Callable[..., Any], devices: Devices, *, donate_state: bool
) -> Callable[..., Any]:
    """Run `step(state, batch)` on all devices: state replicated, batch as `split_batch` has it.

    What the step returns must be equal on all devices (use `average_over_devices` and
    `sum_over_devices`): `out_axes=None` takes the first copy without looking at the others.

    Args:
      donate_state: let the new state take the memory of the old one, which is then gone.
    """
    return jax.pmap(
        step,
        axis_name=AXIS,
        in_axes=(None, 0),
        out_axes=None,
        devices=devices,
        donate_argnums=(0,) if donate_state else (),
    )


def replicate(tree: Tree, devices: Devices) -> Tree:
    """Copy a tree to every local device, as steps return it, or the first step compiles twice."""
    return jax.device_put(tree, NamedSharding(_mesh(local_devices(devices)), PartitionSpec()))


def split_batch(batch: Tree, devices: Devices) -> Tree:
    """Split this process's part of a batch, [B, ...] to [local devices, B/local devices, ...]."""
    count = len(local_devices(devices))
    return jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), batch)


def place_batches(batches: Sequence[Any], devices: Devices, resident: Any = None) -> Any:
    """Put the batches for one call of a step on the devices, in its layout: it copies nothing.

    One batch becomes [local devices, B/local devices, ...]; K become [local devices, K, ...].

    Args:
      resident: images [N, ...] of which each device has a copy, from `replicate`. Batches then have
        an "index" [B] into these instead of an "image", which they get here, by a program of its
        own: that of the step is the same, to the last bit, wherever images come from.
    """
    parts = [split_batch(batch, devices) for batch in batches]
    placed = parts[0]
    if len(parts) > 1:
        placed = jax.tree.map(lambda *x: np.stack(x, axis=1), *parts)
    sharding = NamedSharding(_mesh(local_devices(devices)), PartitionSpec(AXIS))
    placed = jax.device_put(placed, sharding)
    if resident is None:
        return placed
    return {"image": _take(tuple(devices))(resident, placed.pop("index")), **placed}


@functools.cache
def _take(devices: tuple[Any, ...]) -> Callable[..., jax.Array]:
    return jax.pmap(lambda images, index: images[index], in_axes=(None, 0), devices=devices)


def _mesh(devices: Devices) -> Mesh:
    return Mesh(np.array(devices), (AXIS,))


def to_global(tree: Tree, devices: Devices) -> Tree:
    """A replicated tree as one tree on the devices of all processes, which checkpoints store."""
    if jax.process_count() == 1:
        return tree
    mesh = _mesh(devices)
    return multihost_utils.host_local_array_to_global_array(tree, mesh, PartitionSpec())


def to_local(tree: Tree, devices: Devices) -> Tree:
    """This process's copy of a tree from `to_global`."""
    if jax.process_count() == 1:
        return tree
    mesh = _mesh(devices)
    return multihost_utils.global_array_to_host_local_array(tree, mesh, PartitionSpec())


class Agreement:
    """A vote of all processes: an answer is yes, everywhere, if any process says yes.

    Every process must vote at the same places. Where there are several, the answers are those of
    `delay` calls ago, so that no process waits for the steps that are queued.
    """

    def __init__(self, devices: Devices, delay: int = 0) -> None:
        self._devices, self._delay = local_devices(devices), delay
        self._answers: collections.deque[jax.Array] = collections.deque()
        self._any = pmap_step(
            lambda _, votes: sum_over_devices(votes, AXIS), devices, donate_state=False
        )

    def __call__(self, *votes: bool) -> tuple[bool, ...]:
        """Vote on some questions at once, and hear the answers."""
        if jax.process_count() == 1:
            return votes
        per_device = np.tile(np.array(votes, np.int32), (len(self._devices), 1))
        self._answers.append(self._any((), per_device))
        if len(self._answers) <= self._delay:
            return (False,) * len(votes)
        return tuple((np.asarray(self._answers.popleft()) > 0).tolist())

    def forget(self) -> None:
        """Make void all votes so far; the next `delay` answers are no."""
        self._answers.clear()


def prefetch(
    batches: Iterable[Tree],
    devices: Devices,
    depth: int = 2,
    counts: Iterable[int] = itertools.repeat(1),
    resident: Any = None,
) -> Iterator[Tree]:
    """Place batches ahead of their use, so that their copies overlap the steps before them.

    There is no thread: while the host makes the next batch, the device works on the steps that were
    queued.

    Args:
      depth: number of calls whose batches are placed before the first of them is used; 1 places
        none ahead.
      counts: number of batches per call of a step; where they end, so do the batches.
      resident: images on the devices, see `place_batches`.

    Yields the batches of one call after another, as `place_batches` has them.

    Raises:
      Exception: whatever `batches` raises, after the batches before.
    """
    placed: collections.deque[Tree] = collections.deque()
    source = iter(batches)
    try:
        for count in counts:
            batches_of_call = list(itertools.islice(source, count))
            if not batches_of_call:
                break
            placed.append(place_batches(batches_of_call, devices, resident))
            if len(placed) == depth:
                yield placed.popleft()
    except Exception:
        yield from placed
        raise
    yield from placed


def free_memory(devices: Devices) -> int:
    """Bytes that every local device has left; 0 where they do not say, or it is the host's memory.

    CPUs do not say: what is on them is in the memory of the host already.
    """
    statistics = [device.memory_stats() or {} for device in local_devices(devices)]
    return min(each.get("bytes_limit", 0) - each.get("bytes_in_use", 0) for each in statistics)


def peak_memory(devices: Devices) -> int | None:
    """The most bytes that any local device has had in use; None where they do not say, as CPUs."""
    statistics = [device.memory_stats() or {} for device in local_devices(devices)]
    peaks = [each.get("peak_bytes_in_use") for each in statistics]
    return max((peak for peak in peaks if peak is not None), default=None)


def average_over_devices(tree: Tree, axis_name: str | None) -> Tree:
    """Average a tree over devices; without an axis it stays as it is."""
    return tree if axis_name is None else jax.lax.pmean(tree, axis_name)


def sum_over_devices(tree: Tree, axis_name: str | None) -> Tree:
    """Sum a tree over devices; without an axis it stays as it is."""
    return tree if axis_name is None else jax.lax.psum(tree, axis_name)


def gather_over_devices(tree: Tree, axis_name: str | None) -> Tree:
    """Join [B/devices, ...] of all devices to [B, ...] on each; without an axis nothing changes."""
    return tree if axis_name is None else jax.lax.all_gather(tree, axis_name, tiled=True)


def check_divisible(batch_size: int, devices: Devices) -> None:
    """Raises: InputError if a batch cannot be shared evenly between devices and processes."""
    counts = collections.Counter(device.process_index for device in devices)
    if len(set(counts.values())) > 1:
        raise InputError(f"processes must have equally many devices, not {list(counts.values())}")
    if batch_size % len(devices):
        below = max(batch_size // len(devices), 1) * len(devices)
        raise InputError(
            f"batch_size {batch_size} cannot be divided by {len(devices)} devices; "
            f"{below} or {below + len(devices)} can"
        )


def assert_replicated(tree: Any) -> None:
    """Raises: AssertionError, naming the leaf, if copies of the tree differ between devices.

    Processes are compared by a digest of the whole tree.
    """
    digest, are_several = hashlib.sha256(), processes.count() > 1
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        first, *others = (np.asarray(shard.data) for shard in leaf.addressable_shards)
        if are_several:
            digest.update(first.tobytes())
        for other in others:
            if not np.array_equal(first, other, equal_nan=True):
                raise AssertionError(f"{jax.tree_util.keystr(path)} differs between devices")
    if are_several and not processes.same(digest.hexdigest()):
        raise AssertionError(f"process {jax.process_index()} or another differs from the first")
