"""Find the images in folders: by what is in a file where its name does not say."""

import collections
import hashlib
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageFile

from senet_jax.errors import InputError
from senet_jax.system import figures, readers

# Formats of Pillow whose files are data or films, not pictures.
NO_PICTURES = ("FITS", "MPEG")
# Photographs that Pillow reads with a plug-in or not at all: without one they are named.
FOREIGN = (".heic", ".heif", ".hif", ".avif", ".jxl", ".dng", ".cr2", ".cr3", ".nef", ".arw")
FOREIGN += (".orf", ".raf", ".rw2", ".pef", ".srw", ".x3f")
# How photographs begin, whole or damaged: JPEG, PNG, GIF, TIFF, WebP, JPEG XL; HEIF and its like.
BEGINNINGS = (
    b"\xff\xd8\xff",
    b"\x89PNG",
    b"GIF8",
    b"II*\0",
    b"MM\0*",
    b"\xff\x0a",
    b"\0\0\0\x0cJXL ",
)
BRANDS = (b"ftyphei", b"ftyphev", b"ftypmif1", b"ftypmsf1", b"ftypavi", b"ftypcrx")
LEFT_BEHIND = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found")
AHEAD = 64  # files that are looked into at once, at most
# What our pictures are called and signed with, maps and figures: they are no input.
OUR_NAME = re.compile(r"(?s)(.*_cam(-\d+)?|confusion|calibration|table|curves|excitation)\.png")
OUR_SIGN = figures.SIGN
# What runs and reports leave beside their figures, or before they have any.
OUR_FILES = ("config.json", "process.json", "metrics.jsonl", "failed.json", "calibration.csv")
OF_IMAGE = "Source"  # the key of a map's image


class Listing(NamedTuple):
    """What is in a folder, hidden files left out; all by path, in the order of their names.

    Attributes:
      identity: device and number of the folder, the same by whatever path.
      folders, links: folders in it, and links to folders.
      images: what is one by its name, and what is no file that could be looked into.
      unsure: files that must be looked into.
    """

    identity: tuple[int, int]
    folders: list[Path]
    links: list[Path]
    images: list[Path]
    unsure: list[Path]


def find_images(paths: Sequence[str], check: Callable[[], None] = readers.nothing) -> list[Path]:
    """Find image files: those among `paths`, and the images in the folders among them.

    Folders are searched with the folders in them, see `images_in`. What is given is taken as it
    is. So is what cannot be looked into: whoever opens it says why.

    Args:
      check: called while waiting; what it raises ends the search.

    Raises: InputError if all paths are missing or folders without images.
    """
    images: list[Path] = []
    problems: list[str] = []
    for path in map(Path, paths):
        kind = readers.once(_kind_of, path, check)
        inside = images_in(path, check) if kind == "folder" else []
        if kind == "missing":
            problems.append(f"there is no image {path}")
        elif kind == "folder" and not inside:
            problems.append(f"{path} has no images in it")
        images += inside or [path]
    if len(problems) == len(paths):
        raise InputError(", and ".join(problems[:3]) + (", and so on" if len(paths) > 3 else ""))
    return images


def _kind_of(path: Path) -> str:
    """One of "folder", "missing" and "file", which stands for all others."""
    if os.path.isdir(path):
        return "folder"
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    except (OSError, ValueError):
        return "file"  # whoever opens it says why it is none
    return "file"


def images_in(root: Path, check: Callable[[], None] = readers.nothing) -> list[Path]:
    """Images in a folder and the folders in it, in the order of their names.

    These are files with the suffix of an image, and others in which there is one. What is hidden,
    and our own maps, are left out. Links to folders are followed, each folder being
    searched once, and none that the root itself is in. What cannot be opened is taken as well.
    """
    images: list[Path] = []
    folders, links = [root], collections.deque[Path]()
    searched: set[tuple[int, int]] = set()
    while folders or links:
        # Links come last: what can be reached without one has its own name.
        folder = folders.pop() if folders else links.popleft()
        listing = readers.once(_listing, folder, check)
        if not isinstance(listing, Listing):
            images.append(folder)
            continue
        if folder is root:
            searched.update(map(_identity, root.resolve().parents))
        if listing.identity in searched:
            continue
        searched.add(listing.identity)
        folders += listing.folders
        links += listing.links
        images += listing.images
        wanted = readers.in_order(_is_wanted, listing.unsure, AHEAD, check)
        # A file that gives no answer is taken: a TimeoutError is as good as True.
        images += [
            file for file, is_wanted in zip(listing.unsure, wanted, strict=True) if is_wanted
        ]
    return sorted(images)


def images_beside_folders(folder: Path) -> list[Path]:
    """Images that lie in a folder itself."""
    listing = readers.once(_listing, folder)
    if not isinstance(listing, Listing):
        return []
    named = [path for path in listing.images if _holds(path.is_file)]
    return sorted(named + [path for path in listing.unsure if _is_wanted(path)])


def is_output(folder: Path) -> bool:
    """Whether a folder has files of ours in it, of runs or reports, and no image of others."""
    return readers.once(_is_output, folder) is True


def _is_output(root: Path) -> bool:
    suffixes = _suffixes()
    ahead, searched, unsure = [root], set[tuple[int, int]](), list[Path]()
    while ahead:
        folder = ahead.pop()
        try:
            if (identity := _identity(folder)) in searched:
                continue
            searched.add(identity)
            with os.scandir(folder) as scan:
                for entry in scan:  # the first image of a class ends it
                    if is_hidden(entry.name):
                        continue
                    path = folder / entry.name
                    if _holds(entry.is_dir):
                        ahead.append(path)
                    elif OUR_NAME.fullmatch(entry.name) or path.suffix.lower() not in suffixes:
                        unsure.append(path)
                    else:
                        return False
        except OSError:
            return False
    names = {path.name for path in unsure}
    return bool(names.intersection(OUR_FILES)) and not any(map(_is_wanted, unsure))


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden, or is one that systems and devices leave behind."""
    return name.startswith(".") or name in LEFT_BEHIND


def _listing(folder: Path) -> Listing | OSError:
    suffixes = _suffixes()
    try:
        listing = Listing(_identity(folder), [], [], [], [])
        with os.scandir(folder) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
    except OSError as error:
        return error
    for entry in entries:
        path = folder / entry.name
        if is_hidden(entry.name):
            continue
        if _holds(entry.is_dir):
            (listing.links if entry.is_symlink() else listing.folders).append(path)
        elif _holds(entry.is_file) and (
            path.suffix.lower() not in suffixes or OUR_NAME.fullmatch(entry.name)
        ):
            listing.unsure.append(path)
        else:
            listing.images.append(path)
    return listing


def _identity(folder: Path) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _holds(question: Callable[[], bool]) -> bool:
    """The answer to a question about an entry; False where a link leads in a circle, say."""
    try:
        return question()
    except OSError:
        return False


def _formats() -> list[str]:
    """Formats of images that Pillow reads; of its stubs it knows the name alone."""
    Image.init()  # before, it knows few of them or none
    return [
        name
        for name, (factory, _) in Image.OPEN.items()
        if name not in NO_PICTURES
        and not (isinstance(factory, type) and issubclass(factory, ImageFile.StubImageFile))
    ]


def _suffixes() -> set[str]:
    """Suffixes of images, ".jpg" and so on."""
    formats = set(_formats())
    return {suffix for suffix, name in Image.EXTENSION.items() if name in formats} | {*FOREIGN}


def _is_wanted(path: Path) -> bool:
    """Whether a file has an image in it that is none of ours; True if it cannot be opened."""
    try:
        with path.open("rb") as file:
            beginning = file.read(16)
    except OSError:
        return True
    if OUR_NAME.fullmatch(path.name) and is_ours(path):
        return False
    is_webp = beginning.startswith(b"RIFF") and beginning[8:12] == b"WEBP"
    if is_webp or beginning.startswith(BEGINNINGS) or beginning[4:].startswith(BRANDS):
        return True
    if path.suffix.lower() in _suffixes():
        return True
    # Formats whose files begin in no way of their own would be seen in any data.
    formats = [name for name in _formats() if Image.OPEN[name][1]]
    try:
        Image.open(path, formats=formats).close()
    except Image.DecompressionBombError:
        return True
    except Exception:  # whatever comes of taking data for an image
        return False
    return True


def is_ours(path: Path, of_image: Path | None = None) -> bool:
    """Whether a picture is signed as ours, and is the map of a certain image if that is given."""
    key, sign = OUR_SIGN
    try:
        with Image.open(path) as image:
            is_of_it = of_image is None or image.info.get(OF_IMAGE) == digest_of(of_image)
            return is_of_it and image.info.get(key) == sign
    except Exception:  # no picture, so none of ours
        return False


def digest_of(image: Path) -> str:
    """What a map keeps to know its image again: a digest, as paths are nobody else's business."""
    return hashlib.sha256(os.fsencode(os.path.abspath(image))).hexdigest()[:16]
