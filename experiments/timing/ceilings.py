"""What a machine can do at most, as measured: a large matrix product, and a copy of an array."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

LONG_ENOUGH_S = 0.01  # one product: dispatching it is then a small part
LARGEST = 16_384
COPIED = 2**28  # bytes, more than any cache holds
BURST = 5
ATTEMPTS = 3


def flops(dtype: str, devices: Sequence[Any]) -> float:
    """FLOP/s of a large square matrix product in a dtype, on all devices together."""
    best, side, seconds = 0.0, 512, 0.0
    while seconds < LONG_ENOUGH_S and side <= LARGEST:
        x = jax.device_put(jnp.full((side, side), 1 / side, dtype), devices[0])
        seconds = _seconds(jax.jit(jnp.matmul), x, x)
        best, side = max(best, 2 * side**3 / seconds), 2 * side
    return best * _machines(devices)


def bandwidth(devices: Sequence[Any]) -> float:
    """Bytes per second of reading an array and writing it anew, on all devices together."""
    x = jax.device_put(jnp.zeros(COPIED // 4, jnp.float32), devices[0])
    add = jax.jit(lambda x: x + 1, donate_argnums=0)  # in place: new pages would be timed as well

    def copied(count: int) -> None:
        nonlocal x
        for _ in range(count):
            x = add(x)
        jax.block_until_ready(x)

    return 2 * COPIED / _least(copied) * _machines(devices)


def bytes_of(compiled: Any) -> float:
    """Bytes that a compiled program reads and writes by XLA's cost analysis, on all devices."""
    costs = compiled.cost_analysis() or {}
    devices = len(jax.tree.leaves(compiled.input_shardings)[0].device_set)
    return float(costs.get("bytes accessed", 0.0)) * devices


def _machines(devices: Sequence[Any]) -> int:
    """The number of devices that are machines of their own; simulated ones share the processors."""
    return 1 if devices[0].platform == "cpu" else len(devices)


def _seconds(function: Callable[..., jax.Array], *arguments: jax.Array) -> float:
    def called(count: int) -> None:
        results = [function(*arguments) for _ in range(count)]
        jax.block_until_ready(results)

    return _least(called)


def _least(steps: Callable[[int], None]) -> float:
    """Least seconds of one of the steps of a burst, after one that compiles."""
    steps(1)
    taken = []
    for _ in range(ATTEMPTS):
        start = time.perf_counter()
        steps(BURST)
        taken.append((time.perf_counter() - start) / BURST)
    return min(taken)
