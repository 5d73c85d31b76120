"""Which examples are one file: listed again, by another path, or behind links of either kind."""

import logging
import os
from collections.abc import Sequence

import numpy as np

from senet_jax.errors import InputError


def identity(path: str) -> int:
    """What is equal for two paths of one file: a hash of its number and of its disk's."""
    usual = os.path.normpath(path)
    for each in (path, usual):  # "x/../y" is y, even where there is no x
        try:
            status = os.stat(each)
        except (OSError, ValueError):
            continue
        if status.st_ino:  # some disks do not number their files
            # Size and time are of the file, whichever link leads to it; some disks number twice.
            return hash((status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))
    return hash(usual)


def check(
    name: str,
    classes: Sequence[str],
    paths: Sequence[str],
    splits: Sequence[str],
    labels: Sequence[int],
) -> None:
    """Warn of files that are several examples.

    Args:
      name: the dataset's name as the user wrote it.
      classes: one name per class.
      paths, splits, labels: those of all examples.

    Raises: InputError if one path has several labels; links may have been made of copies.
    """
    # Numbers in an array: a large dataset has millions of files, hardly any of them twice.
    files = np.fromiter(map(identity, paths), np.int64, len(paths))
    _, first, which = np.unique(files, return_index=True, return_inverse=True)
    again = np.flatnonzero(first[which] != np.arange(len(files)))
    apart = torn = 0
    for place, other in zip(map(int, again), map(int, first[which[again]]), strict=True):
        apart += splits[place] != splits[other]
        if labels[place] == labels[other]:
            continue
        torn += 1
        if (path := os.path.normpath(paths[place])) == os.path.normpath(paths[other]):
            raise InputError(
                f"dataset {name!r} has {path} with the labels {classes[labels[other]]!r} and "
                f"{classes[labels[place]]!r}; an image has one label"
            )
    if len(again):
        message = (
            "%d of the %d examples of %r are files that are there already, listed again or as "
            "links: %d in another split, %d with another label; each counts as often"
        )
        logging.getLogger(__name__).warning(message, len(again), len(files), name, apart, torn)
