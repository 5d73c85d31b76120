"""Files that are whole or missing, also after a power cut."""

import collections
import contextlib
import fnmatch
import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from senet_jax.errors import InputError

ADDRESS = re.compile(r"[A-Za-z][\w+.-]+:/")  # gs://bucket/x, and what `Path` leaves of it


def local_path(text: str) -> str:
    """A path as the user wrote it, with `~` expanded.

    Raises: InputError for an address, of which `Path` would make a folder of this machine.
    """
    if ADDRESS.match(text):
        raise InputError(
            f"{text!r} is an address, not a path of this machine; give a folder or file that is "
            "mounted here"
        )
    return os.path.expanduser(text)


def write(path: Path, content: bytes) -> None:
    """Write a file atomically: a reader, or a restart, sees all of it or what was there before.

    Raises: InputError if it cannot be written, on a full disk, say.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with refused(path):
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        sync(path.parent)


def encoded(text: str) -> bytes:
    """A text as UTF-8; what is no character, of a file's name that is no text, as its code."""
    return text.encode("utf-8", "backslashreplace")


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def append(file: io.FileIO, content: bytes) -> None:
    """Write to the end of a file that was opened without a buffer, where nothing stays pending.

    Raises: InputError if not all of it can be written.
    """
    with refused(Path(str(file.name))):
        while content:
            content = content[file.write(content) or 0 :]


@contextlib.contextmanager
def refused(path: Path) -> Iterator[None]:
    """Turn what the operating system refuses inside into an InputError of one sentence."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from error


def walk(
    root: Path, onerror: Callable[[OSError], None] | None = None
) -> Iterator[tuple[Path, list[str], list[str]]]:
    """`os.walk`, also through links to folders, and into each folder once.

    Links come last, since what can be reached without one has its own name, and none leads to a
    folder that the root is in.
    """
    starts = collections.deque([str(root)])
    seen = {str(above) for above in Path(os.path.realpath(root)).parents}
    while starts:
        for place, folders, names in os.walk(starts.popleft(), onerror=onerror):
            if (real := os.path.realpath(place)) in seen:
                folders.clear()
                continue
            seen.add(real)
            yield Path(place), folders, names
            paths = [os.path.join(place, folder) for folder in sorted(folders)]
            starts += filter(os.path.islink, paths)


def children(
    folder: Path, pattern: str = "*", onerror: Callable[[InputError], None] | None = None
) -> list[Path]:
    """What lies in a folder and has a name like that, in order; nothing if there is no such folder.

    Raises: InputError if the folder may not be opened, which `Path.glob` takes for an empty one;
      `onerror` gets it instead, and there is nothing.
    """
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        closed = InputError(f"{folder} cannot be read: {error.strerror or error}")
        if onerror is None:
            raise closed from error
        onerror(closed)
        return []
    return sorted(folder / name for name in fnmatch.filter(names, pattern))


def check_folder(path: Path, what: str) -> None:
    """Raises: InputError, touching nothing, if a folder, called `what`, cannot be written to."""
    local_path(str(path))
    existing = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        kind = "not writable" if existing.is_dir() else "not a directory"
        raise InputError(f"{what} {path} cannot be written: {existing} is {kind}")


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, atomically. Raises: ValueError for numbers that are not finite."""
    write(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read a JSON file; None if it is missing. Raises: InputError if it is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def read_table(path: Path) -> dict[str, Any] | None:
    """Read a JSON file of keys and values; None if it is missing. Raises: InputError if it is not.

    A run's files are such tables.
    """
    content = read_json(path)
    if isinstance(content, dict):
        return content
    if content is None and not path.exists():
        return None
    raise InputError(f"{path} cannot be read: it must be a table of keys and values")
