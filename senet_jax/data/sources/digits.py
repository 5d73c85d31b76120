"""The dataset `digits`: the 1,797 real hand-written digits that scikit-learn ships.

It makes the first command work offline. Images are 8x8 and grey, from the UCI set by Alpaydin and
Kaynak (1998), https://archive.ics.uci.edu/dataset/80.
"""

import dataclasses
import fnmatch
import functools
import gzip
import hashlib
import importlib.util
import re
from pathlib import Path

import numpy as np
from PIL import Image

from senet_jax.data.sources.source import Listed, numbers
from senet_jax.errors import InputError

VERSION = "1.0.0"
# The source lists writer after writer, so a cut in one place tests mostly on hands not seen in
# training: harder, and therefore more telling, than a shuffled split.
SPLITS = {"train": range(1437), "test": range(1437, 1797)}


@dataclasses.dataclass(frozen=True)
class Digits(Listed):
    """The dataset, by the name that the user wrote."""

    name: str = "digits"

    @property
    def splits(self) -> dict[str, tuple[int]]:
        return {name: (len(places),) for name, places in SPLITS.items()}

    @property
    def class_names(self) -> tuple[str, ...]:
        return numbers(10)

    def labels(self, split: str) -> np.ndarray:
        return _read()[_order(split), -1].astype(np.int64)

    def images(self, split: str) -> np.ndarray:
        return _images(split)

    def open(self, split: str, place: int) -> Image.Image:
        return Image.fromarray(self.images(split)[place, ..., 0]).convert("RGB")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return (8, 8, 1)

    @property
    def image_bytes(self) -> int:
        return 64 * sum(map(len, SPLITS.values()))


def find(name: str, image: str = "", label: str = "") -> Digits | None:
    """The digits, if they are what a name in TFDS spelling means.

    Raises: InputError for another version, or features that they lack.
    """
    match = re.fullmatch(r"[Dd]igits(?:/|:([\d.*]*))?", name)
    if match and match[1] and not fnmatch.fnmatch(VERSION, match[1]):
        raise InputError(f"data.name: dataset {name!r}: the version of the digits is {VERSION}")
    for key, asked in (("image", image), ("label", label)):
        if match and asked not in ("", key):
            raise InputError(
                f"data.{key} {asked!r} is no {key} of dataset {name!r}; it has {key!r}"
            )
    return Digits(name) if match else None


@functools.cache
def _read() -> np.ndarray:
    """The pixels of each digit, row by row, and its class, [1797, 65]."""
    # scikit-learn itself takes two seconds to import, the file no time.
    spec = importlib.util.find_spec("sklearn")
    if spec is None or not spec.submodule_search_locations:
        raise InputError("the digits come with scikit-learn, which is not installed")
    file = Path(spec.submodule_search_locations[0], "datasets", "data", "digits.csv.gz")
    with gzip.open(file, "rt") as lines:
        return np.loadtxt(lines, np.uint8, delimiter=",")


@functools.cache
def _images(split: str) -> np.ndarray:
    # Intensities are whole numbers from 0 to 16; 15 times that is exact and fills a byte.
    return (_read()[_order(split), :-1] * 15).reshape(-1, 8, 8, 1)


def _order(split: str) -> list[int]:
    """The places of a split's examples in the file, in the order that TFDS would give them.

    TFDS sorts examples by the MD5 of the split's name and their number. Runs were made so.
    """
    return sorted(SPLITS[split], key=lambda place: hashlib.md5(f"{split}{place}".encode()).digest())
