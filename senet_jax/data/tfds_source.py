"""Find a TFDS dataset by its name and have it prepared. TensorFlow is imported inside functions."""

import contextlib
import dataclasses
import functools
import io
import itertools
import logging
import math
import operator
import os
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np

from senet_jax.data import features
from senet_jax.data.split import WHOLE, Share
from senet_jax.data.tfds_builder import builder_of, import_tfds, prepared_versions
from senet_jax.errors import InputError, first_line

FEW = 1024  # labels that are read at once


@dataclasses.dataclass(frozen=True)
class TfdsSource:
    """A TFDS builder of (image, label) examples.

    Attributes:
      name: the dataset's name as the user wrote it.
      builder: the TFDS builder.
      image_key, label_key: names of the two features.
    """

    name: str
    builder: Any
    image_key: str
    label_key: str

    @property
    def image(self) -> Any:
        """The feature of the images: `shape` [H, W, C], None where it varies, and `np_dtype`."""
        return self.builder.info.features[self.image_key]

    @property
    def image_bytes(self) -> int | None:
        """Bytes of the images of all splits as arrays; None where their size varies."""
        if None in (shape := self.image.shape):
            return None
        return math.prod(shape) * sum(s.num_examples for s in self.builder.info.splits.values())

    @functools.cached_property
    def class_names(self) -> tuple[str, ...]:
        """One name per label, from 0 on; the number itself where TFDS has no name for it.

        Where labels are plain numbers, those of all splits are read through to count the classes.

        Raises: InputError for numbers that are no classes.
        """
        label = self.builder.info.features[self.label_key]
        if features.is_class_label(label):
            names = tuple(label.names)
            # TFDS loses names that are blank, and then all after them are another class's.
            return names if len(names) == label.num_classes else _numbers(label.num_classes)
        labels = np.concatenate([self.labels(split) for split in self.builder.info.splits])
        return _numbers(features.count_classes(labels, self.name))

    def count(self, split: str) -> int:
        """Number of examples of a split. Raises: InputError if there are none."""
        try:
            terms = [places for _, places in self._terms(split)]
            if terms and all(terms):  # TFDS counts "train[5:3]" as -2
                return sum(map(len, terms))
        except (ValueError, KeyError, AssertionError, AttributeError) as error:
            raise self._no_examples(split) from error
        raise self._no_examples(split)

    def shared(self, one: str, other: str) -> int:
        """Number of examples that are in both of two splits."""
        pairs = itertools.product(self._terms(one), self._terms(other))
        both = [
            range(max(a.start, b.start), min(a.stop, b.stop))
            for (split_of_a, a), (split_of_b, b) in pairs
            if split_of_a == split_of_b
        ]
        return sum(map(len, both))

    def labels(self, split: str, most: int = -1) -> np.ndarray:
        """The first labels of a split, or all [N] int64; nothing else is decoded."""
        config = import_tfds().ReadConfig(try_autocache=False)  # it warns if not read to the end
        records = self._read(split, {self.label_key}, read_config=config)
        labels = records.map(lambda record: record[self.label_key]).take(most).batch(FEW)
        return np.concatenate([*labels.as_numpy_iterator()]).astype(np.int64)

    def examples(
        self, split: str, share: Share = WHOLE, *, decoder: Any = None, **options: Any
    ) -> Any:
        """The tf.data dataset of images and labels of a process's share; nothing else is read.

        Args:
          decoder: decoder of the images in place of TFDS's own.
          **options: arguments of TFDS's `as_dataset`.
        """
        keys = {self.image_key, self.label_key}
        own = None if decoder is None else {self.image_key: decoder}
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
        for name, term in self._terms(split):
            taken = term[max(0, places.start - start) : max(0, places.stop - start)]
            if taken:
                parts.append(instruction(name, from_=taken.start, to=taken.stop, unit="abs"))
            start += len(term)
        return functools.reduce(operator.add, parts) if parts else None

    def _terms(self, split: str) -> list[tuple[str, range]]:
        """The terms of a split expression: the names of splits, and places in them."""
        splits = self.builder.info.splits
        terms = import_tfds().core.ReadInstruction.from_spec(split).to_absolute(splits)
        whole = {name: range(info.num_examples) for name, info in splits.items()}
        return [(t.splitname, whole[t.splitname][t.from_ or 0 : t.to]) for t in terms]

    def _no_examples(self, split: str) -> InputError:
        splits = self.builder.info.splits
        counts = ", ".join(f"{name} ({info.num_examples})" for name, info in splits.items())
        return InputError(
            f"dataset {self.name!r} has no examples in split {split!r}; its splits are {counts}"
        )


def find(name: str, image: str = "", label: str = "") -> TfdsSource:
    """Find a dataset by its name in TFDS spelling, with config and version if wanted.

    It need not be prepared yet. The name may also be the folder of a prepared dataset.

    Args:
      image, label: names of the two features; "" for the dataset's own.

    Raises:
      InputError: an unknown name, or a dataset that is not (image, label).
    """
    builder = builder_of(name)
    return TfdsSource(name, builder, *features.choose(builder, name, image, label))


def prepare(source: TfdsSource) -> TfdsSource:
    """Download and prepare a dataset, unless that was done before, and return its source.

    Of several processes that come at once, one does it, and the others wait.

    Raises: InputError if that fails.
    """
    builder, name = source.builder, source.name
    if _is_prepared(builder):
        return source
    directory = builder.data_dir_root
    missing = f"dataset {name!r} is not in {directory} and cannot be downloaded"
    remedy = (
        f"prepare it on a machine with network access (`tfds build {name}`) and set TFDS_DATA_DIR"
        f"{prepared_versions(name)}"
    )
    if unreachable := _unreachable_host(builder.url_infos or ()):
        raise InputError(f"{missing} ({unreachable} is not reachable): {remedy}")
    # Preparing what is shipped with a package takes a second: no progress bar, no notices.
    try:
        with _alone(builder), _quiet() if builder.name == "digits" else contextlib.nullcontext():
            # A builder does not notice what another process has prepared meanwhile.
            source = find(name, source.image_key, source.label_key)
            if not _is_prepared(source.builder):
                source.builder.download_and_prepare()
            return source
    except OSError as error:
        raise InputError(f"{missing} ({first_line(error)}): {remedy}") from error
    except Exception as error:
        # TFDS has no common base class: checksum mismatches, manual downloads, disk space, ...
        raise InputError(
            f"dataset {name!r} cannot be prepared: {first_line(error)}{prepared_versions(name)}"
        ) from error


def _numbers(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))


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
def _quiet() -> Iterator[None]:
    tfds = import_tfds()
    tfds.disable_progress_bar()
    try:
        with _no_notices(), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        tfds.enable_progress_bar()


@contextlib.contextmanager
def _no_notices() -> Iterator[None]:
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
