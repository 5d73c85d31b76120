"""Folders and files that may not be opened, as those of other users, also where we are root."""

import contextlib
import ctypes
import struct
from collections.abc import Iterator
from pathlib import Path

VERSION = 0x20080522  # of Linux's structures for capabilities
READS_EVERYTHING = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH


@contextlib.contextmanager
def closed(*paths: Path) -> Iterator[None]:
    """Take away everybody's rights to the paths, and this thread's to go on without them."""
    modes = [path.stat().st_mode for path in paths]
    for path in paths:
        path.chmod(0)
    try:
        with _without_capabilities():
            yield
    finally:
        for path, mode in zip(paths, modes, strict=True):
            path.chmod(mode)


@contextlib.contextmanager
def _without_capabilities() -> Iterator[None]:
    libc = ctypes.CDLL(None, use_errno=True)
    header = ctypes.create_string_buffer(struct.pack("Ii", VERSION, 0))
    had = ctypes.create_string_buffer(24)  # effective, permitted, inheritable; twice
    assert libc.capget(header, had) == 0
    first, *others = struct.unpack("6I", had.raw)
    fewer = ctypes.create_string_buffer(struct.pack("6I", first & ~READS_EVERYTHING, *others))
    assert libc.capset(header, fewer) == 0
    try:
        yield
    finally:
        assert libc.capset(header, had) == 0
