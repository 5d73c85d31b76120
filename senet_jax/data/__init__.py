"""From a dataset's name to batches. What a split and a batch are is said in split.py."""

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from senet_jax.data import fake, file_stream, in_memory, streaming
from senet_jax.data.crops import CropSpec
from senet_jax.data.fields import crop_spec_of, read_fields
from senet_jax.data.folds import Fold
from senet_jax.data.sources import lookup, tfds_source
from senet_jax.data.sources.lookup import image_size_for, is_same
from senet_jax.data.sources.source import Listed, Source, digest
from senet_jax.data.sources.tfds_source import TfdsSource
from senet_jax.data.split import WHOLE, Batch, Dataset, Share, Split
from senet_jax.errors import InputError, named

__all__ = [
    "Batch",
    "Dataset",
    "Share",
    "Split",
    "channels_of",
    "image_size_for",
    "is_same",
    "load_dataset",
    "load_split",
]


def load_dataset(
    name: str,
    train_split: str,
    eval_split: str,
    *,
    image: str = "",
    label: str = "",
    classes: tuple[float, ...] = (),
    fold: tuple[int, ...] = (),
    image_size: int = 0,
    mean: tuple[float, ...] = (),
    std: tuple[float, ...] = (),
    eval_size: int = 0,
    repeats: int = 1,
    share: Share = WHOLE,
    **crops: Any,
) -> Dataset:
    """Load an image-classification dataset; one of TFDS is prepared on first use.

    Args:
      name: the dataset in TFDS spelling, with config and version if wanted: "digits", "cifar100",
        "imagenet2012"; the folder of a prepared one, "tfds:PATH"; images of one's own,
        "folder:PATH", "csv:PATH" or "hf:PATH"; or "fake", the size of ImageNet and always the same
        images.
      train_split, eval_split: TFDS split expressions, e.g. "train[:90%]".
      image, label: names of the features or columns that are the image and the label; "" takes the
        dataset's supervised keys or usual names, or the only ones that it has. Labels that are
        plain numbers are read through to count the classes: one more than the greatest.
      classes: the first class to take and the one after the last, as in a range, or these places
        as shares of all classes, (0.5, 1.0); labels then count from 0, and examples with others are
        left out. () takes all. Only datasets in memory can be cut like this.
      fold: number of a part of `train_split` to evaluate on in place of `eval_split`, and of how
        many, see Fold; the other parts are trained on. Streamed TFDS datasets have no folds.
      image_size: height and width, in pixels, of images that are streamed from disk; 0 reads them
        into memory as they are stored.
      mean, std: one number per channel of images from 0 to 1, to normalise them with; () takes the
        dataset's own, see Statistics.
      eval_size: height and width of streamed images in evaluation; 0 for those of training.
      repeats: views of an example in a training batch, see split.places_of_batch; an epoch has as
        many batches as without, of fewer examples.
      share: this process's part where several train together. Each reads only its own share of a
        streamed split, so streamed batches depend on the number of processes; batches of splits in
        memory do not, taken together.
      **crops: the other fields of CropSpec: how streamed images are cut and resized.

    Raises:
      InputError: an unknown name or split, no data and no way to get it, images to be kept in
        memory that differ in size, a dataset that is not (image, label), labels that are no class,
        or numbers that are no mean and deviation of its channels.
    """
    # The function is long because it is the reference of what a dataset can be.
    sizes = {"image_size": image_size, "eval_size": eval_size}
    crop_spec, eval_spec, statistics, part = read_fields(
        name, fold=fold, mean=mean, std=std, repeats=repeats, **sizes, **crops
    )
    if name == "fake":
        _refuse_classes(classes, "noise has none")
        if part:
            raise InputError(f"data.fold has no effect on {name!r}: leave it out")
        if image or label:
            raise InputError(
                f"data.image and data.label have no effect on {name!r}: leave them out"
            )
        return statistics.override(fake.dataset(image_size or 224, share, eval_size))
    source = _prepared(name, image, label, crop_spec)
    with named("data.train_split"):
        source.count(train_split)  # refuses one that does not exist
        if part:
            _check_repeated(source, train_split)
    with named("data.eval_split"):
        count = 0 if part else source.count(eval_split)
    if not part and (shared := source.shared(train_split, eval_split)):
        message = "%d of the %d examples of data.eval_split=%r are in data.train_split=%r as well"
        logging.getLogger(__name__).warning(message, shared, count, eval_split, train_split)
    labels, survived = _labels(classes, source, crop_spec), crops.get("max_unreadable", 0)
    with named("data.train_split"):
        train = _split(source, train_split, crop_spec, share, labels, survived)
    if part:
        train, evaluation = part.divide(train)
        if eval_spec and isinstance(evaluation, file_stream.FileStream):
            evaluation = dataclasses.replace(evaluation, crops=eval_spec)
    else:
        with named("data.eval_split"):
            evaluation = _split(source, eval_split, eval_spec, share, labels, survived)
    train = dataclasses.replace(train, repeats=repeats)
    names, digests = _names(source, labels), tuple[str, ...]()
    if reads_labels := not isinstance(train, streaming.Stream):
        _warn_of_unseen(train.labels(), names, name)
        digests = tuple(digest(split.labels().astype("<i4")) for split in (train, evaluation))
    expressions = (train_split, train_split if part else eval_split)
    known = [found for each in expressions if (found := source.contents(each)) is not None]
    own = train.statistics() if isinstance(train, in_memory.Images) else streaming.STATISTICS
    files = tuple(map(digest, known))
    taken = {split for each in expressions for split, _ in source.places(each)}
    whole = {split: _about(source, split, reads_labels) for split in sorted(taken)}
    return statistics.override(Dataset(train, evaluation, names, *own, digests, files, whole))


def load_split(
    name: str,
    split: str,
    *,
    image: str = "",
    label: str = "",
    classes: tuple[float, ...] = (),
    fold: tuple[int, ...] = (),
    image_size: int = 0,
    **crops: Any,
) -> tuple[Split, tuple[str, ...]]:
    """Load one split, or the part of it in a fold, for evaluation, and the names of its classes.

    Arguments and errors are those of `load_dataset`. Every split of "fake" is its evaluation split,
    and crops do not apply to it.
    """
    if name == "fake":
        dataset = fake.dataset(image_size or 224)
        return dataset.eval, dataset.class_names
    crop_spec = crop_spec_of(image_size, crops)
    source = _prepared(name, image, label, crop_spec)
    source.count(split)
    labels = _labels(classes, source, crop_spec)
    survived = crops.get("max_unreadable", 0)
    loaded = _split(source, split, crop_spec, WHOLE, labels, survived)
    part = Fold.of(fold)
    return part.divide(loaded)[1] if part else loaded, _names(source, labels)


def channels_of(name: str, image_size: int, image: str = "", label: str = "") -> int:
    """The number of channels of a dataset's images, which need not be here yet.

    Args:
      image_size, image, label: see `load_dataset`; what is streamed is RGB.

    Raises: InputError for an unknown name, or a dataset that is not (image, label).
    """
    if name == "fake" or image_size:
        return 3
    return lookup.find(name, image, label).image_shape[-1] or 3


def _prepared(name: str, image: str, label: str, crop_spec: CropSpec | None) -> Source:
    source = lookup.find(name, image, label)
    if crop_spec is None:
        source.check_fits_memory()
    return tfds_source.prepare(source) if isinstance(source, TfdsSource) else source


def _labels(classes: tuple[float, ...], source: Source, crop_spec: CropSpec | None) -> range | None:
    """The labels that are taken; None for all. Raises: InputError if there are no such classes."""
    if isinstance(classes, tuple) and not classes:
        return None
    count = len(source.class_names)
    ends = in_memory.class_ends(classes, count) if isinstance(classes, tuple) else ()
    are_whole = all(type(end) is int for end in ends)
    if not (are_whole and len(ends) == 2 and 0 <= ends[0] < ends[1] <= count):
        raise InputError(
            f"data.classes must be the first class and the one after the last, such as "
            f"(0, {count}) or (0.0, 1.0) for all of {source.name!r}, not {classes!r}"
        )
    if crop_spec is not None:
        _refuse_classes(classes, "streamed ones would have to be read to be counted")
    return range(*ends)


def _names(source: Source, labels: range | None) -> tuple[str, ...]:
    return source.class_names[labels.start : labels.stop] if labels else source.class_names


def _about(source: Source, split: str, reads_labels: bool) -> list[int | str]:
    """What tells a whole split apart from that of before, see Dataset; "" for what is not known."""
    labels = digest(source.labels(split).astype("<i4")) if reads_labels else ""
    files = source.contents(split)
    return [source.count(split), labels, "" if files is None else digest(files)]


def _warn_of_unseen(labels: np.ndarray, names: Sequence[str], name: str) -> None:
    """Warn of classes without training examples, whose labels [N] these are."""
    unseen = np.flatnonzero(np.bincount(labels, minlength=len(names)) == 0)
    if len(unseen):
        message = "%d of the %d classes of %r have no training examples, such as %r"
        logging.getLogger(__name__).warning(
            message, len(unseen), len(names), name, names[unseen[0]]
        )


def _refuse_classes(classes: tuple[float, ...], reason: str) -> None:
    if classes:
        raise InputError(
            f"data.classes {classes} is for images that are kept in memory: {reason}; leave it out"
        )


def _check_repeated(source: Source, split: str) -> None:
    """Check that each image is in one fold. Raises: InputError if one is listed again.

    Copies are said: large datasets have a few (CIFAR-100 has 26 pairs), which leave errors as good.
    """
    again, copies = source.repeated(split)
    if again:
        raise InputError(
            f"data.fold would evaluate on images that are trained on: split {split!r} of "
            f"{source.name!r} has {again} more than once; have each there once"
        )
    if copies:
        message = "data.fold may part the copies of an image: %d in split %r"
        logging.getLogger(__name__).warning(message, copies, split)


def _split(
    source: Source,
    split: str,
    crop_spec: CropSpec | None,
    share: Share,
    labels: range | None,
    max_unreadable: int,
) -> in_memory.Images | streaming.Stream | file_stream.FileStream:
    if source.shared(split, split) > source.count(split):
        message = "split %r of %r has examples more than once, and each counts as often"
        logging.getLogger(__name__).warning(message, split, source.name)
    if crop_spec is None:
        return in_memory.read(source, split, share, labels, max_unreadable)
    if isinstance(source, Listed):
        stream = file_stream.FileStream(source, split, crop_spec, share)
    else:
        assert isinstance(source, TfdsSource)
        stream = streaming.Stream(source, split, crop_spec, share)
    stream.check_first_labels()
    return stream
