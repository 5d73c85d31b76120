"""Which examples are one file: listed again, by another path, or behind links of either kind."""

import logging
import os
from collections.abc import Sequence

import numpy as np

from senet_jax.errors import InputError


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


def check(
    name: str,
    classes: Sequence[str],
    paths: Sequence[str],
    identities: Sequence[np.ndarray],
    labels: np.ndarray,
) -> None:
    """Warn of files that are several examples.

    Args:
      name: the dataset's name as the user wrote it.
      classes: one name per class.
      paths, labels: those of all examples [N], split by split.
      identities: those of the files of each split.

    Raises: InputError if one path has several labels; links may have been made of copies.
    """
    # Numbers in an array: a large dataset has millions of files, hardly any of them twice.
    files = np.concatenate(identities)
    splits = np.repeat(np.arange(len(identities)), [len(of_split) for of_split in identities])
    _, first, which = np.unique(files, return_index=True, return_inverse=True)
    others = first[which]
    again = np.flatnonzero(others != np.arange(len(files)))
    torn = again[labels[again] != labels[others[again]]]
    for place in map(int, torn):
        other = int(others[place])
        if (path := os.path.normpath(paths[place])) == os.path.normpath(paths[other]):
            raise InputError(
                f"dataset {name!r} has {path} with the labels {classes[labels[other]]!r} and "
                f"{classes[labels[place]]!r}; an image has one label"
            )
    if len(again):
        apart = np.count_nonzero(splits[again] != splits[others[again]])
        message = (
            "%d of the %d examples of %r are files that are there already, listed again or as "
            "links: %d in another split, %d with another label; each counts as often"
        )
        logging.getLogger(__name__).warning(message, len(again), len(files), name, apart, len(torn))
