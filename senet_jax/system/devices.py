"""Steps on all devices, and what travels to them. The only file that knows how they are spread.

The state keeps its natural shapes and is replicated; batches are split along their first axis. So a
step is written for one device and averages what it computes over `AXIS`; there are three backends:

  pmap       a program for each device and, with several processes, arrays of each process
  shard_map  the same program for each device, in one over all devices; arrays are those of all
  jit        one program for the whole batch, which the compiler divides; it has no axis

`devices` are those of all processes that train together: a DeviceGroup, which names its backend, or
any other sequence, which is pmap's. Each process puts its part of the batches on its local ones.
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

from senet_jax.layers import platforms
from senet_jax.system import processes

AXIS = "batch"
BACKENDS = PMAP, SHARD_MAP, JIT = "pmap", "shard_map", "jit"
Devices = Sequence[Any]  # jax.Device, which type checkers take for a variable
Tree = TypeVar("Tree")


def all_devices() -> Devices:
    """The devices of all processes, process by process."""
    return sorted(jax.devices(), key=lambda device: (device.process_index, device.id))


def local_devices(devices: Devices) -> Devices:
    """The devices of this process among `devices`."""
    return [device for device in devices if device.process_index == jax.process_index()]


class DeviceGroup(tuple[Any, ...]):
    """Devices that share a batch, and the backend by which they do."""

    backend: str = PMAP

    @classmethod
    def of(cls, devices: Devices, backend: str) -> "DeviceGroup":
        """The devices with one of BACKENDS."""
        group = cls(devices)
        group.backend = backend
        return group


def backend_of(devices: Devices) -> str:
    """The backend of some devices, one of BACKENDS."""
    return devices.backend if isinstance(devices, DeviceGroup) else PMAP


def axis_of(devices: Devices) -> str | None:
    """The name of the axis over which steps average; None where they see the whole batch."""
    return None if backend_of(devices) == JIT else AXIS


def map_step(
    step: Callable[..., Any], devices: Devices, *, donate_state: bool, layout: Any = None
) -> Callable[..., Any]:
    """Run `step(state, batch)` on all devices: state replicated, batch as `split_batch` has it.

    What the step returns must be equal on all devices (use `average_over_devices` and
    `sum_over_devices`): the first copy is taken without looking at the others.

    Args:
      donate_state: let the new state take the memory of the old one, which is then gone.
      layout: tree of shardings of what the step returns, see `sharded`; None for replicated. Only
        the backend jit has others.
    """
    step = platforms.on(devices[0].platform, step)
    donated = (0,) if donate_state else ()
    backend, mesh = backend_of(devices), _mesh(devices)
    if backend == PMAP:
        return jax.pmap(
            step,
            axis_name=AXIS,
            in_axes=(None, 0),
            out_axes=None,
            devices=devices,
            donate_argnums=donated,
        )
    if backend == SHARD_MAP:

        def own(state: Any, batch: Any) -> Any:
            return step(state, jax.tree.map(lambda x: x.reshape(x.shape[1:]), batch))

        specs = PartitionSpec(), PartitionSpec(AXIS)
        mapped = jax.shard_map(
            own, mesh=mesh, in_specs=specs, out_specs=PartitionSpec(), check_vma=False
        )
        return jax.jit(mapped, donate_argnums=donated)

    def whole(state: Any, batch: Any) -> Any:
        return step(state, _joined(batch))

    returned = NamedSharding(mesh, PartitionSpec()) if layout is None else layout
    return jax.jit(whole, out_shardings=returned, donate_argnums=donated)


def _joined(batch: Any) -> Any:
    """A batch [devices, B/devices, ...] as [B, ...]; K of them, [devices, K, ...], as [K, B, ...].

    Which of the two it is the labels say, [devices, B/devices] or [devices, K, B/devices].
    """
    are_several = batch["label"].ndim == 3

    def joined(x: jax.Array) -> jax.Array:
        if are_several:
            x = jnp.moveaxis(x, 0, 1)
            return x.reshape(len(x), -1, *x.shape[3:])
        return x.reshape(-1, *x.shape[2:])

    return jax.tree.map(joined, batch)


def replicate(tree: Tree, devices: Devices) -> Tree:
    """Copy a tree to every device, as steps return it, or the first step compiles twice."""
    copied = jax.device_put(tree, NamedSharding(_mesh(local_devices(devices)), PartitionSpec()))
    return copied if backend_of(devices) == PMAP else _of_all_processes(copied, devices)


def sharded(tree: Any, devices: Devices) -> Any:
    """The shardings that divide each array of a tree among the devices, along its longest axis.

    An array none of whose axes they divide evenly is replicated.
    """

    def sharding(leaf: Any) -> NamedSharding:
        axes = [axis for axis in range(leaf.ndim) if leaf.shape[axis] % len(devices) == 0]
        longest = max(axes, key=lambda axis: leaf.shape[axis], default=None)
        spec = [None] * leaf.ndim
        if longest is not None and leaf.shape[longest]:
            spec[longest] = AXIS
        return NamedSharding(_mesh(devices), PartitionSpec(*spec))

    return jax.tree.map(sharding, tree)


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
    backend = backend_of(devices)
    mesh = _mesh(local_devices(devices) if backend == PMAP else devices)
    sharding = NamedSharding(mesh, PartitionSpec(AXIS))
    if backend == PMAP:
        placed = jax.device_put(placed, sharding)
    else:
        put = functools.partial(jax.make_array_from_process_local_data, sharding)
        placed = jax.tree.map(put, placed)
    if resident is None:
        return placed
    return {"image": _take(tuple(devices), backend)(resident, placed.pop("index")), **placed}


@functools.cache
def _take(devices: tuple[Any, ...], backend: str) -> Callable[..., jax.Array]:
    def take(images: jax.Array, index: jax.Array) -> jax.Array:
        return images[index]

    if backend == PMAP:
        return jax.pmap(take, in_axes=(None, 0), devices=devices)
    return jax.jit(take, out_shardings=NamedSharding(_mesh(devices), PartitionSpec(AXIS)))


def _mesh(devices: Devices) -> Mesh:
    return Mesh(np.array(devices), (AXIS,))


def to_global(tree: Tree, devices: Devices) -> Tree:
    """A replicated tree as one tree on the devices of all processes, which checkpoints store."""
    return _of_all_processes(tree, devices) if backend_of(devices) == PMAP else tree


def _of_all_processes(tree: Tree, devices: Devices) -> Tree:
    if jax.process_count() == 1:
        return tree
    mesh = _mesh(devices)
    return multihost_utils.host_local_array_to_global_array(tree, mesh, PartitionSpec())


def to_local(tree: Tree, devices: Devices) -> Tree:
    """The tree from `to_global` as steps take it."""
    if jax.process_count() == 1 or backend_of(devices) != PMAP:
        return tree
    mesh = _mesh(devices)
    return multihost_utils.global_array_to_host_local_array(tree, mesh, PartitionSpec())


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


def average_over_devices(tree: Tree, axis_name: str | None) -> Tree:
    """Average a tree over devices; without an axis it stays as it is."""
    return tree if axis_name is None else jax.lax.pmean(tree, axis_name)


def sum_over_devices(tree: Tree, axis_name: str | None) -> Tree:
    """Sum a tree over devices; without an axis it stays as it is."""
    return tree if axis_name is None else jax.lax.psum(tree, axis_name)


def gather_over_devices(tree: Tree, axis_name: str | None) -> Tree:
    """Join [B/devices, ...] of all devices to [B, ...] on each; without an axis nothing changes."""
    return tree if axis_name is None else jax.lax.all_gather(tree, axis_name, tiled=True)


def assert_replicated(tree: Any) -> None:
    """Raises: AssertionError, naming the leaf, if copies of the tree differ between devices.

    Processes are compared by a digest of the whole tree. What is divided among devices has no
    copies.
    """
    digest, are_several = hashlib.sha256(), processes.count() > 1
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        if not leaf.is_fully_replicated:
            continue
        first, *others = (np.asarray(shard.data) for shard in leaf.addressable_shards)
        if are_several:
            digest.update(first.tobytes())
        for other in others:
            if not np.array_equal(first, other, equal_nan=True):
                raise AssertionError(f"{jax.tree_util.keystr(path)} differs between devices")
    if are_several and not processes.same(digest.hexdigest()):
        raise AssertionError(f"process {jax.process_index()} or another differs from the first")
