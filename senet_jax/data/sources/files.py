"""Datasets of image files, any of which can be opened: of folders, tables and Hugging Face.

A split's examples are in the order of the MD5 of its name and their keys, such as file names, as
TFDS orders its examples. So a slice, "train[:80%]", is a fair sample even of files that are listed
class by class.

The file is long because what labels mean is the same for all three, and refused in many ways.
"""

import dataclasses
import functools
import hashlib
import math
import re
import unicodedata
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from senet_jax.data import image_files
from senet_jax.data.sources import features, kept, same_files
from senet_jax.data.sources.names import absolute
from senet_jax.data.sources.source import Listed, numbers
from senet_jax.data.sources.split_terms import Splits
from senet_jax.errors import InputError
from senet_jax.system import readers

# Names for splits, and what a split of that name is called here. Of a dataset with one of "val" and
# "test" alone, all names for either mean that one.
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
ONE_IN = 5  # where there are no splits, the share of the images that are in "test"
WHOLE = re.compile(r"(-?[0-9]{1,18})(?:\.0*)?")  # a whole number, as tables with gaps write it, too
AHEAD = 64  # images that are looked at before it is their turn


class Example(NamedTuple):
    """An example of a dataset.

    Attributes:
      file: what `Files.read` takes, a path, say.
      label: number of its class.
      key: a name of its own, which decides its place in the order.
      split: the split that it is in; "" where there are none.
    """

    file: Any
    label: int
    key: str
    split: str


class Examples(NamedTuple):
    """The examples of a split.

    Attributes:
      files: what `Files.read` takes of each, a path, say.
      labels: classes [N] int64.
      look: what the disk says of them; None where these are no files here.
      identities: what is equal for the same image, copies among them [N] int64; None likewise.
      digests: what tells the contents of the files apart [N] int64: digests, or sizes where there
        is too much to read; None likewise.
    """

    files: Sequence[Any]
    labels: np.ndarray
    look: same_files.Look | None = None
    identities: np.ndarray | None = None
    digests: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Files(Listed):
    """A dataset of image files.

    Attributes:
      name: the dataset's name as the user wrote it.
      names: one name per class.
      examples: the splits by name.
      stamp: what changes with the files; see kept.py.
      read: the image of one of `Examples.files`; raises an InputError that names it.
      header: height, width and whether it is grey, of the same, from its header; raises alike.
    """

    name: str
    names: tuple[str, ...]
    examples: Mapping[str, Examples]
    stamp: Any
    read: Callable[[Any], Image.Image] = image_files.open_image
    header: Callable[[Any], tuple[int, int, bool]] = image_files.header

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.names

    @property
    def splits(self) -> Splits:
        return {name: (len(found.labels),) for name, found in self.examples.items()}

    @property
    def other_names(self) -> Mapping[str, str]:
        held_out = [name for name in ("val", "test") if name in self.examples]
        return {
            name: held_out[0] if usual != "train" and len(held_out) == 1 else usual
            for name, usual in SPLITS.items()
            if name not in self.examples
        }

    def labels(self, split: str) -> np.ndarray:
        return self.examples[split].labels

    def record(self, split: str, place: int) -> Hashable:
        look = self.examples[split].look
        return super().record(split, place) if look is None else look.identities[place]

    def identity(self, split: str, place: int) -> Hashable:
        known = self.examples[split].identities
        return super().identity(split, place) if known is None else known[place]

    def contents(self, split: str) -> np.ndarray | None:
        terms = self.places(split)
        known = [(self.examples[name].digests, places) for name, places in terms]
        found = [part[of.start : of.stop] for part, of in known if part is not None]
        return np.concatenate(found) if len(found) == len(terms) else None

    def open(self, split: str, place: int) -> Image.Image:
        return self.read(self.examples[split].files[place])

    @property
    def image_shape(self) -> tuple[int | None, ...]:
        """[H, W, C]; one channel where all files are grey. Unreadable files do not count."""
        return self._image_shape

    @functools.cached_property
    def _image_shape(self) -> tuple[int | None, ...]:
        place = f"files {absolute(self.name)}"
        (found,) = kept.arrays(place, self.stamp, ["shape"], lambda: [self._common_shape()])
        return tuple(int(side) or None for side in found)

    def _common_shape(self) -> np.ndarray:
        """[H, W, C] of all images; H and W are 0 where they differ."""

        def look(file: Any) -> tuple[int, int, bool] | InputError:
            try:
                return self.header(file)
            except InputError as error:
                return error

        every = (file for found in self.examples.values() for file in found.files)
        size, is_grey, header = None, True, None
        for header in readers.in_order(look, every, AHEAD):
            if not isinstance(header, tuple):
                continue
            size, is_grey = size or header[:2], is_grey and header[2]
            if size != header[:2]:  # there is no need to look at all of a large dataset
                return np.array([0, 0, 3])
        if size is None:
            raise InputError(f"no image of dataset {self.name!r} can be read; the last: {header}")
        return np.array([*size, 1 if is_grey else 3])

    @property
    def image_bytes(self) -> int | None:
        sides = [side for side in self.image_shape if side is not None]
        count = sum(map(sum, self.splits.values()))
        return math.prod(sides) * count if len(sides) == 3 else None

    def images(self, split: str) -> np.ndarray:
        return self._decoded(split)[0]

    def unreadable(self, split: str) -> np.ndarray:
        return self._decoded(split)[1].astype(bool)

    def why_unreadable(self, split: str, place: int) -> str:
        try:
            size = self.open(split, place).size
        except InputError as error:
            return str(error)
        others = f"not {self.image_shape[1]} x {self.image_shape[0]} as the others"
        return f"{self.examples[split].files[place]} has {size[0]} x {size[1]} pixels, {others}"

    @functools.cached_property
    def _in_memory(self) -> dict[str, list[np.ndarray]]:
        """What `_decoded` has given: to check its sum takes as long as to read it."""
        return {}

    def _decoded(self, split: str) -> list[np.ndarray]:
        """The images of a split, and whether each is unreadable; then it is black."""
        if split in self._in_memory:
            return self._in_memory[split]

        def make() -> list[np.ndarray]:
            shape: Any = self.image_shape
            files = self.examples[split].files
            image = np.zeros((len(files), *shape), np.uint8)
            bad = np.zeros(len(files), np.uint8)

            def decode(file: Any) -> np.ndarray | None:
                try:
                    return image_files.pixels(self.read(file), shape[-1])
                except InputError:
                    return None

            for place, found in enumerate(readers.in_order(decode, files, AHEAD)):
                if isinstance(found, np.ndarray) and found.shape == shape:
                    image[place] = found
                else:
                    bad[place] = 1
            return [image, bad]

        place = f"files {absolute(self.name)} {split}"
        self._in_memory[split] = kept.arrays(place, self.stamp, ["image", "bad"], make)
        return self._in_memory[split]


def is_held_out(key: str) -> bool:
    """Whether an example is in "test", where its dataset has no splits: for good, by its key."""
    return int.from_bytes(_digest(key)[:8], "big") % ONE_IN == 0


def _digest(text: str) -> bytes:
    return hashlib.md5(text.encode("utf-8", "surrogateescape")).digest()


def check_classes(name: str, names: Sequence[str]) -> tuple[str, ...]:
    """The names of classes, as text that is written in one way.

    Raises: InputError for fewer than two, for names that look alike, and for no text.
    """
    known: dict[str, str] = {}
    for each in names:
        try:
            each.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"dataset {name!r}: the name of the class {each!r} is no text"
            ) from error
        text = unicodedata.normalize("NFC", each)
        if (other := known.setdefault(" ".join(text.casefold().split()), each)) != each:
            usual = unicodedata.normalize("NFC", other)
            form = "case alone" if usual.casefold() == text.casefold() else "spaces or case alone"
            if usual == text:
                form = f"the form of their letters in Unicode alone ({other!a}, {each!a})"
            raise InputError(
                f"dataset {name!r}: the names of the classes {other!r} and {each!r} differ in "
                f"{form}: make them one, or give one another name"
            )
    if len(known) < 2:
        there = f"one class, {names[0]!r}" if names else "no class"
        raise InputError(f"dataset {name!r} has {there}: there must be two to tell apart")
    return tuple(unicodedata.normalize("NFC", each) for each in names)


def classes_of(name: str, labels: Sequence[Any]) -> tuple[tuple[str, ...], list[int]]:
    """The names of classes, and labels as their numbers; they come as numbers or as text.

    Text that is whole numbers throughout, also written as 2.0, counts as these. Classes of text
    are in the order of their names.

    Raises: InputError as `check_classes`, for numbers that are no classes, and for several texts of
    one number, such as "7" and "007": they may be codes.
    """
    texts = [str(label).strip() for label in labels]
    whole = [WHOLE.fullmatch(text) for text in texts]
    if texts and all(whole):
        digits = [match[1] for match in whole if match]
        found = [int(text) for text in digits]
        written: dict[int, str] = {}
        for number, text in zip(found, digits, strict=True):
            if (other := written.setdefault(number, text)) != text:
                raise InputError(
                    f"dataset {name!r} has the labels {other!r} and {text!r}, which are one "
                    "number: write each class in one way, and codes with a letter, as in 'c007'"
                )
        count = features.count_classes(np.array(found), name)
        return check_classes(name, numbers(count)), found
    names = sorted(set(texts))
    place = {text: number for number, text in enumerate(names)}
    return check_classes(name, names), [place[text] for text in texts]


def assemble(
    name: str,
    names: tuple[str, ...],
    examples: Sequence[Example],
    stamp: Any = None,
    **how: Any,
) -> Files:
    """Make a dataset of its examples; where none is in a split, `is_held_out` decides.

    Args:
      name: the dataset's name as the user wrote it.
      names: one name per class.
      stamp: what changes with the examples; needed where these are no files here.
      **how: `read` and `header` of Files.
    """
    splits: dict[str, list[Example]] = {}
    are_in_splits = any(example.split for example in examples)
    for one in examples:
        usual = one.split if are_in_splits else "test" if is_held_out(one.key) else "train"
        splits.setdefault(usual, []).append(one)
    known = [*SPLITS]
    found = {}
    for split in sorted(splits, key=lambda s: (known.index(s) if s in known else 9, s)):
        ordered = sorted(splits[split], key=lambda one: _digest(split + one.key))
        label = np.array([one.label for one in ordered], np.int64)
        found[split] = Examples([one.file for one in ordered], label)
    if stamp is None:
        found = _looked_at(name, names, found)
        stamp = [part.look.stamp for part in found.values() if part.look]
    return Files(name, names, found, stamp, **how)


def _looked_at(
    name: str, names: Sequence[str], splits: Mapping[str, Examples]
) -> dict[str, Examples]:
    """Splits of files on this disk, looked at; warns of images that are several examples.

    Raises: InputError if a path has several labels.
    """
    looks = [same_files.look_at(part.files) for part in splits.values()]
    look = same_files.Look.joined(looks)
    paths = [path for part in splits.values() for path in part.files]
    labels = np.concatenate([part.labels for part in splits.values()])
    same_files.check_labels(name, names, paths, look.identities, labels)

    def find() -> list[np.ndarray]:
        digests = same_files.digests(paths, look)
        original = same_files.originals(paths, look, digests)
        return [original, look.sizes if digests is None else digests]

    place, parts = f"contents {absolute(name)}", ["original", "digests"]
    original, digests = kept.arrays(place, look.stamp, parts, find)
    counts = [len(part.labels) for part in splits.values()]
    same_files.warn(name, paths, original, np.repeat(np.arange(len(counts)), counts), labels)
    ends = np.cumsum(counts)[:-1]
    same, contents = (np.split(each, ends) for each in (look.identities[original], digests))
    return {
        split: splits[split]._replace(look=looks[n], identities=same[n], digests=contents[n])
        for n, split in enumerate(splits)
    }
