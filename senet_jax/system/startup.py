"""The first moments of a training command, before it imports anything slow.

In the middle of an import Python answers Ctrl-C with a traceback, or JAX swallows it and goes on.
There is nothing to save yet, so until `interrupt.at_safe_points` a signal ends the process at once.
This file itself imports nothing slow.
"""

import os
import signal
from typing import Any

# Signals that stop a command, each with Python's own answer.
DEFAULTS = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}

_remedy = "; the same command continues"  # what to do about an interruption


def begin(*, continues: bool = True) -> None:
    """Answer Ctrl-C and SIGTERM, unless somebody else does already, and ask for huge pages.

    Args:
      continues: whether the same command continues after an interruption, which is then said.
    """
    global _remedy
    _remedy = "; the same command continues" if continues else ""
    for number, usual in DEFAULTS.items():
        if signal.getsignal(number) is usual:
            signal.signal(number, end_at_once)
    from senet_jax.system import host_memory  # not before: even this takes a moment

    if hasattr(signal, "pthread_sigmask"):
        # What comes while Python starts again waits until it has got here once more.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, DEFAULTS)
        host_memory.use_huge_pages()
        signal.pthread_sigmask(signal.SIG_SETMASK, before - set(DEFAULTS))


def end_at_once(number: int, frame: Any = None) -> None:
    """Handle a signal: end the process with status 130 for Ctrl-C, 143 for SIGTERM."""
    kind = "interrupted" if number == signal.SIGINT else "terminated"
    os.write(2, f"\n{kind}{_remedy}\n".encode())
    os._exit(128 + number)  # files are written atomically: none is torn
