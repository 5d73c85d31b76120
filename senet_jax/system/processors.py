"""The processors that this process may use, which need not be all that the machine has.

`taskset`, SLURM and containers give a process some of them. The only file that asks the operating
system for their number, and who comes first.
"""

import contextlib
import math
import os
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")  # microseconds of a period, and the period
SESSION = Path("/proc/self/autogroup")


def usable() -> list[int]:
    """The numbers of the processors in this process's mask; of all where there are no masks."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def threads_of_xla() -> int:
    """The number of threads among which XLA divides its work on a CPU.

    Each adds up a part of a sum, so the last bits of a result depend on their number. It is that of
    the processors in the mask, or what `PJRT_NPROC` or `NPROC` says; a cgroup's quota of time does
    not count.
    """
    for name in ("PJRT_NPROC", "NPROC"):
        number = os.environ.get(name, "")
        if number.isdecimal():
            return max(1, int(number))
    return len(usable())


def at_once() -> int:
    """The number of processors that this process has time for: less than usable in a container."""
    with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = map(int, QUOTA.read_text("ascii").split())  # "max": no number, no quota
        return min(len(usable()), max(1, math.ceil(quota / period)))
    return len(usable())


def be_nice_to_other_sessions() -> None:
    """Let `nice` hold beside the processes of other sessions as it does within a session.

    Linux divides time among sessions before it looks at what is in them (autogroups, sched(7)): a
    process that leads a session has as much as any other, however nice it is.
    """
    if (niceness := os.nice(0)) > 0:
        with contextlib.suppress(OSError):  # no Linux, or none that divides it so
            SESSION.write_text(str(niceness), "ascii")
