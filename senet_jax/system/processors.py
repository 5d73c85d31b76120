"""The processors that this process may use, which need not be all that the machine has.

`taskset`, SLURM and containers give a process some of them. The only file that asks the operating
system for their number.
"""

import os


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
