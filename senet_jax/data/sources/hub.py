"""`hf:ORG/NAME[:CONFIG]` and `hf:PATH`: datasets of Hugging Face, read by their library."""

import contextlib
import hashlib
import io
import itertools
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from senet_jax.data import image_files
from senet_jax.data.sources import features, parquet_files, same_files
from senet_jax.data.sources.features import Feature
from senet_jax.data.sources.files import (
    SPLITS,
    Example,
    Files,
    assemble,
    check_classes,
    classes_of,
)
from senet_jax.data.sources.names import is_local
from senet_jax.errors import InputError, first_line

USUAL = ("image", "img"), ("label", "labels")  # features that are taken where none is asked for
OF_IMAGE = {"bytes", "path"}  # an image where nothing says that it is one
NAMED = re.compile(f"(?<![a-z])({'|'.join(SPLITS)})(?![a-z])")  # a split, in the path of a file
NO_SPLIT = "other"  # of parquet files whose paths name none, while others' do
UNKNOWN = -1  # the label of what has none


def find(name: str, place: str, image: str, label: str) -> Files:
    """Find a dataset on the hub, in the cache, or in a folder, with its features Image and label.

    A folder is what `save_to_disk` writes, or has parquet files, each in the split that its path
    names. A dataset without splits is divided as folders are. Labels are a ClassLabel, whole
    numbers or text. Splits are called as everywhere: "validation" means the same as "val".

    Raises: InputError if it is not there, the library is not, or it has no such features.
    """
    try:
        import datasets  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError(
            f"dataset {name!r} is read by the library datasets, which cannot be imported here "
            f"({first_line(error)}): pip install 'senet-jax[hf]'"
        ) from error
    splits, files = _load(datasets, name, place)
    first = next(iter(splits.values()))
    known = {key: _feature(datasets, value) for key, value in first.features.items()}
    usual = tuple(next((key for key in keys if key in known), "") for keys in USUAL)
    image, label = features.choose(known, (usual[0], usual[1]), name, image, label)
    of_splits = {f"split {split!r}": part.features for split, part in splits.items()}
    _check_alike(datasets, name, of_splits, image, label)
    in_files = {file: parquet_files.features_of(datasets, file) for file in files}
    _check_alike(datasets, name, in_files, label)
    examples: list[Example] = []
    values: list[Any] = []
    stamp: list[str] = [image]  # another column of the same rows has other images
    for split, part in splits.items():
        plain = part.with_format(None)  # which save_to_disk keeps: columns to leave out, a type
        rows = plain.select_columns([image]).cast_column(image, datasets.Image(decode=False))
        usual_split = SPLITS.get(split.lower(), split)
        # Where there are no bytes, these are files of their own.
        paths = rows.flatten()[f"{image}.path"]
        cached = [file["filename"] for file in part.cache_files]
        files = [path or "" for path in paths]
        stamp += [part._fingerprint, *(same_files.look_at(each).stamp for each in (cached, files))]
        each = (Row(name, split, rows, image, number) for number in range(len(rows)))
        examples += [Example(row, UNKNOWN, str(row.number), usual_split) for row in each]
        values += plain.select_columns([label]).to_dict()[label]
    if names := known[label].names:
        classes, numbers = check_classes(name, names), values
    else:
        is_given = [value is not None and str(value).strip() != "" for value in values]
        classes, found = classes_of(name, [*itertools.compress(values, is_given)])
        of_given = iter(found)
        numbers = [next(of_given) if given else None for given in is_given]
    examples = [
        one._replace(label=UNKNOWN if number is None else number)
        for one, number in zip(examples, numbers, strict=True)
    ]
    return assemble(name, classes, examples, stamp, read=Row.read, header=Row.header)


def _check_alike(
    datasets: Any, name: str, places: Mapping[str, Mapping[str, Any]], *keys: str
) -> None:
    """Check that labels mean the same in all splits, or files, which each say so for themselves.

    `places` has the features of each, which are to have `keys`, of which the label is the last.

    Raises: InputError if not, or if one lacks such a feature.
    """
    for place, of_place in places.items():
        if missing := [key for key in keys if key not in of_place]:
            raise InputError(f"dataset {name!r} has no {missing[0]!r} in {place}")
    first: dict[tuple[str, ...], str] = {}  # that has labels of such a meaning
    for place, of_place in places.items():
        if meaning := _meaning_of(datasets, of_place[keys[-1]]):
            first.setdefault(meaning, place)
    if len(first) > 1:
        each = "; ".join(f"{place}: {', '.join(words)[:80]}" for words, place in first.items())
        raise InputError(f"dataset {name!r} has labels {keys[-1]!r} that differ: {each}")


def _meaning_of(datasets: Any, value: Any) -> tuple[str, ...]:
    """What labels of a feature are, in words: classes, or the kind of their values; () if none."""
    if isinstance(value, datasets.ClassLabel):
        return ("classes", *value.names)
    if value.dtype == "null":
        return ()
    return ("whole numbers",) if value.dtype.startswith(("int", "uint")) else ("text",)


class Row(NamedTuple):
    """The image of a row, as `datasets` has it, not yet decoded."""

    name: str
    split: str
    rows: Any
    image: str
    number: int

    def read(self) -> Image.Image:
        return image_files.open_image(self._file())

    def header(self) -> tuple[int, int, bool]:
        return image_files.header(self._file())

    def _file(self) -> Any:
        """The file of the image, named as an error is to name it."""
        found = self.rows[self.number][self.image] or {}
        if found.get("bytes"):
            of = f"{self.name!r}" + (f", split {self.split!r}," if self.split else "")
            title = f"image {self.number} of {of}"
            return NamedBytes(title, found["bytes"])
        if not found.get("path"):
            raise InputError(f"{self.name!r} has no image in row {self.number} of {self.split!r}")
        return found["path"]


class NamedBytes(io.BytesIO):
    """An encoded image with a name for whoever reports on it."""

    def __init__(self, name: str, content: bytes) -> None:
        super().__init__(content)
        self._name = name

    def __str__(self) -> str:
        return self._name


def _load(datasets: Any, name: str, place: str) -> tuple[dict[str, Any], list[str]]:
    """The splits of a dataset, and the parquet files that they are read from, if they lie here.

    Raises: InputError if it cannot be loaded.
    """
    with _quiet(datasets):
        try:
            loaded, files = (
                _local(datasets, name, place) if is_local(place) else _of_hub(datasets, place)
            )
        except InputError:
            raise
        except Exception as error:  # of the network, of files, of whatever is no dataset
            raise InputError(f"data.name: dataset {name!r}: {_reason(error)}") from error
    if isinstance(loaded, datasets.Dataset):
        loaded = {"": loaded}
    splits = {str(split): part for split, part in loaded.items() if len(part)}
    if not splits:
        raise InputError(f"dataset {name!r} has no examples")
    return splits, files


def _reason(error: BaseException) -> str:
    """Why a dataset cannot be loaded; the library wraps what a file is about."""
    return first_line(error.__cause__ or error)


def _of_hub(datasets: Any, place: str) -> tuple[Any, list[str]]:
    path, _, config = place.partition(":")
    return datasets.load_dataset(path, config or None), []


def _local(datasets: Any, name: str, place: str) -> tuple[Any, list[str]]:
    """What lies in a folder, and its parquet files. Raises: InputError if it is no dataset."""
    folder = Path(os.path.expanduser(place))
    if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
        return datasets.load_from_disk(str(folder)), []
    of_splits: dict[str, list[str]] = {}
    found = parquet_files.find(name, folder)
    for file in found:
        named = NAMED.findall(file.relative_to(folder.parent).as_posix().lower())
        of_splits.setdefault(SPLITS[named[-1]] if named else NO_SPLIT, []).append(str(file))
    if not of_splits:
        raise InputError(
            f"data.name: {name!r} is no folder that save_to_disk has written, and has no parquet "
            "files"
        )
    parquet_files.warn_of_folders(name, of_splits)
    # The library keeps what it reads, and knows files again by their paths and times alone, which a
    # new export may have as well.
    state = hashlib.sha256(same_files.look_at(map(str, found)).stamp.encode()).hexdigest()[:16]
    loaded = datasets.load_dataset("parquet", state, data_files=of_splits)
    return loaded[NO_SPLIT] if [*of_splits] == [NO_SPLIT] else loaded, [*map(str, found)]


def _feature(datasets: Any, value: Any) -> Feature:
    """What `features.choose` asks of a feature."""
    kind = type(value).__name__
    if isinstance(value, datasets.Image) or (kind == "dict" and {*value} == OF_IMAGE):
        return Feature("Image", (None, None, 3), "uint8", None, None)
    if isinstance(value, datasets.ClassLabel):
        return Feature("ClassLabel", (), "int64", tuple(value.names), value.num_classes)
    if isinstance(value, datasets.Value):
        kind = value.dtype
    is_label = kind.startswith(("int", "uint", "string"))
    return Feature("Scalar" if is_label else kind, (), "int64", None, None)


@contextlib.contextmanager
def _quiet(datasets: Any) -> Iterator[None]:
    """Without what the library says of itself, but with the progress of downloads."""
    logging = datasets.utils.logging
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
