"""A lock for one process at a time in a work directory, and a sign of life for whoever watches.

`.lock` is locked by flock, which ends with its process, however that ends. Where machines share a
file system that does not pass such locks on, the sign of life counts: `process.json`, which is
touched every BEAT seconds.
"""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from senet_jax.errors import InputError, Occupied
from senet_jax.system import files

BEAT = 10.0  # seconds between two signs of life
PATIENCE = 6  # beats without one after which a process looks dead, by clocks that may differ
WATCH = 2.5  # beats for which a process is watched before its place is taken
LOCK, PROCESS = ".lock", "process.json"


@contextlib.contextmanager
def held(directory: Path, **about: Any) -> Iterator[None]:
    """Keep other processes from training in the directory, which is created if needed.

    Args:
      **about: facts of the run for whoever reads process.json, beside the process's host and pid.

    Raises: Occupied if another process trains there; InputError if the directory cannot be written.
    """
    import filelock

    with files.refused(directory):
        directory.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(directory / LOCK, timeout=0)
    try:
        # A file system without locks has the sign of life alone; one that cannot be written, or is
        # full, says so where the run's own files are written.
        try:
            lock.acquire()
        except filelock.Timeout:
            raise _occupied(directory) from None
        except OSError:
            pass
        if _breathes_elsewhere(directory):
            raise _occupied(directory)
        with _breathing(directory / PROCESS, about):
            yield
    finally:
        lock.release()


def last_process(directory: Path) -> dict[str, Any]:
    """Facts of the process that trains there, or trained last, as `held` wrote them; {} for none.

    "alive" is whether it has given a sign of life of late, by the clocks of the file system and
    this machine; "reason" is what went wrong, if anything did.
    """
    facts = files.read_table(directory / PROCESS)
    if facts is None:
        return {}
    for key, kind in {"host": str, "pid": int, "ended": bool}.items():
        if not isinstance(facts.get(key), kind):
            raise InputError(f"{directory / PROCESS} is damaged: it does not say the {key}")
    silent = time.time() - _last_beat(directory)
    return {**facts, "alive": not facts["ended"] and silent < BEAT * PATIENCE}


def _occupied(directory: Path) -> Occupied:
    last = last_process(directory)
    who = f", {last['pid']} on {last['host']}," if last else ""
    return Occupied(f"another process{who} is training in {directory}")


def _last_beat(directory: Path) -> float:
    """Time of the last sign of life, in seconds since 1970."""
    # NFS asks the server when a file is opened; names and times that it knows it keeps for longer.
    with contextlib.suppress(FileNotFoundError), (directory / PROCESS).open("rb") as file:
        return os.fstat(file.fileno()).st_mtime
    return 0.0  # the directory has been removed meanwhile


def _breathes_elsewhere(directory: Path) -> bool:
    """Whether the last process was on another machine and lives; it is watched for a while.

    Clocks are not compared. On this machine the lock has answered already.
    """
    last = last_process(directory)
    if not last or last["ended"] or last["host"] == socket.gethostname():
        return False
    before, began = _last_beat(directory), time.monotonic()
    while time.monotonic() - began < BEAT * WATCH:
        time.sleep(BEAT / 10)
        if _last_beat(directory) != before:
            return not last_process(directory).get("ended")
    return False


@contextlib.contextmanager
def _breathing(path: Path, about: Mapping[str, Any]) -> Iterator[None]:
    """Give signs of life inside; say at the end that there will be no more, and what went wrong."""
    facts: dict[str, Any] = {"host": socket.gethostname(), "pid": os.getpid(), **about}
    files.write_json(path, {**facts, "ended": False})
    ended = threading.Event()

    def breathe() -> None:
        while not ended.wait(BEAT):
            with contextlib.suppress(OSError):
                os.utime(path)

    thread = threading.Thread(target=breathe, name="sign of life", daemon=True)
    thread.start()
    try:
        yield
    except Exception as error:
        facts["reason"] = str(error) or type(error).__name__
        raise
    finally:
        ended.set()
        thread.join()
        with contextlib.suppress(InputError):  # a full disk: it will look as if it had been killed
            files.write_json(path, {**facts, "ended": True})
