"""From a dataset's name to batches; what a split and a batch are, `batches.py` says."""

from typing import Any

from senet_jax.data import builders, fake, in_memory, streaming
from senet_jax.data.batches import WHOLE, Batch, Dataset, Share, Split
from senet_jax.errors import InputError, build

__all__ = ["Batch", "Dataset", "Share", "Split", "load", "load_split"]


def load(
    name: str,
    train_split: str,
    eval_split: str,
    *,
    image_size: int = 0,
    share: Share = WHOLE,
    **views: Any,
) -> Dataset:
    """A TFDS image-classification dataset, prepared on first use.

    Args:
      name: in TFDS spelling, with config and version if wanted: "digits", "cifar100",
        "imagenet2012"; or "fake", the size of ImageNet and always the same images.
      train_split, eval_split: TFDS split expressions, e.g. "train[:90%]".
      image_size: of the images in pixels, which are streamed from disk; 0 reads them into memory as
        they are stored.
      share: of this process, where several train together. Each reads only its own share of a
        streamed split, so streamed batches depend on the number of processes; batches of splits in
        memory do not, taken together.
      **views: how streamed images are cut and resized, see streaming.Views.

    Raises:
      InputError: unknown name or split, no data and no way to get it, images to be kept in memory
        that are not of one size, or a dataset that is not (image, label).
    """
    cut = _views(image_size, views)
    if name == "fake":
        return fake.dataset(image_size or 224, share)
    source = _prepared(name, cut)
    for key, split in (("train_split", train_split), ("eval_split", eval_split)):
        try:
            source.count(split)  # refuses one that does not exist
            source.check_labels(split)
        except InputError as error:
            raise InputError(f"data.{key}: {error}") from error
    train, evaluation = (_split(source, split, cut, share) for split in (train_split, eval_split))
    mean, std = train.statistics() if isinstance(train, in_memory.Images) else streaming.STATISTICS
    return Dataset(train, evaluation, source.class_names, mean, std)


def load_split(
    name: str, split: str, *, image_size: int = 0, **views: Any
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
    return _split(source, split, cut, WHOLE), source.class_names


def _views(image_size: int, fields: dict[str, Any]) -> streaming.Views | None:
    """None for images that are kept in memory.

    What streaming alone looks at is checked all the same: a slip shows before it matters.
    """
    cut = build(streaming.Views, "data", {"image_size": image_size, **fields}) if fields else None
    return cut if image_size else None


def _prepared(name: str, cut: streaming.Views | None) -> builders.Source:
    source = builders.find(name)
    if cut is None:
        in_memory.check_size(source)
    return builders.prepare(source)


def _split(
    source: builders.Source, split: str, cut: streaming.Views | None, share: Share
) -> in_memory.Images | streaming.Stream:
    if cut is None:
        return in_memory.read(source, split, share)
    return streaming.Stream(source, split, cut, share)
