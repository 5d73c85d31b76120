"""Find a TFDS dataset by its name and have it prepared. TensorFlow is imported inside functions."""

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
from collections.abc import Iterator
from typing import Any

import numpy as np

from senet_jax.data.split import WHOLE, Share
from senet_jax.errors import InputError, did_you_mean, first_line


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

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name per label, from 0 on; the number itself where TFDS has no name for it."""
        label = self.builder.info.features[self.label_key]
        return tuple(label.int2str(index) for index in range(label.num_classes))

    def count(self, split: str) -> int:
        """Number of examples of a split. Raises: InputError if there are none."""
        try:
            terms = [places for _, places in self._terms(split)]
            if terms and all(terms):  # TFDS counts "train[5:3]" as -2
                return sum(map(len, terms))
        except (ValueError, KeyError, AssertionError, AttributeError) as error:
            raise self._no_examples(split) from error
        raise self._no_examples(split)

    def check_labels(self, split: str) -> None:
        """Raises: InputError if the label of the first example is no class.

        Datasets of competitions come with test images whose labels, -1, nobody has published.
        """
        decoders = {self.image_key: import_tfds().decode.SkipDecoding()}
        config = import_tfds().ReadConfig(try_autocache=False)  # it warns if not read to the end
        (first,) = self.builder.as_dataset(split=split, decoders=decoders, read_config=config).take(
            1
        )
        label, classes = int(first[self.label_key]), len(self.class_names)
        if not 0 <= label < classes:
            raise InputError(
                f"dataset {self.name!r} has label {label} in split {split!r}, which is none of its "
                f"{classes} classes; are its labels published?"
            )

    def examples(self, split: str, share: Share = WHOLE, **options: Any) -> Any:
        """The tf.data dataset of a process's share of a split; nothing else is read.

        Args:
          **options: arguments of TFDS's `as_dataset`.
        """
        if share == WHOLE:
            return self.builder.as_dataset(split=split, **options)
        part = self._part(split, share.of_examples(self.count(split)))
        if part is None:  # which TFDS refuses to read
            return self.builder.as_dataset(split=split, **options).take(0)
        return self.builder.as_dataset(split=part, **options)

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


def find(name: str) -> TfdsSource:
    """Find a dataset by its name in TFDS spelling, with config and version if wanted.

    It need not be prepared yet.

    Raises:
      InputError: an unknown name, or a dataset that is not (image, label).
    """
    builder = _builder(name)
    features = dict(builder.info.features)
    image_key, label_key, *_ = builder.info.supervised_keys or ("", "")
    types = tuple(type(features.get(key)).__name__ for key in (image_key, label_key))
    if types != ("Image", "ClassLabel"):
        raise InputError(f"dataset {name!r} is not an image-classification dataset (image, label)")
    if features[image_key].np_dtype != np.uint8:
        raise InputError(
            f"dataset {name!r} has images of {features[image_key].np_dtype}, not uint8"
        )
    return TfdsSource(name, builder, image_key, label_key)


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
    )
    if unreachable := _unreachable_host(builder.url_infos or ()):
        raise InputError(f"{missing} ({unreachable} is not reachable): {remedy}")
    # Preparing what is shipped with a package takes a second: no progress bar, no notices.
    try:
        with _alone(builder), _quiet() if builder.name == "digits" else contextlib.nullcontext():
            # A builder does not notice what another process has prepared meanwhile.
            source = find(name)
            if not _is_prepared(source.builder):
                source.builder.download_and_prepare()
            return source
    except OSError as error:
        raise InputError(f"{missing} ({first_line(error)}): {remedy}") from error
    except Exception as error:
        # TFDS has no common base class: checksum mismatches, manual downloads, disk space, ...
        raise InputError(f"dataset {name!r} cannot be prepared: {first_line(error)}") from error


def import_tfds() -> Any:
    """Import TFDS, with TensorFlow quiet and away from the accelerator."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    import tensorflow as tf
    import tensorflow_datasets as tfds

    tf.config.set_visible_devices([], "GPU")
    import senet_jax.data.digits  # noqa: F401  (registers the builder)

    return tfds


def _builder(name: str) -> Any:
    tfds = import_tfds()
    try:
        return tfds.builder(name)
    except tfds.core.DatasetNotFoundError as error:
        near = did_you_mean(name, tfds.list_builders())
        raise InputError(f"data.name: TFDS has no dataset {name!r}{near}") from error
    except Exception as error:
        if "Parsing builder name" in str(error):
            raise InputError(
                f"data.name {name!r} is no name of a dataset; names are like 'cifar10' or "
                "'food101:2.0.0'"
            ) from error
        # No such config or version, or a namespace (huggingface:...) that lacks its packages or its
        # host: TFDS passes on whatever was raised.
        raise InputError(f"data.name: dataset {name!r}: {first_line(error)}") from error


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
