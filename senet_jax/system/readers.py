"""Threads that ask for files, of which some may never come.

A file on a network mount that is dead blocks whoever opens it, and nothing in Python ends that. So
a thread does it, which is left behind where no answer comes; it does not hold up the end of the
process.
"""

import collections
import itertools
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from typing import TypeVar

from senet_jax.system import processors

PATIENCE = 30.0  # seconds that a file may take
FEW = 3  # files without an answer, one after another, after which the next get little time
LITTLE = 1.0  # seconds
INTERVAL = 0.1  # seconds between two looks at whether to stop

T = TypeVar("T")
R = TypeVar("R")


def nothing() -> None:
    """Do nothing while waiting."""


def in_order(
    function: Callable[[T], R],
    items: Iterable[T],
    ahead: int,
    check: Callable[[], None] = nothing,
) -> Iterator[R | TimeoutError]:
    """Yield `function(item)` of each item, in order; a TimeoutError where no answer comes.

    Args:
      function: runs in threads, as many as there are processors; what it raises is raised here.
      ahead: items that are asked for before it is their turn.
      check: called at least every INTERVAL while waiting; what it raises ends everything.
    """
    tasks: queue.SimpleQueue[tuple[futures.Future[R], T] | None] = queue.SimpleQueue()

    def work() -> None:
        while task := tasks.get():
            future, item = task
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(function(item))
            except BaseException as error:
                future.set_exception(error)

    def begin_thread() -> None:
        threads.append(threading.Thread(target=work, daemon=True))
        threads[-1].start()

    pending: collections.deque[futures.Future[R]] = collections.deque()
    threads: list[threading.Thread] = []
    remaining, silent = iter(items), 0
    try:
        while True:
            for item in itertools.islice(remaining, max(1, ahead) - len(pending)):
                pending.append(futures.Future())
                tasks.put((pending[-1], item))
                if len(threads) < min(len(processors.usable()), ahead):
                    begin_thread()
            if not pending:
                return
            # Tasks are taken in order: a thread has the first one, unless all are left behind.
            future = pending.popleft()
            seconds = PATIENCE if silent < FEW else LITTLE
            if _comes(future, seconds, check):
                silent = 0
                yield future.result()
            else:
                silent += 1
                begin_thread()
                yield TimeoutError(f"no answer came within {seconds:g} seconds")
    finally:
        for future in pending:
            future.cancel()
        for _ in threads:
            tasks.put(None)
        _await_end(threads)


def _await_end(threads: Iterable[threading.Thread]) -> None:
    """Wait for threads that have been told to end, a little at most: some are left behind.

    Python kills a thread that wakes while it ends itself, which not all code in C++ survives.
    """
    end = time.monotonic() + LITTLE
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))


def once(
    function: Callable[[T], R], item: T, check: Callable[[], None] = nothing
) -> R | TimeoutError:
    """`function(item)`, or a TimeoutError where no answer comes; `check` as in `in_order`."""
    return next(in_order(function, [item], 1, check))


def _comes(future: futures.Future[R], seconds: float, check: Callable[[], None]) -> bool:
    """Wait for an answer. Time in which this process does not run, stopped say, hardly counts."""
    for _ in range(max(1, round(seconds / INTERVAL))):
        check()
        if futures.wait([future], INTERVAL).done:
            return True
    return False
