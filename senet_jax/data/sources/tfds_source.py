"""TFDS datasets: found by name, prepared, and read. TensorFlow is imported inside functions."""

import contextlib
import dataclasses
import functools
import io
import logging
import math
import operator
import os
import socket
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from senet_jax.data import image_files
from senet_jax.data.sources import features, kept, split_terms, tfds_description
from senet_jax.data.sources.source import Source, numbers
from senet_jax.data.sources.split_terms import Splits
from senet_jax.data.sources.tfds_builder import builder_of, import_tfds, prepared_versions
from senet_jax.data.sources.tfds_description import Description
from senet_jax.data.split import WHOLE, Share
from senet_jax.errors import InputError, first_line
from senet_jax.system import readers

FEW = 1024  # labels that are read at once
AHEAD = 64  # images that are decoded before it is their turn


@dataclasses.dataclass(frozen=True)
class TfdsSource(Source):
    """A TFDS dataset of (image, label) examples.

    Attributes:
      name: the dataset's name as the user wrote it.
      known: what TFDS says of it.
      image_key, label_key: names of the two features.
    """

    name: str
    known: Description
    image_key: str
    label_key: str

    @functools.cached_property
    def builder(self) -> Any:
        """The TFDS builder; this imports TensorFlow."""
        return builder_of(self.name)

    @property
    def splits(self) -> Splits:
        return self.known.splits

    @property
    def image_shape(self) -> tuple[int | None, ...]:
        return self.known.features[self.image_key].shape or ()

    @property
    def image_bytes(self) -> int | None:
        sides = [side for side in self.image_shape if side is not None]
        if len(sides) < len(self.image_shape):
            return None
        return math.prod(sides) * sum(map(sum, self.splits.values()))

    @property
    def class_names(self) -> tuple[str, ...]:
        return self._class_names

    @functools.cached_property
    def _class_names(self) -> tuple[str, ...]:
        """One name per label, from 0 on; the number itself where TFDS has no name for it.

        Where labels are plain numbers, those of all splits are read through to count the classes.

        Raises: InputError for numbers that are no classes.
        """
        label = self.known.features[self.label_key]
        if label.num_classes:
            return label.names or numbers(label.num_classes)
        labels = np.concatenate([self.labels(split) for split in self.splits])
        return numbers(features.count_classes(labels, self.name))

    def labels(self, split: str) -> np.ndarray:
        return self._kept(self.label_key, split, lambda: self.first_labels(split, -1))

    def images(self, split: str) -> np.ndarray:
        return self._kept(self.image_key, split, lambda: self._decoded(split))

    def in_reading_order(self, split: str) -> Iterator[tuple[str, range]]:
        return split_terms.in_reading_order(self.places(split), self.splits, self.known.cycle)

    def first_labels(self, split: str, most: int) -> np.ndarray:
        """The first labels of a split expression, in the order of its files, [N] int64.

        Args:
          most: the greatest number of them; -1 for all.
        """
        records = self._read(split, {self.label_key}, read_config=_in_order())
        labels = records.map(lambda record: record[self.label_key]).take(most).batch(FEW)
        return np.concatenate([*labels.as_numpy_iterator()]).astype(np.int64)

    def _kept(self, key: str, split: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        place = f"tfds {self.known.folder} {split}"
        (array,) = kept.arrays(place, self.known.stamp, [key], lambda: [make()])
        return array

    def _decoded(self, split: str) -> np.ndarray:
        """The images of a split in the order of its files, read by Pillow as all others are."""
        records = self.encoded(split, read_config=_in_order()).map(lambda r: r[self.image_key])
        shape: Any = self.image_shape
        images = np.empty((self.count(split), *shape), np.uint8)

        def decode(encoded: bytes) -> np.ndarray | None:
            try:
                opened = image_files.open_image(io.BytesIO(encoded))
            except InputError:
                return None
            return image_files.pixels(opened, shape[-1])

        decoded = readers.in_order(decode, records.as_numpy_iterator(), AHEAD)
        for place, image in enumerate(decoded):
            if not isinstance(image, np.ndarray) or image.shape != shape:
                raise InputError(
                    f"split {split!r} of {self.name!r} has an image that cannot be decoded, or has "
                    f"not the shape {shape} of the others; set data.image_size to stream it"
                )
            images[place] = image
        return images

    def encoded(self, split: str, share: Share = WHOLE, **options: Any) -> Any:
        """The tf.data dataset of encoded images and labels of a process's share of a split.

        Args:
          **options: arguments of TFDS's `as_dataset`.
        """
        keys = {self.image_key, self.label_key}
        own = {self.image_key: import_tfds().decode.SkipDecoding()}
        if share == WHOLE:
            return self._read(split, keys, own, **options)
        part = self._part(split, share.of_examples(self.count(split)))
        if part is None:  # which TFDS refuses to read
            return self._read(split, keys, own, **options).take(0)
        return self._read(part, keys, own, **options)

    def _read(self, split: Any, keys: set[str], decoders: Any = None, **options: Any) -> Any:
        """The tf.data dataset of some features of a split, or of a part of one."""
        partial = import_tfds().decode.PartialDecoding(keys, decoders=decoders)
        with _no_notices():  # TFDS warns of what it calls itself
            return self.builder.as_dataset(split=split, decoders=partial, **options)

    def _part(self, split: str, places: range) -> Any:
        """An instruction to read some places of a split; None where there are none.

        `tfds.even_splits` divides each term of a sum of splits ("train+validation") by itself, so
        that shares differ by as many examples as there are terms: one would run dry.
        """
        instruction = import_tfds().core.ReadInstruction
        parts, start = [], 0
        for name, term in self.places(split):
            taken = term[max(0, places.start - start) : max(0, places.stop - start)]
            if taken:
                parts.append(instruction(name, from_=taken.start, to=taken.stop, unit="abs"))
            start += len(term)
        return functools.reduce(operator.add, parts) if parts else None


def sequences(name: str, split: str, key: str) -> list[np.ndarray]:
    """The values of a feature with several numbers an example, in the order of the split."""
    source = prepare(find(name))
    read = source._read(split, {key}, read_config=_in_order())
    return [np.asarray(example[key]) for example in read.as_numpy_iterator()]


def _in_order() -> Any:
    """Options to read the records of one file after those of the other."""
    # TFDS would cache what is small, and warns if that is not read to the end.
    return import_tfds().ReadConfig(try_autocache=False, interleave_cycle_length=1)


def find(name: str, image: str = "", label: str = "") -> TfdsSource:
    """Find a dataset by its name in TFDS spelling, with config and version if wanted.

    It need not be prepared yet. The name may also be the folder of a prepared dataset.

    Args:
      image, label: names of the two features; "" for the dataset's own.

    Raises:
      InputError: an unknown name, or a dataset that is not (image, label).
    """
    known = describe(name)
    return TfdsSource(
        name, known, *features.choose(known.features, known.supervised, name, image, label)
    )


def describe(name: str) -> Description:
    """What TFDS says of a dataset, prepared or not. Raises: InputError for an unknown name."""
    return tfds_description.find(name) or Description.of_builder(builder_of(name))


def is_here(name: str) -> bool:
    """Whether a dataset of TFDS is prepared. Raises: InputError as `find`."""
    return _is_prepared(find(name).builder)


def prepare(source: TfdsSource) -> TfdsSource:
    """Download and prepare a dataset, unless that was done before, and return its source.

    Of several processes that come at once, one does it, and the others wait.

    Raises: InputError if that fails.
    """
    if tfds_description.find(name := source.name):
        return source
    builder = source.builder
    if _is_prepared(builder):
        source.known.keep(name)
        return source
    directory = builder.data_dir_root
    missing = f"dataset {name!r} is not in {directory} and cannot be downloaded"
    remedy = (
        f"prepare it on a machine with network access (`tfds build {name}`) and set TFDS_DATA_DIR"
        f"{prepared_versions(name)}"
    )
    if unreachable := _unreachable_host(builder.url_infos or ()):
        raise InputError(f"{missing} ({unreachable} is not reachable): {remedy}")
    try:
        with _alone(builder):
            # A builder does not notice what another process has prepared meanwhile.
            source = find(name, source.image_key, source.label_key)
            if not _is_prepared(source.builder):
                source.builder.download_and_prepare()
        source = find(name, source.image_key, source.label_key)
        source.known.keep(name)
        return source
    except OSError as error:
        raise InputError(f"{missing} ({first_line(error)}): {remedy}") from error
    except Exception as error:
        # TFDS has no common base class: checksum mismatches, manual downloads, disk space, ...
        raise InputError(
            f"dataset {name!r} cannot be prepared: {first_line(error)}{prepared_versions(name)}"
        ) from error


def _unreachable_host(urls: Any) -> str | None:
    """The first download host that does not resolve. TFDS would retry for minutes first."""
    if urllib.request.getproxies():  # then the proxy resolves names, not this machine
        return None
    for host in sorted({urllib.parse.urlsplit(url).hostname or "" for url in urls} - {""}):
        try:
            socket.getaddrinfo(host, 443)
        except OSError:
            return host
    return None


def _is_prepared(builder: Any) -> bool:
    """Whether a dataset is there with its splits, which TFDS writes a moment after its folder."""
    with _no_notices():  # that a dataset has no folder yet
        return builder.is_prepared() and bool(builder.info.splits)


def _alone(builder: Any) -> Any:
    """A lock on a dataset's folder, which ends with the process, however that ends."""
    import filelock

    root = os.path.expanduser(builder.data_dir_root)
    if "://" in root:  # a store of objects, which has no locks
        return contextlib.nullcontext()
    os.makedirs(root, exist_ok=True)
    return filelock.FileLock(os.path.join(root, f".{builder.name}.lock"))


@contextlib.contextmanager
def _no_notices() -> Iterator[None]:
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
