"""Images that one run evaluates on and another one was trained on."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np

from senet_jax.data.folds import Fold
from senet_jax.data.in_memory import class_ends
from senet_jax.data.sources import lookup, names, same_files, tfds_source
from senet_jax.data.sources.files import Files
from senet_jax.data.sources.source import Source, digest
from senet_jax.data.sources.tfds_source import TfdsSource
from senet_jax.errors import InputError

FILES = ("folder", "csv")  # kinds of datasets that are files on this disk
Place = tuple[str, int]  # of an example: the name of its split, and its number there


def count(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> int:
    """Number of the images of our evaluation that are among those of their training.

    Files on this disk are compared by themselves and by their bytes, whichever datasets have them,
    examples of others by their places. Of images that are not here any more, and of noise, nothing
    is known: 0.

    Args:
      ours, theirs: the `data` sections of two configurations.
    """
    if "fake" in (ours["name"], theirs["name"]):
        return 0
    try:
        source = _source(ours)
        are_same = lookup.is_same(ours["name"], theirs["name"])
        other = source if are_same and _asks(ours) == _asks(theirs) else _source(theirs)
        if other is not source and _are_files(source) and _are_files(other):
            return _count_files(source, ours, other, theirs)
        if not are_same:
            return 0
        is_cut = any(_is_cut(section) for section in (ours, theirs))
        if other is source and not is_cut and not _are_files(source):
            return source.shared(theirs["train_split"], ours["eval_split"])
        trained = _places(other, theirs, is_training=True)
        seen = {other.identity(*place) for place in trained}
        evaluated = _places(source, ours, is_training=False)
        return sum(source.identity(*place) in seen for place in evaluated)
    except (InputError, KeyError):  # whoever loads ours says what is wrong with it
        return 0


def doubt(ours: Mapping[str, Any], theirs: Mapping[str, Any], files: Sequence[str] = ()) -> str:
    """Why `count` may be less than there are, as the end of a sentence on their training images.

    Args:
      files: the digests of their files that they have recorded, see Dataset, if any.

    Returns: "" where it is right, or ours are no files on this disk, of which nobody could say it.
    """
    try:
        if not _are_files(_source(ours)) or names.parted(theirs["name"])[0] not in FILES:
            return ""
    except (InputError, KeyError):
        return ""
    try:
        now = _source(theirs).contents(theirs["train_split"])
    except (InputError, KeyError):
        return f"are not in {theirs['name']!r} any more"
    is_same = not files or now is None or digest(now) == files[0]
    return "" if is_same else f"have changed since in {theirs['name']!r}"


def _are_files(source: Source) -> TypeGuard[Files]:
    """Whether the examples of a source are files on this disk."""
    return isinstance(source, Files) and all(part.look for part in source.examples.values())


def _count_files(
    source: Files, ours: Mapping[str, Any], other: Files, theirs: Mapping[str, Any]
) -> int:
    """`count` of files in two sources: of those that are the same, or copies."""
    trained = [*_places(other, theirs, is_training=True)]
    paths = [other.examples[split].files[place] for split, place in trained]
    for split, place in _places(source, ours, is_training=False):
        paths.append(source.examples[split].files[place])
    before, after = np.split(same_files.originals(paths, same_files.look_at(paths)), [len(trained)])
    return int(np.count_nonzero(np.isin(after, before)))


def _source(section: Mapping[str, Any]) -> Source:
    source = lookup.find(section["name"], *_asks(section))
    return tfds_source.prepare(source) if isinstance(source, TfdsSource) else source


def _asks(section: Mapping[str, Any]) -> tuple[str, str]:
    return section.get("image", ""), section.get("label", "")


def _is_cut(section: Mapping[str, Any]) -> bool:
    """Whether not all of a split is taken, or a part of it."""
    return bool(section.get("fold") or section.get("classes"))


def _places(source: Source, section: Mapping[str, Any], *, is_training: bool) -> Iterator[Place]:
    """The places of the examples that a run trains or evaluates on."""
    # Of classes and folds the labels decide, in the order in which in_memory.py reads them.
    part = Fold.of(tuple(section.get("fold") or ()))
    split = section["train_split" if is_training or part else "eval_split"]
    where = [(name, place) for name, r in source.in_reading_order(split) for place in r]
    chosen = np.arange(len(where))
    if _is_cut(section):
        splits = {name for name, _ in where}
        of_name = {name: source.labels(name) for name in splits}
        labels = np.array([of_name[name][place] for name, place in where])
        if classes := section.get("classes"):
            first, end = class_ends(tuple(classes), len(source.class_names))
            chosen = np.flatnonzero((labels >= first) & (labels < end))
        if part:
            # Of what is streamed unreadable images are not known.
            kept = () if section.get("image_size") else splits
            unreadable = {name: np.flatnonzero(source.unreadable(name)) for name in kept}
            bad = {(name, place) for name, places in unreadable.items() for place in places}
            left_out = [place for place, n in enumerate(chosen) if where[n] in bad]
            train, evaluation = part.places(labels[chosen], left_out)
            chosen = chosen[train if is_training else evaluation]
    return (where[n] for n in chosen)
