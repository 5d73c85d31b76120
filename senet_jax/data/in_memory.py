"""Datasets that fit in memory: read once through TFDS, kept as uint8, batched by index.

The order of examples is a pure function of (seed, epoch), so a run can continue at any step without
anything about the data being saved.
"""

import contextlib
import dataclasses
import io
import logging
import os
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np

from senet_jax.errors import InputError, did_you_mean

Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Split:
    """image [N, H, W, C] uint8 and label [N] int32."""

    image: np.ndarray
    label: np.ndarray

    def __len__(self) -> int:
        return len(self.label)

    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel over all pixels, in units of 0 to 255."""
        channels = self.image.shape[-1]
        # A histogram of the bytes gives both exactly, without a float copy of the dataset.
        counts = np.stack(
            [np.bincount(self.image[..., c].ravel(), minlength=256) for c in range(channels)]
        )
        values = np.arange(256)
        mean = counts @ values / counts.sum(axis=1)
        variance = counts @ values**2 / counts.sum(axis=1) - mean**2
        # A channel without variation (an alpha channel, say) is centred and left unscaled.
        std = np.where(variance > 0, np.sqrt(np.maximum(variance, 0)), 1.0)
        return tuple(mean.tolist()), tuple(std.tolist())


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A training and an evaluation split with their number of classes."""

    train: Split
    eval: Split
    num_classes: int


def load(name: str, train_split: str, eval_split: str) -> Dataset:
    """Read a TFDS image-classification dataset into memory, preparing it on first use.

    Args:
      name: in TFDS spelling, with config and version if wanted: "digits", "cifar100", "mnist".
      train_split, eval_split: TFDS split expressions, e.g. "train[:90%]".

    Raises:
      InputError: unknown name or split, no data and no way to get it, images that are not of one
        size, or a dataset that is not (image, label).
    """
    builder = _builder(name)
    features = dict(builder.info.features)
    image_key, label_key, *_ = builder.info.supervised_keys or ("", "")
    types = tuple(type(features.get(key)).__name__ for key in (image_key, label_key))
    if types != ("Image", "ClassLabel"):
        raise InputError(f"dataset {name!r} is not an image-classification dataset (image, label)")
    if len(shape := features[image_key].shape) != 3 or None in shape:
        raise InputError(
            f"dataset {name!r} has images of shape {shape}; only datasets whose images all have "
            "one size can be kept in memory"
        )
    if features[image_key].np_dtype != np.uint8:
        raise InputError(
            f"dataset {name!r} has images of {features[image_key].np_dtype}, not uint8"
        )
    _prepare(builder, name)
    train, evaluation = (
        _read(builder, name, split, image_key, label_key) for split in (train_split, eval_split)
    )
    return Dataset(train, evaluation, features[label_key].num_classes)


def train_batches(split: Split, batch_size: int, seed: int, start: int = 0) -> Iterator[Batch]:
    """Batches without end, from step `start` on; each epoch in an order of its own.

    Each epoch has `len(split) // batch_size` full batches; the examples left over differ from epoch
    to epoch, as the order does.
    """
    steps_per_epoch = len(split) // batch_size
    epoch, offset = divmod(start, steps_per_epoch)
    while True:
        order = np.random.default_rng([seed, epoch]).permutation(len(split))
        for step in range(offset, steps_per_epoch):
            index = order[step * batch_size : (step + 1) * batch_size]
            yield {"image": split.image[index], "label": split.label[index]}
        epoch, offset = epoch + 1, 0


def eval_batches(split: Split, batch_size: int) -> Iterator[Batch]:
    """Every example exactly once, in order; the last batch is padded and masked."""
    for start in range(0, len(split), batch_size):
        image, label = (
            split.image[start : start + batch_size],
            split.label[start : start + batch_size],
        )
        padding = batch_size - len(label)
        yield {
            "image": np.pad(image, [(0, padding), (0, 0), (0, 0), (0, 0)]),
            "label": np.pad(label, (0, padding)),
            "mask": np.pad(np.ones(len(label), np.float32), (0, padding)),
        }


def _tfds() -> Any:
    """TFDS with TensorFlow quiet and away from the accelerator. Imported on first use only."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    import tensorflow as tf
    import tensorflow_datasets as tfds

    tf.config.set_visible_devices([], "GPU")
    import senet_jax.data.digits  # noqa: F401  (registers the builder)

    return tfds


def _builder(name: str) -> Any:
    tfds = _tfds()
    try:
        return tfds.builder(name)
    except tfds.core.DatasetNotFoundError as error:
        near = did_you_mean(name, tfds.list_builders())
        raise InputError(f"TFDS has no dataset {name!r}{near}") from error
    except (ValueError, AssertionError, KeyError, ImportError) as error:  # no such config, version
        raise InputError(f"dataset {name!r}: {_first_line(error)}") from error


def _prepare(builder: Any, name: str) -> None:
    """Download and prepare unless that was done before."""
    if builder.is_prepared():
        return
    directory = builder.data_dir_root
    missing = f"dataset {name!r} is not in {directory} and cannot be downloaded"
    remedy = (
        f"prepare it on a machine with network access (`tfds build {name}`) and set TFDS_DATA_DIR"
    )
    if unreachable := _unreachable_host(builder.url_infos or ()):
        raise InputError(f"{missing} ({unreachable} is not reachable): {remedy}")
    # Preparing what is shipped with a package takes a second: no progress bar, no notices.
    try:
        with _quiet() if builder.name == "digits" else contextlib.nullcontext():
            builder.download_and_prepare()
    except OSError as error:
        raise InputError(f"{missing} ({_first_line(error)}): {remedy}") from error
    except Exception as error:
        # TFDS has no common base class: checksum mismatches, manual downloads, disk space, ...
        raise InputError(f"dataset {name!r} cannot be prepared: {_first_line(error)}") from error


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


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    tfds = _tfds()
    logger = logging.getLogger("absl")
    level = logger.level
    tfds.disable_progress_bar()
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        tfds.enable_progress_bar()
        logger.setLevel(level)


def _read(builder: Any, name: str, split: str, image_key: str, label_key: str) -> Split:
    tfds = _tfds()
    try:
        arrays = tfds.as_numpy(builder.as_dataset(split=split, batch_size=-1, shuffle_files=False))
    except (ValueError, KeyError, AssertionError) as error:
        known = ", ".join(builder.info.splits)
        raise InputError(
            f"dataset {name!r} has no examples in split {split!r}; its splits are {known}"
        ) from error
    return Split(arrays[image_key], arrays[label_key].astype(np.int32))


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
