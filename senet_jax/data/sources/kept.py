"""Arrays that are made once and kept on disk: a dataset's images, decoded, and what is known of it.

A file is an array as NumPy writes it, and after it the SHA-256 of the array and its stamp. The
stamp says what the array was made of; a file of another one, or a damaged one, counts as missing.
Files are mapped into memory, so that all processes on a machine share what they read of them. They
lie in the user's cache, see system/cache_folder.py; where that cannot be written nothing is kept.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from senet_jax.system import cache_folder

FOLDER = "datasets"
RULES = 1  # to be raised where the same data are decoded to something else


def arrays(
    place: str, stamp: Any, names: Sequence[str], make: Callable[[], Sequence[np.ndarray]]
) -> list[np.ndarray]:
    """Arrays by their names, read from the cache, or made and kept there. They are read-only.

    Of several processes that come at once, one makes them, and the others wait.

    Args:
      place: what the arrays are of; a later version of it takes the place of the one before.
      stamp: values, as JSON has them, that differ if the arrays do; None keeps nothing.
      make: makes the arrays, in the order of their names.
    """
    places = [f"{place} {name}" for name in names]

    def found() -> list[np.ndarray]:
        loaded = [load(one, stamp) for one in places]
        return [array for array in loaded if array is not None]

    if len(known := found()) == len(names):
        return known
    with _alone(place) if stamp is not None else contextlib.nullcontext():
        if len(known := found()) == len(names):
            return known
        made = list(make())
        for one, array in zip(places, made, strict=True):
            array.flags.writeable = False
            save(one, stamp, array)
    # What could be kept is read from there, so that the memory it was made in is free again.
    return known if len(known := found()) == len(names) else made


def state_of(status: os.stat_result) -> tuple[int, int, int]:
    """What changes with a file: its size, its time, and when anything of it was changed last.

    Whoever copies or unpacks a file may set its time; the last is the system's own.
    """
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def load(place: str, stamp: Any) -> np.ndarray | None:
    """The array that is kept for a place, mapped into memory; None if that is not of this stamp."""
    if stamp is None or (path := _path(place)) is None:
        return None
    try:
        array = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
        with path.open("rb") as file:
            file.seek(-hashlib.sha256().digest_size, os.SEEK_END)
            return array if file.read() == _sum(array, stamp) else None
    except Exception:  # whatever comes of a damaged file
        return None


def save(place: str, stamp: Any, array: np.ndarray) -> None:
    """Keep an array, atomically, if the disk takes it."""
    if stamp is None or (path := _path(place)) is None:
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            np.lib.format.write_array(file, array, allow_pickle=False)
            file.write(_sum(array, stamp))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _path(place: str) -> Path | None:
    folder = cache_folder.own_folder(FOLDER)
    name = hashlib.sha256(place.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return folder and folder / f"{name}.npy"


def _sum(array: np.ndarray, stamp: Any) -> bytes:
    about = json.dumps([stamp, RULES, array.dtype.str, array.shape], sort_keys=True)
    digest = hashlib.sha256(about.encode("utf-8", "surrogateescape"))
    digest.update(np.ascontiguousarray(array).view(np.uint8).data if array.size else b"")
    return digest.digest()


def _alone(place: str) -> contextlib.AbstractContextManager[Any]:
    """A lock on a place, which ends with the process, however that ends; none without a cache."""
    import filelock

    if (path := _path(place)) is None:
        return contextlib.nullcontext()
    lock = filelock.FileLock(path.with_suffix(".lock"))
    try:
        lock.acquire()
    except (OSError, NotImplementedError):
        return contextlib.nullcontext()
    stack = contextlib.ExitStack()
    stack.callback(lock.release)
    return stack
