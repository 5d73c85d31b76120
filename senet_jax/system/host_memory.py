"""The memory of the host: what a training process asks of the C library on Linux.

XLA on a CPU takes the temporary memory of a step, a gigabyte and more, from the system and gives it
back every time. In pages of 4 kB, a fifth to a quarter of a ResNet-50 step are page faults.
"""

import contextlib
import ctypes
import os
import resource
import sys
from pathlib import Path
from typing import Any

TUNABLE = "glibc.malloc.hugetlb"
MEMORY, LIMIT = Path("/proc/meminfo"), Path("/sys/fs/cgroup/memory.max")
FORGET = Path("/proc/self/clear_refs")
CHOICES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def use_huge_pages() -> None:
    """Start this command again with huge pages for large allocations, as NumPy has for its arrays.

    glibc reads its tunables only when a process starts. The process keeps its number and its
    arguments; `GLIBC_TUNABLES=glibc.malloc.hugetlb=0` in the environment prevents it. Call before
    anything that is slow to import.
    """
    if tunables := tunables_for_huge_pages(os.environ.get("GLIBC_TUNABLES", "")):
        for stream in filter(None, (sys.stdout, sys.stderr)):  # None: closed by whoever started it
            stream.flush()
        environment = os.environ | {"GLIBC_TUNABLES": tunables}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def tunables_for_huge_pages(current: str) -> str | None:
    """The tunables `current` and huge pages; None if they are in it, or not on offer here."""
    try:
        on_request = "[madvise]" in CHOICES.read_text("ascii")
        _, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition("glibc ")
        has_tunable = tuple(int(number) for number in version.split(".")[:2]) >= (2, 35)
    except (OSError, ValueError, AttributeError):
        return None
    if not (on_request and has_tunable) or TUNABLE in current:
        return None
    return ":".join(filter(None, (current, f"{TUNABLE}=1")))


def available() -> int:
    """The bytes that are free here, as far as Linux says; those of the whole machine elsewhere."""
    try:
        lines = dict(line.split(":") for line in MEMORY.read_text("ascii").splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, ValueError, KeyError):
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError, ValueError):  # a container's limit; "max": none
        free = min(free, int(LIMIT.read_text("ascii")))
    return free


def forget_peak() -> None:
    """Begin the peak memory of this process anew, which Linux keeps: another run is to begin."""
    with contextlib.suppress(OSError):  # another system, or one that forbids it
        FORGET.write_text("5", "ascii")


def peak() -> int:
    """The most bytes of memory that this process has had, since `forget_peak` where that works."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most * (1 if sys.platform == "darwin" else 1024)


def release_after_compilation() -> None:
    """From now on, give the memory of the compiler back after each long compilation.

    Its heap, more than a gigabyte for SE-ResNeXt-50, would be kept beside the memory of the steps.
    """
    import jax

    trim = None
    with contextlib.suppress(OSError, TypeError, AttributeError):
        trim = ctypes.CDLL(None).malloc_trim
    if trim is None:
        return

    def listener(event: str, duration_secs: float, **_: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration" and duration_secs > 1:
            trim(0)

    jax.monitoring.register_event_duration_secs_listener(listener)
