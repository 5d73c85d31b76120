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
    labels: np.ndarray,
) -> None:
    """Warn of files that are several examples.

    Args:
      name: the dataset's name as the user wrote it.
      classes: one name per class.
      paths, splits: those of all examples.
      labels: numbers of their classes [N].

    Raises: InputError if one path has several labels; links may have been made of copies.
    """
    # Numbers in an array: a large dataset has millions of files, hardly any of them twice.
    files = np.fromiter(map(identity, paths), np.int64, len(paths))
    _, first, which = np.unique(files, return_index=True, return_inverse=True)
    first = first[which]
    again = np.flatnonzero(first != np.arange(len(files)))
    for place in again:
        one, other = (os.path.normpath(paths[each]) for each in (first[place], place))
        labelled = [classes[labels[each]] for each in (first[place], place)]
        if one == other and labelled[0] != labelled[1]:
            raise InputError(
                f"dataset {name!r} has {other} with the labels {labelled[0]!r} and "
                f"{labelled[1]!r}; an image has one label"
            )
    if len(again):
        apart = sum(splits[place] != splits[first[place]] for place in again)
        message = (
            "%d of the %d examples of %r are files that are there already, listed again or as "
            "links: %d in another split, %d with another label; each counts as often"
        )
        torn = int(np.sum(labels[first[again]] != labels[again]))
        logging.getLogger(__name__).warning(message, len(again), len(files), name, apart, torn)
