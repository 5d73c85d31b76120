"""Several processes that train one network: how they meet, agree, and end together.

All of them do the same at the same places. The first one alone writes metrics and results and talks
to the terminal; what it decides or refuses, the others hear from it. With one process everything
here is as if it were not there.
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
# Seconds that processes wait at the end for one that is not there.
FAREWELL = 30


def join(address: str | None, count: int | None, index: int | None, timeout: int) -> None:
    """Meet the other processes; must come before JAX is used.

    Args:
      address: "host:port" of the first process; None if SLURM, Open MPI, a TPU or Kubernetes says
        it, as well as the other two.
      count: of processes.
      index: of this one, from 0 on.
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
    import jax

    return jax.process_count()


def is_first() -> bool:
    """Whether this is the process that writes and speaks."""
    import jax

    return jax.process_index() == 0


def on_first(function: Callable[[], T]) -> T:
    """What `function` returns on the first process, where alone it is called, as JSON has it.

    All processes wait for it.

    Raises: the InputError that it raises there, on every process.
    """
    if count() == 1:
        return function()
    said: dict[str, Any] = {}
    if is_first():
        try:
            said["value"] = function()
        except InputError as error:
            said["error"] = type(error).__name__, str(error)
    heard = json.loads(_from_first(json.dumps(said).encode()))
    if "error" in heard:
        name, sentence = heard["error"]
        raise getattr(errors, name, InputError)(sentence)
    return heard["value"]


def total(number: int) -> int:
    """The sum of a number over all processes, which wait for one another."""
    from jax.experimental import multihost_utils

    return int(multihost_utils.process_allgather(np.int64(number)).sum()) if count() > 1 else number


def same(text: str) -> bool:
    """Whether it is the same in all processes, which wait for one another."""
    return total(int(on_first(lambda: text) != text)) == 0


def _from_first(content: bytes) -> bytes:
    from jax.experimental import multihost_utils

    def spread(numbers: np.ndarray) -> np.ndarray:
        return np.asarray(multihost_utils.broadcast_one_to_all(numbers))

    size = int(spread(np.array(len(content), np.int32)))
    # A program is compiled for each length: of full pages there are few.
    room = np.zeros(-(-size // 4096) * 4096, np.uint8)
    if is_first():
        room[:size] = np.frombuffer(content, np.uint8)
    return spread(room)[:size].tobytes()


def _jax_of_several() -> Any:
    """JAX if it was imported and several processes have met; else None, and nothing is imported."""
    jax = sys.modules.get("jax")
    joined = jax is not None and jax.distributed.is_initialized() and jax.process_count() > 1
    return jax if joined else None


def leave(status: int) -> None:
    """End this process after an error, in which the others perhaps have no part.

    JAX would wait for them at exit, while they wait for this process in the middle of a step. So it
    ends at once, and they when its heart stops or a connection closes. Nothing for one process.
    """
    jax = _jax_of_several()
    if jax is None:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    if jax.process_index() == 0:
        time.sleep(2)  # the others meet through this process: if they fail as well, let them say so
    os._exit(status)


def fail(error: Exception) -> None:
    """What `leave` does after an error that nobody expected; it is shown first."""
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
