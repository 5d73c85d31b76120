"""Ctrl-C, SIGTERM and their like at a safe point.

Python raises KeyboardInterrupt wherever it happens to be. Inside JAX that may be a callback that
swallows it, or the middle of a trace, after which the process crashes when it exits. So while a run
is prepared and trained, a signal only asks, and the loop stops between two steps, where it can save
its state. SIGTERM is what schedulers send some time before they kill; SIGUSR1, which they can be
asked to send before a time limit, and SIGHUP, the end of a terminal, mean the same.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import jax

from senet_jax.errors import Terminated
from senet_jax.system import startup
from senet_jax.system.agreement import Agreement
from senet_jax.system.devices import Devices


class Stop:
    """Whether somebody has asked the run to stop.

    Attributes:
      agreed: whether all processes that train together are to stop here and now.
      nothing_to_save: whether a signal may end the command at once; compiling may take minutes.
    """

    def __init__(self, handlers: Mapping[Any, Any] = MappingProxyType({})) -> None:
        self.agreed = False
        self.nothing_to_save = False
        self._handlers = handlers  # by signal, as they were before
        self._signals: list[int] = []

    @property
    def signalled(self) -> bool:
        """Whether this process has been asked to stop."""
        return bool(self._signals)

    @property
    def asked(self) -> bool:
        """Whether this process is to stop at the next safe point."""
        return self.agreed or (self.signalled and jax.process_count() == 1)

    def ask(self, number: int, frame: Any = None) -> None:
        """Handle a signal. A second Ctrl-C ends the process at once; others may come again."""
        is_alone = jax.process_count() == 1
        if self.nothing_to_save and is_alone and self._handlers[number] is startup.end_at_once:
            startup.end_at_once(number)
            return
        self._signals.append(number)
        if self._signals.count(signal.SIGINT) > 1:
            os._exit(130)  # files are written atomically: none is torn
        if len(self._signals) > 1:
            return
        remark = "Ctrl-C again stops at once" if number == signal.SIGINT else "saving what there is"
        startup.say(f"stopping after this step; {remark}")

    def if_asked(self, pending: Any) -> None:
        """Wait for the arrays, so that no computation is in flight, and raise if asked to stop.

        Raises: KeyboardInterrupt after Ctrl-C here, otherwise Terminated.
        """
        if self.asked:
            jax.block_until_ready(pending)
            raise KeyboardInterrupt if self._signals[:1] == [signal.SIGINT] else Terminated

    def if_asked_anywhere(self, devices: Devices, pending: Any) -> None:
        """Do the same in all processes, which wait for one another, if any of them was asked."""
        (self.agreed,) = Agreement(devices)(self.signalled)
        self.if_asked(pending)


@contextlib.contextmanager
def at_safe_points() -> Iterator[Stop]:
    """Answer signals that stop a run only where `Stop.if_asked` is called inside, and at the end.

    Where a signal is not handled as usual (in another thread, in a background job, under another
    handler) nothing is changed for it.
    """
    before = {
        number: handler
        for number, usual in startup.DEFAULTS.items()
        if threading.current_thread() is threading.main_thread()
        and (handler := signal.getsignal(number)) in (usual, startup.end_at_once)
    }
    stop = Stop(before)
    for number in before:
        signal.signal(number, stop.ask)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    stop.if_asked(())
