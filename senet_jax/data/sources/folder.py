"""`folder:PATH`: a folder of images per class, below `train`, `val` and `test` if there are any."""

import logging
import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from senet_jax.data import image_search
from senet_jax.data.sources.files import SPLITS, Example, Files, assemble, check_classes
from senet_jax.errors import InputError


def find(name: str, path: str) -> Files:
    """Find the images of a folder.

    A class is a folder of PATH, with all that is in it, and its name; classes are in the order of
    their names. Where all folders of PATH are named as splits, classes are the folders of these.
    Otherwise one image in five is in the split "test", for good, by its name.

    Raises: InputError for anything else.
    """
    root = Path(path)
    if not path or not _is_folder(root):
        raise InputError(
            f"data.name: {name!r} is no folder, which would have a folder of images per class"
        )
    of_splits = _splits_in(name, root) or {"": root}
    found = {split: _classes_in(name, folder) for split, folder in of_splits.items()}
    first = "train" if "train" in found else next(iter(found))
    titles = sorted(found[first])
    for split, classes in found.items():
        if unknown := sorted(classes.keys() - found[first].keys()):
            alike = {unicodedata.normalize("NFC", title): title for title in titles}
            like = alike.get(unicodedata.normalize("NFC", unknown[0]))
            form = f": {like!a} there is another form of {unknown[0]!a}" if like else ""
            raise InputError(
                f"dataset {name!r}: {of_splits[split]} has the class {unknown[0]!r}, which "
                f"{of_splits[first]} lacks{form}"
            )
    examples = [
        Example(str(image), titles.index(title), image.relative_to(folder).as_posix(), split)
        for split, folder in of_splits.items()
        for title, images in found[split].items()
        for image in images
    ]
    return assemble(name, check_classes(name, titles), examples)


def _splits_in(name: str, root: Path) -> dict[str, Path]:
    """The folders of splits; none if the folders are classes."""
    folders = _folders_in(root)
    named = {folder: SPLITS.get(folder.name.lower(), "") for folder in folders}
    if not any(_folders_in(folder) for folder in folders if named[folder]):
        _refuse_like_splits(name, folders)
        return {}
    if others := [folder.name for folder in folders if not named[folder]]:
        there = ", ".join(folder.name for folder in folders if named[folder])
        raise InputError(
            f"dataset {name!r} has splits ({there}) and beside them the folder {others[0]!r}: move "
            "that away, or the splits into folders of classes"
        )
    splits: dict[str, Path] = {}
    for folder, split in named.items():
        if split in splits:
            both = f"{splits[split].name!r} and {folder.name!r}"
            raise InputError(f"dataset {name!r} has {both}, which are one split: make them one")
        splits[split] = folder
    _refuse_images(name, root)
    return splits


def _refuse_like_splits(name: str, folders: Sequence[Path]) -> None:
    """Refuse folders that are splits by other names, or say that they are taken for classes.

    Raises: InputError if all that have folders in them are called after splits, "training_set".
    """
    inside = {folder: {inner.name for inner in _folders_in(folder)} for folder in folders}
    deep = [folder for folder in folders if inside[folder]]
    called = {folder: _split_words(folder.name) for folder in deep}
    if all(called.values()) and len(set().union(*called.values())) > 1:
        raise InputError(
            f"dataset {name!r} has the folders {deep[0].name!r} and {deep[1].name!r}, which look "
            "like splits: call them train, val and test, with the folders of the classes in them; "
            "if they are classes, give them other names"
        )
    common = sorted(set.intersection(*inside.values())) if len(deep) == len(folders) > 1 else []
    if len(common) > 1 and not any(map(image_search.images_beside_folders, folders)):
        logging.getLogger(__name__).warning(
            "the classes of %r are its folders, %r, %r and so on, and in each of these are %r and "
            "%r: if those are the classes, name one of the folders as the dataset",
            name,
            folders[0].name,
            folders[1].name,
            *common[:2],
        )


def _split_words(title: str) -> set[str]:
    """The splits that words of a folder's name are: "test" of "Test-Images"."""
    return {SPLITS[word] for word in re.split("[^a-z]+", title.lower()) if word in SPLITS}


def _classes_in(name: str, root: Path) -> Mapping[str, list[Path]]:
    """The images of each class. Raises: InputError for a class without, and so on."""
    _refuse_images(name, root)
    classes: dict[str, list[Path]] = {}
    known: dict[tuple[int, int], str] = {}
    for folder in _folders_in(root):
        status = os.stat(folder)
        if (other := known.setdefault((status.st_dev, status.st_ino), folder.name)) != folder.name:
            raise InputError(
                f"dataset {name!r}: the classes {other!r} and {folder.name!r} are the same folder"
            )
        _folders_in(folder)  # says why it cannot be read
        classes[folder.name] = image_search.images_in(folder)
        if not classes[folder.name]:
            raise InputError(
                f"dataset {name!r}: the class {folder.name!r} has no images: remove {folder}, or "
                "put some there"
            )
    if not classes:
        raise InputError(f"dataset {name!r}: {root} has no folders, of which each is a class")
    return classes


def _refuse_images(name: str, folder: Path) -> None:
    """Raises: InputError if images lie beside the folders of classes."""
    if images := image_search.images_beside_folders(folder):
        more = f" and {len(images) - 1} more" if len(images) > 1 else ""
        raise InputError(
            f"dataset {name!r} has images of no class: {images[0]}{more}; each belongs into the "
            "folder of its class"
        )


def _folders_in(root: Path) -> list[Path]:
    """The folders in a folder, links as well, but for hidden ones and those of our output."""
    try:
        with os.scandir(root) as scan:
            names = [entry.name for entry in scan if not image_search.is_hidden(entry.name)]
    except OSError as error:
        raise InputError(f"the folder {root} cannot be read: {error.strerror or error}") from error
    folders = sorted(root / name for name in names if _is_folder(root / name))
    return [folder for folder in folders if not image_search.is_output(folder)]


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a name too long, or with a zero in it
        return False
