"""The first moments of a training command, before it imports anything slow.

In the middle of an import Python answers Ctrl-C with a traceback, or JAX swallows it and goes on.
There is nothing to save yet, so until `interrupt.at_safe_points` a signal ends the process at once.
This file itself imports nothing slow.
"""

import gc
import os
import signal
import stat
from typing import Any

# Signals that stop a command, each with Python's own answer: Ctrl-C, what schedulers send before
# they kill, what they send before a time limit if asked to, and the end of a terminal.
DEFAULTS = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGUSR1: signal.SIG_DFL,
    signal.SIGHUP: signal.SIG_DFL,
}

_remedy = "; the same command continues"  # what to do about an interruption


def look_rarely_for_garbage() -> None:
    """Leave it, mostly: tracing a step makes a million objects that are none.

    Looking at them all the time would take a tenth of the start.
    """
    gc.set_threshold(100_000, 50, 100)


def begin(*, continues: bool = True) -> None:
    """Answer the signals that stop a command, and ask for huge pages and for rare looks at garbage.

    What somebody else answers is left alone, and so is what is ignored, as SIGHUP after `nohup`.

    Args:
      continues: whether the same command continues after an interruption, which is then said.
    """
    look_rarely_for_garbage()
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


def to_nowhere(*outputs: int) -> None:
    """Have file descriptors write nowhere from here on."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for output in outputs:
        os.dup2(nowhere, output)
    os.close(nowhere)


def end_at_once(number: int, frame: Any = None) -> None:
    """Handle a signal: end the process with status 130 for Ctrl-C, 143 for the others."""
    kind, status = ("interrupted", 130) if number == signal.SIGINT else ("terminated", 143)
    say(f"{kind}{_remedy}")
    os._exit(status)  # files are written atomically: none is torn


def say(text: str) -> None:
    """Write a line of its own to the terminal, in a signal's handler.

    After SIGHUP the terminal may be gone; then nothing that is said from here on may fail.
    """
    try:
        os.write(2, f"\n{text}\n".encode())  # not print: the signal may have come in one
    except OSError:
        to_nowhere(*(each for each in (1, 2) if stat.S_ISCHR(os.fstat(each).st_mode)))
