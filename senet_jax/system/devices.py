"""Devices. The only file that says pmap.

The state keeps its natural shapes and is replicated; batches are split along their first axis. So a
step is written for one device and averages what it computes over `AXIS`.

`devices` are those of all processes that train together. Each process puts its batches and its copy
of the state on its own, and gets what a step returns there.
"""

import collections
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
Devices = Sequence[Any]  # of jax.Device, which type checkers take for a variable
Tree = TypeVar("Tree")


def all_devices() -> Devices:
    """Of all processes; those of one are neighbours, in the order of the processes."""
    return sorted(jax.devices(), key=lambda device: (device.process_index, device.id))


def local_devices(devices: Devices) -> Devices:
    """Those of this process."""
    return [device for device in devices if device.process_index == jax.process_index()]


def pmap_step(
    step: Callable[..., Any], devices: Devices, *, donate_state: bool
) -> Callable[..., Any]:
    """Run `step(state, batch)` on all devices: state replicated, batch as `split_batch` has it.

    What the step returns must be equal on all devices (use `mean` and `total`): `out_axes=None`
    takes the first copy without looking at the others.
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
    """The tree as steps return it, on every device; without this the first step compiles twice."""
    return jax.device_put(tree, NamedSharding(_mesh(local_devices(devices)), PartitionSpec()))


def split_batch(batch: Tree, devices: Devices) -> Tree:
    """This process's part of a batch, [B, ...], to [local devices, B/devices, ...]."""
    count = len(local_devices(devices))
    return jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), batch)


def place_batches(batches: Sequence[Tree], devices: Devices) -> Tree:
    """Batches for one call of a step, on the devices in its layout, so that it copies nothing.

    One is [local devices, B/devices, ...], K are [local devices, K, B/devices, ...].
    """
    parts = [split_batch(batch, devices) for batch in batches]
    whole = jax.tree.map(lambda *x: np.stack(x, axis=1), *parts) if len(parts) > 1 else parts[0]
    return jax.device_put(whole, NamedSharding(_mesh(local_devices(devices)), PartitionSpec(AXIS)))


def _mesh(devices: Devices) -> Mesh:
    return Mesh(np.array(devices), (AXIS,))


def to_global(tree: Tree, devices: Devices) -> Tree:
    """A replicated tree as a single one on the devices of all processes, as checkpoints have it."""
    if jax.process_count() == 1:
        return tree
    mesh = _mesh(devices)
    return multihost_utils.host_local_array_to_global_array(tree, mesh, PartitionSpec())


def to_local(tree: Tree, devices: Devices) -> Tree:
    """`as_one` back to this process's copy."""
    if jax.process_count() == 1:
        return tree
    mesh = _mesh(devices)
    return multihost_utils.global_array_to_host_local_array(tree, mesh, PartitionSpec())


class Agreement:
    """Whether any process says so, which all of them hear at the same call.

    Every process must ask at the same places. Where there are several, the answer is that of
    `delay` calls ago, so that none of them waits for the steps that are queued.
    """

    def __init__(self, devices: Devices, delay: int = 0) -> None:
        self._devices, self._delay = local_devices(devices), delay
        self._answers: collections.deque[jax.Array] = collections.deque()
        self._any = pmap_step(
            lambda _, says: sum_over_devices(says, AXIS), devices, donate_state=False
        )

    def __call__(self, *says: bool) -> tuple[bool, ...]:
        if jax.process_count() == 1:
            return says
        self._answers.append(
            self._any((), np.tile(np.array(says, np.int32), (len(self._devices), 1)))
        )
        if len(self._answers) <= self._delay:
            return (False,) * len(says)
        return tuple((np.asarray(self._answers.popleft()) > 0).tolist())

    def forget(self) -> None:
        """What was said so far is void; the next `delay` answers are no."""
        self._answers.clear()


def prefetch(
    batches: Iterable[Tree],
    devices: Devices,
    depth: int = 2,
    counts: Iterable[int] = itertools.repeat(1),
) -> Iterator[Tree]:
    """Batches as `place_batches` has them; their copies overlap the steps of those before.

    There is no thread: while the host makes the next batch, the device works on the steps that were
    queued.

    Args:
      depth: how many are taken from `batches` before the first of them has been used; 1 is none
        ahead.
      counts: how many batches each call gets; where they end, so do the batches.

    Raises:
      Exception: whatever `batches` raises, after the batches before.
    """
    placed: collections.deque[Tree] = collections.deque()
    source = iter(batches)
    try:
        for count in counts:
            if not (together := list(itertools.islice(source, count))):
                break
            placed.append(place_batches(together, devices))
            if len(placed) == depth:
                yield placed.popleft()
    except Exception:
        yield from placed
        raise
    yield from placed


def peak_memory(devices: Devices) -> int | None:
    """The most bytes in use on one of this process so far; None where they do not say, as CPUs."""
    found = [
        statistics.get("peak_bytes_in_use")
        for device in local_devices(devices)
        if (statistics := device.memory_stats())
    ]
    return max((peak for peak in found if peak is not None), default=None)


def average_over_devices(tree: Tree, axis_name: str | None) -> Tree:
    """Average over devices; the tree itself if there is no axis."""
    return tree if axis_name is None else jax.lax.pmean(tree, axis_name)


def sum_over_devices(tree: Tree, axis_name: str | None) -> Tree:
    """Sum over devices; the tree itself if there is no axis."""
    return tree if axis_name is None else jax.lax.psum(tree, axis_name)


def gather_over_devices(tree: Tree, axis_name: str | None) -> Tree:
    """[B/devices, ...] of each device to [B, ...] on all; the tree itself if there is no axis."""
    return tree if axis_name is None else jax.lax.all_gather(tree, axis_name, tiled=True)


def check_divisible(batch_size: int, devices: Devices) -> None:
    """Raises: InputError if the batch cannot be shared evenly."""
    shares = collections.Counter(device.process_index for device in devices)
    if len(set(shares.values())) > 1:
        raise InputError(f"processes must have equally many devices, not {list(shares.values())}")
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
    digest, several = hashlib.sha256(), processes.count() > 1
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        first, *others = (np.asarray(shard.data) for shard in leaf.addressable_shards)
        if several:
            digest.update(first.tobytes())
        for other in others:
            if not np.array_equal(first, other, equal_nan=True):
                raise AssertionError(f"{jax.tree_util.keystr(path)} differs between devices")
    if several and not processes.same(digest.hexdigest()):
        raise AssertionError(f"process {jax.process_index()} or another has other values")
