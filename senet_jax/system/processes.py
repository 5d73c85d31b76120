"""Several processes that train one network: how they meet, agree, and end together.

All of them do the same at the same places. The first one alone writes metrics and results and talks
to the terminal; the others hear from it what it decides or refuses. With one process nothing here
has an effect.
"""

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from senet_jax import errors
from senet_jax.errors import InputError, first_line

T = TypeVar("T")

# Seconds without a sign of life after which a process counts as dead, and all others end.
HEARTBEAT = 20
# Seconds that processes wait at the end for one that is missing.
FAREWELL = 30


def join(address: str | None, count: int | None, index: int | None, timeout: int) -> None:
    """Meet the other processes; call before JAX is used.

    Args:
      address: "host:port" of the first process; None if SLURM, Open MPI, a TPU or Kubernetes says
        it, as well as the next two.
      count: number of processes.
      index: number of this process, from 0 on.
      timeout: seconds to wait for the others.

    Raises: InputError if they do not come, or if nothing says where they are.
    """
    import jax

    # It would take SIGTERM, which is answered in interrupt.py.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            address,
            count,
            index,
            initialization_timeout=timeout,
            heartbeat_timeout_seconds=HEARTBEAT,
            shutdown_timeout_seconds=FAREWELL,
        )
    except (ValueError, RuntimeError) as error:  # RuntimeError: JAX's own, such as a time-out
        if address is None:
            raise InputError(
                "--distributed finds no SLURM, Open MPI, TPU or Kubernetes job that says where the "
                f"other processes are ({first_line(error)}); say it by --coordinator=HOST:PORT "
                "--num_processes=N --process_id=I"
            ) from error
        raise InputError(
            f"process {index} of {count} did not meet the others at {address} within {timeout} s: "
            f"{first_line(error)}"
        ) from error


def count() -> int:
    """Number of processes that train together."""
    import jax

    return jax.process_count()


def is_first() -> bool:
    """Whether this is the process that writes and speaks."""
    import jax

    return jax.process_index() == 0


def on_first(function: Callable[[], T]) -> T:
    """Call `function` on the first process alone and return its result, as JSON has it, on all.

    All processes wait for it.

    Raises: on all processes, the InputError that it raises on the first.
    """
    if count() == 1:
        return function()
    outcome: dict[str, Any] = {}
    if is_first():
        try:
            outcome["value"] = function()
        except InputError as error:
            outcome["error"] = type(error).__name__, str(error)
    outcome = json.loads(_from_first(json.dumps(outcome).encode()))
    if "error" in outcome:
        name, sentence = outcome["error"]
        raise getattr(errors, name, InputError)(sentence)
    return outcome["value"]


def total(number: int) -> int:
    """The sum of a number over all processes, which wait for one another."""
    from jax.experimental import multihost_utils

    return int(multihost_utils.process_allgather(np.int64(number)).sum()) if count() > 1 else number


def same(text: str) -> bool:
    """Whether a text is the same in all processes, which wait for one another."""
    return total(int(on_first(lambda: text) != text)) == 0


def _from_first(content: bytes) -> bytes:
    """The content that the first process has, on all."""
    from jax.experimental import multihost_utils

    def broadcast(numbers: np.ndarray) -> np.ndarray:
        return np.asarray(multihost_utils.broadcast_one_to_all(numbers))

    size = int(broadcast(np.array(len(content), np.int32)))
    # A program is compiled per length, and there are few lengths in whole pages.
    padded = np.zeros(-(-size // 4096) * 4096, np.uint8)
    if is_first():
        padded[:size] = np.frombuffer(content, np.uint8)
    return broadcast(padded)[:size].tobytes()


def _jax_of_several() -> Any:
    """JAX if several processes have met; else None. It is not imported where nobody did."""
    jax = sys.modules.get("jax")
    have_met = jax is not None and jax.distributed.is_initialized() and jax.process_count() > 1
    return jax if have_met else None


def leave(status: int) -> None:
    """End this process after an error that the others perhaps do not share.

    At exit JAX would wait for them, while they wait for this process in the middle of a step. So it
    ends at once, and they end when its heart stops or a connection closes. With one process this
    does nothing.
    """
    jax = _jax_of_several()
    if jax is None:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    if jax.process_index() == 0:
        time.sleep(2)  # the others meet through this one: if they fail as well, let them say so
    os._exit(status)


def fail(error: Exception) -> None:
    """Show an error that nobody expected, and leave. With one process this does nothing."""
    jax = _jax_of_several()
    if jax is None:
        return
    if isinstance(error, jax.errors.JaxRuntimeError):
        print(
            f"error: process {jax.process_index()} lost the others, of which one has stopped or "
            f"cannot be reached: {first_line(error)}",
            file=sys.stderr,
        )
    else:
        traceback.print_exception(error)
    leave(1)
