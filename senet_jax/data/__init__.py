"""From a dataset's name to batches; what a split and a batch are, `batches.py` says."""

import dataclasses
from typing import Any

from senet_jax.config import build
from senet_jax.data import fake, in_memory, streaming, tfds_source
from senet_jax.data.split import WHOLE, Batch, Dataset, Share, Split
from senet_jax.data.views import CropSpec
from senet_jax.errors import InputError

__all__ = ["Batch", "Dataset", "Share", "Split", "image_size_for", "load_dataset", "load_split"]

IN_MEMORY = 4 * 2**30  # bytes of images that are not too many to be kept, where there is a choice


def load_dataset(
    name: str,
    train_split: str,
    eval_split: str,
    *,
    classes: tuple[int, ...] = (),
    image_size: int = 0,
    mean: tuple[float, ...] = (),
    std: tuple[float, ...] = (),
    share: Share = WHOLE,
    **views: Any,
) -> Dataset:
    """A TFDS image-classification dataset, prepared on first use.

    Args:
      name: in TFDS spelling, with config and version if wanted: "digits", "cifar100",
        "imagenet2012"; or "fake", the size of ImageNet and always the same images.
      train_split, eval_split: TFDS split expressions, e.g. "train[:90%]".
      classes: the first to take and the one after the last, as of a range; labels then count from
        0. () are all. Of datasets in memory only.
      image_size: of the images in pixels, which are streamed from disk; 0 reads them into memory as
        they are stored.
      mean, std: of each channel, of images from 0 to 1, to normalise images with; () are the
        dataset's own, see Statistics.
      share: of this process, where several train together. Each reads only its own share of a
        streamed split, so streamed batches depend on the number of processes; batches of splits in
        memory do not, taken together.
      **views: how streamed images are cut and resized, see streaming.Views.

    Raises:
      InputError: unknown name or split, no data and no way to get it, images to be kept in memory
        that are not of one size, a dataset that is not (image, label), or numbers that are no
        mean and deviation of its channels.
    """
    cut = _views(image_size, views)
    given = build(Statistics, "data", {"mean": mean, "std": std})
    if name == "fake":
        _refuse_classes(classes, "noise has none")
        return given.instead_of_own(fake.dataset(image_size or 224, share))
    source = _prepared(name, cut)
    for key, split in (("train_split", train_split), ("eval_split", eval_split)):
        try:
            source.count(split)  # refuses one that does not exist
            source.check_labels(split)
        except InputError as error:
            raise InputError(f"data.{key}: {error}") from error
    taken = _classes(classes, source, cut)
    train, evaluation = (
        _split(source, split, cut, share, taken) for split in (train_split, eval_split)
    )
    own = train.statistics() if isinstance(train, in_memory.Images) else streaming.STATISTICS
    names = source.class_names[taken.start : taken.stop]
    return given.instead_of_own(Dataset(train, evaluation, names, *own))


@dataclasses.dataclass(frozen=True)
class Statistics:
    """What images are normalised with, where it is not what their dataset has.

    A dataset in memory has the mean and deviation of its training split, a streamed one ImageNet's;
    published weights come with those of the images that they were trained on.

    Attributes:
      mean, std: of each channel, of images from 0 to 1; () are the dataset's own.

    Raises:
      ValueError: for numbers that cannot be these.
    """

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std):
            raise ValueError(
                "mean and std must have a number for each channel, or both none, not "
                f"{self.mean} and {self.std}"
            )
        if not all(0 <= value <= 1 for value in self.mean):
            raise ValueError(f"mean must be of images from 0 to 1, not {self.mean}")
        if not all(0 < value <= 1 for value in self.std):
            raise ValueError(f"std must be of images from 0 to 1, and above 0, not {self.std}")

    def instead_of_own(self, dataset: Dataset) -> Dataset:
        """The dataset, to be normalised with these if there are any.

        Raises: InputError for another number of channels.
        """
        if not self.mean:
            return dataset
        channels = dataset.train.image_shape[-1]
        if len(self.mean) != channels:
            raise InputError(
                f"data.mean and data.std have {len(self.mean)} numbers, but the images have "
                f"{channels} channels"
            )
        mean, std = (tuple(255 * value for value in values) for values in (self.mean, self.std))
        return dataclasses.replace(dataset, mean=mean, std=std)


def load_split(
    name: str,
    split: str,
    *,
    classes: tuple[int, ...] = (),
    image_size: int = 0,
    **views: Any,
) -> tuple[Split, tuple[str, ...]]:
    """One split and the names of the classes, for evaluation; arguments and errors as of `load`.

    Every split of "fake" is its evaluation split, of which there are no crops.
    """
    if name == "fake":
        made = fake.dataset(image_size or 224)
        return made.eval, made.class_names
    cut = _views(image_size, views)
    source = _prepared(name, cut)
    source.count(split)
    taken = _classes(classes, source, cut)
    names = source.class_names[taken.start : taken.stop]
    return _split(source, split, cut, WHOLE, taken), names


def image_size_for(name: str, wanted: int, otherwise: int) -> int:
    """What `image_size` is best for a dataset, which need not be here yet.

    0, in memory, if all of its images have the size that is wanted and there is room for them.

    Args:
      wanted: pixels; 0 if the images should be as they are stored.
      otherwise: pixels of images that should be, but cannot be kept in memory so.

    Raises: InputError for an unknown name, or a dataset that is not (image, label).
    """
    if name != "fake":
        source = tfds_source.find(name)
        right = not wanted or source.image.shape[:2] == (wanted, wanted)
        if right and source.image_bytes is not None and source.image_bytes <= IN_MEMORY:
            return 0
    return wanted or otherwise


def _views(image_size: int, fields: dict[str, Any]) -> CropSpec | None:
    """None for images that are kept in memory.

    What streaming alone looks at is checked all the same: a slip shows before it matters.
    """
    cut = build(CropSpec, "data", {"image_size": image_size, **fields}) if fields else None
    return cut if image_size else None


def _prepared(name: str, cut: CropSpec | None) -> tfds_source.TfdsSource:
    source = tfds_source.find(name)
    if cut is None:
        in_memory.check_size(source)
    return tfds_source.prepare(source)


def _classes(
    classes: tuple[int, ...], source: tfds_source.TfdsSource, cut: CropSpec | None
) -> range:
    """Which classes of a dataset are taken. Raises: InputError if there are no such classes."""
    count = len(source.class_names)
    if isinstance(classes, tuple) and not classes:
        return range(count)
    whole = isinstance(classes, tuple) and all(type(place) is int for place in classes)
    if not (whole and len(classes) == 2 and 0 <= classes[0] < classes[1] <= count):
        raise InputError(
            f"data.classes must be the first class and the one after the last, such as "
            f"(0, {count}) for all of {source.name!r}, not {classes!r}"
        )
    if cut is not None:
        _refuse_classes(classes, "streamed ones would have to be read to be counted")
    return range(*classes)


def _refuse_classes(classes: tuple[int, ...], reason: str) -> None:
    if classes:
        raise InputError(
            f"data.classes {classes} is for images that are kept in memory: {reason}; leave it out"
        )


def _split(
    source: tfds_source.TfdsSource,
    split: str,
    cut: CropSpec | None,
    share: Share,
    classes: range,
) -> in_memory.Images | streaming.Stream:
    if cut is None:
        return in_memory.read(source, split, share, classes)
    return streaming.Stream(source, split, cut, share)
