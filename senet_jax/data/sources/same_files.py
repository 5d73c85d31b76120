"""Which examples are one image: a file listed again or behind links, and byte-for-byte copies."""

import collections
import hashlib
import logging
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from senet_jax.data.sources import kept
from senet_jax.errors import InputError
from senet_jax.system import readers

READ = 2**30  # bytes of files that are read whole, once per state of theirs, to know them again
MOST = 200_000  # files that are as long as another; of more, copies are not looked for
END = 4096  # bytes; the last ones of a file tell nearly all images apart
AHEAD = 64  # files that are read before it is their turn


class Look(NamedTuple):
    """What the disk says of files.

    Attributes:
      stamp: what changes with them: a digest of their names, sizes and times, see kept.py.
      identities: what is equal for the same file [N] int64.
      sizes: bytes of each [N] int64; 0 for what is no file.
    """

    stamp: str
    identities: np.ndarray
    sizes: np.ndarray

    @classmethod
    def joined(cls, looks: Iterable["Look"]) -> "Look":
        """That of all the files, one after another."""
        stamps, identities, sizes = zip(*looks, strict=True)
        return cls(" ".join(stamps), np.concatenate(identities), np.concatenate(sizes))


def look_at(paths: Iterable[str]) -> Look:
    """Ask the disk once for each file."""
    digest = hashlib.sha256()

    def numbers() -> Iterator[int]:
        for path in paths:
            status = status_of(path)
            state = "" if status is None else kept.state_of(status)
            digest.update(f"{path}\0{state}\n".encode("utf-8", "surrogateescape"))
            yield identity(path, status)
            yield status.st_size if status and stat.S_ISREG(status.st_mode) else 0

    found = np.fromiter(numbers(), np.int64)
    return Look(digest.hexdigest(), found[::2], found[1::2])


def status_of(path: str) -> os.stat_result | None:
    """What the disk says of a file; None if it is not there."""
    try:
        return os.stat(path)
    except (OSError, ValueError):
        return None


def identity(path: str, status: os.stat_result | None) -> int:
    """What is equal for two paths of one file: a hash of its number and of its disk's."""
    usual = os.path.normpath(path)
    if status is None:  # "x/../y" is y, even where there is no x
        status = status_of(usual)
    if status is None or not status.st_ino:  # some disks do not number their files
        return hash(usual)
    # Size and time are of the file, whichever link leads to it; some disks number twice.
    return hash((status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))


def digests(paths: Sequence[str], look: Look) -> np.ndarray | None:
    """A digest of each file [N] int64, 0 for what cannot be read; None above READ bytes in all.

    Args:
      paths: those of the files [N].
      look: what the disk says of them.
    """
    if look.sizes.sum() > READ:
        return None

    def digest(place: int) -> bytes | None:
        return _digest_of_all(paths[place]) if look.sizes[place] else None  # no pipe is opened

    read = readers.in_order(digest, range(len(paths)), AHEAD)
    whole = (found if isinstance(found, bytes) else bytes(8) for found in read)
    return np.fromiter((int.from_bytes(found[:8], "big", signed=True) for found in whole), np.int64)


def originals(paths: Sequence[str], look: Look, known: np.ndarray | None = None) -> np.ndarray:
    """The place of the first file that is the same, or has the same bytes, as each [N] int64.

    Where digests are not known, files of equal size are read, and whole if their ends are equal as
    well. Above MOST of them none is read, which is logged: then copies count as their own files.

    Args:
      paths: those of the files [N].
      look: what the disk says of them.
      known: their `digests`, if there are any.
    """
    _, once, which = np.unique(look.identities, return_index=True, return_inverse=True)
    groups: dict[int, list[int]] = collections.defaultdict(list)
    differs = look.sizes if known is None else known
    for place in np.sort(once).tolist():
        if differs[place]:
            groups[int(differs[place])].append(place)
    alike = [places for places in groups.values() if len(places) > 1]
    original = np.arange(len(paths))
    for places in alike if known is not None else _read_apart(paths, alike):
        original[places] = places[0]
    return original[once][which]


def _read_apart(paths: Sequence[str], groups: Sequence[list[int]]) -> Sequence[list[int]]:
    """Divide groups of places of files as long as each other by what they hold."""
    if (count := sum(map(len, groups))) > MOST:
        message = "copies are not looked for: %d files are as long as another, and %d are read"
        logging.getLogger(__name__).info(message, count, MOST)
        return []
    for digest in (_digest_of_end, _digest_of_all):
        groups = [*_told_apart(paths, groups, digest)]
    return groups


def _told_apart(
    paths: Sequence[str], groups: Sequence[list[int]], digest: Callable[[str], bytes | None]
) -> Iterator[list[int]]:
    """Divide groups of places by a digest of their files; those of one file are left out."""
    places = (place for group in groups for place in group)
    digests = readers.in_order(lambda place: digest(paths[place]), places, AHEAD)
    for group in groups:
        of_digest: dict[bytes, list[int]] = collections.defaultdict(list)
        for place in group:
            if isinstance(found := next(digests), bytes):  # not None, nor a TimeoutError
                of_digest[found].append(place)
        yield from (same for same in of_digest.values() if len(same) > 1)


def _digest_of_end(path: str) -> bytes | None:
    """A digest of the last bytes of a file; None if they cannot be read."""
    try:
        with open(path, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - END))
            return hashlib.sha256(file.read(END)).digest()
    except OSError:
        return None


def _digest_of_all(path: str) -> bytes | None:
    """A digest of a file; None if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return None


def check_labels(
    name: str,
    classes: Sequence[str],
    paths: Sequence[str],
    identities: np.ndarray,
    labels: np.ndarray,
) -> None:
    """Check that a path has one label; links and copies may be there for several.

    Args:
      name: the dataset's name as the user wrote it.
      classes: one name per class.
      paths, identities, labels: those of all examples [N].

    Raises: InputError if one has several.
    """
    # Numbers in an array: a large dataset has millions of files, hardly any of them twice.
    _, first, which = np.unique(identities, return_index=True, return_inverse=True)
    others = first[which]
    for place in map(int, np.flatnonzero(labels != labels[others])):
        other = int(others[place])
        if (path := os.path.normpath(paths[place])) == os.path.normpath(paths[other]):
            raise InputError(
                f"dataset {name!r} has {path} with the labels {classes[labels[other]]!r} and "
                f"{classes[labels[place]]!r}; an image has one label"
            )


def warn(
    name: str,
    paths: Sequence[str],
    original: np.ndarray,
    splits: np.ndarray,
    labels: np.ndarray,
) -> None:
    """Warn of images that are several examples, and name the worst.

    Args:
      name: the dataset's name as the user wrote it.
      paths: those of all examples [N].
      original: see `originals`.
      splits, labels: the number of the split and of the class of each example [N].
    """
    again = np.flatnonzero(original != np.arange(len(original)))
    if not len(again):
        return
    firsts = original[again]
    apart, torn = splits[again] != splits[firsts], labels[again] != labels[firsts]
    worst = int(again[np.argmax(2 * torn + apart)])
    message = (
        "%d of the %d examples of %r are there already, listed again, as links or as copies of the "
        "same bytes: %d in another split, %d with another label; each counts as often; one is %s, "
        "the same as %s"
    )
    counts = np.count_nonzero(apart), np.count_nonzero(torn)
    pair = paths[worst], paths[original[worst]]
    logging.getLogger(__name__).warning(message, len(again), len(paths), name, *counts, *pair)
