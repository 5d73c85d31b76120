"""Ctrl-C at a safe point.

Python raises KeyboardInterrupt wherever it happens to be. Inside JAX that may be a callback that
swallows it, or the middle of a trace, after which the process crashes when it exits. So while a run
is prepared and trained, Ctrl-C only asks, and the loop stops between two steps.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax


@contextlib.contextmanager
def at_safe_points() -> Iterator[Callable[[Any], None]]:
    """Inside, Ctrl-C is answered by the yielded function only; pressed again, it ends the process.

    The function waits for the arrays it is given, so that no computation is in flight, and raises
    KeyboardInterrupt if Ctrl-C was pressed. Where SIGINT is not Python's own (in another thread, in
    a background job, under another handler) nothing is changed.
    """
    asked = threading.Event()

    def ask(number: int, frame: Any) -> None:
        if asked.is_set():
            os._exit(130)  # at once; files are written atomically, so nothing is torn
        asked.set()
        # Not print: the signal may have come in the middle of one.
        os.write(2, b"\nstopping after this step; Ctrl-C again stops at once\n")

    def safe_point(pending: Any) -> None:
        if asked.is_set():
            jax.block_until_ready(pending)
            raise KeyboardInterrupt

    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if ours:
        signal.signal(signal.SIGINT, ask)
    try:
        yield safe_point
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
