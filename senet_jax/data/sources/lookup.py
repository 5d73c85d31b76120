"""From a dataset's name to where it lies, whatever kind of name it is."""

import os

from senet_jax.data.sources import digits, folder, hub, names, table, tfds_source
from senet_jax.data.sources.source import Source
from senet_jax.errors import InputError

IN_MEMORY = 4 * 2**30  # bytes of images that are not too many to be kept, where there is a choice


def find(name: str, image: str = "", label: str = "") -> Source:
    """Find a dataset; one of TFDS need not be prepared yet.

    Args:
      image, label: names of features or columns; "" for the dataset's own.

    Raises: InputError if there is none of this name, or it is not (image, label).
    """
    kind, place = names.parted(name)
    path = os.path.abspath(os.path.expanduser(place))
    if kind and not place:
        raise InputError(f"data.name {name!r} lacks what it is of: {kind}: is {names.KINDS[kind]}")
    if kind == "folder":
        if image or label:
            raise InputError(
                f"data.image and data.label have no effect on {name!r}, whose classes are folders: "
                "leave them out"
            )
        return folder.find(name, path)
    if kind == "csv":
        return table.find(name, path, image, label)
    if kind == "hf":
        return hub.find(name, place, image, label)
    if kind == "tfds":
        return tfds_source.find(place if "://" in place else path, image, label)
    try:
        return digits.find(name, image, label) or tfds_source.find(name, image, label)
    except InputError as error:
        if meant := names.meant(name):
            raise InputError(f"{error}; did you mean {meant!r}?") from error
        raise


def is_same(one: str, other: str) -> bool:
    """Whether two names are of the same dataset and config, in whatever version or spelling.

    One that is not there may be the same at another place, and counts as it.
    """
    if one == other or "fake" in (one, other):
        return one == other
    try:
        a, b = (_identity(name) for name in (one, other))
    except InputError:
        return True
    return a == b


def _identity(name: str) -> tuple[str, ...]:
    kind, place = names.parted(name)
    if kind not in ("", "tfds"):
        return (names.absolute(name),)
    if digits.find(name):
        return ("digits",)
    known = tfds_source.describe(place)
    return known.name, known.config


def image_size_for(name: str, wanted: int, otherwise: int, image: str = "", label: str = "") -> int:
    """Choose `image_size` for a dataset, which need not be here yet.

    It is 0, in memory, if all images have the size that is wanted and there is room for them.

    Args:
      wanted: pixels; 0 if the images should be as they are stored.
      otherwise: pixels for images that should be as they are stored but cannot be kept in memory.
      image, label: names of the dataset's features, as for `load_dataset`.

    Raises: InputError for an unknown name, or a dataset that is not (image, label).
    """
    if name != "fake":
        source = find(name, image, label)
        is_right = not wanted or source.image_shape[:2] == (wanted, wanted)
        if is_right and source.image_bytes is not None and source.image_bytes <= IN_MEMORY:
            return 0
    return wanted or otherwise
