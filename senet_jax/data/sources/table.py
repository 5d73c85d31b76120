"""`csv:PATH`: a table of image files and their labels, as .csv, .tsv or .parquet."""

import ast
import csv
import json
import os
import reprlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from senet_jax.data.sources.files import SPLITS, Example, Files, assemble, classes_of
from senet_jax.errors import InputError, did_you_mean, first_line

# Columns that are taken where none is asked for, the first of them that is there; capitals do not
# matter.
IMAGE = ("image", "file", "path", "filename", "file_name", "filepath", "image_path")
LABEL = ("label", "class", "target", "category", "class_name")
SPLIT = ("split", "subset")


def find(name: str, path: str, image: str, label: str) -> Files:
    """Find the images that a table lists; paths in it are as seen from its folder.

    A column of SPLIT says in which split an image is; without one, one image in five is in the
    split "test", for good, by its path. Classes are the labels that there are, see `classes_of`.

    Args:
      image, label: names of columns; "" takes the first of IMAGE and of LABEL that is there.

    Raises: InputError for what is no such table.
    """
    columns = _columns(name, path)
    files = columns[chosen := _chosen(name, "image", image, IMAGE, [*columns])]
    if isinstance(files[0], dict | bytes):
        raise InputError(
            f"dataset {name!r} has images, not paths of files, in its column {chosen!r}: hf: reads "
            f"that, as in 'hf:{path}'"
        )
    labels = columns[titled := _chosen(name, "label", label, LABEL, [*columns])]
    for row, value in enumerate(labels, start=1):
        if _has_parts(value):
            raise InputError(
                f"dataset {name!r} has no single label in row {row}, but {reprlib.repr(value)} in "
                f"its column {titled!r}: an image has one label"
            )
    split_column = _usual(name, SPLIT, [*columns])
    in_split = columns[split_column] if split_column else [""] * len(files)
    folder = os.path.dirname(path)
    examples = []
    classes, numbers = classes_of(name, [_text(value) or "?" for value in labels])
    for row, (file, value, split) in enumerate(zip(files, labels, in_split, strict=True), start=1):
        for what, there in (("image", file), ("label", value)):
            if not _text(there):
                raise InputError(f"dataset {name!r} has no {what} in row {row}")
        split = _text(split)
        if not split and any(map(_text, in_split)):
            raise InputError(f"dataset {name!r} has no split in row {row}, but in others")
        place = os.path.join(folder, os.path.expanduser(_text(file)))
        usual = SPLITS.get(split.lower(), split)
        # However a file is written, it is in one split.
        key = os.path.normpath(_text(file))
        examples.append(Example(place, numbers[row - 1], key, usual))
    return assemble(name, classes, examples)


def _text(value: Any) -> str:
    """A value of a table as text; "" for none, and for what is not a number."""
    if isinstance(value, bytes):  # as some programs write text into parquet files
        value = value.decode("utf-8", "surrogateescape")  # of which classes are refused
    return "" if value is None or value != value else str(value).strip()


def _has_parts(value: Any) -> bool:
    """Whether a value is a list or the like, or how Python, NumPy or JSON writes one."""
    if isinstance(value, str) and value.strip()[:1] in ("[", "(", "{"):
        text = value.strip()
        for read, written in (
            (ast.literal_eval, text),
            (ast.literal_eval, ",".join(text.split())),  # as NumPy does
            (json.loads, text),
        ):
            try:
                return _has_parts(read(written))
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                continue  # a name such as "[none]", in the end
    return isinstance(value, Collection) and not isinstance(value, str | bytes)


def _columns(name: str, path: str) -> dict[str, Sequence[Any]]:
    """The columns of a table by name. Raises: InputError if it cannot be read, or has no rows."""
    kinds = {".csv": _of_text, ".tsv": _of_text, ".parquet": _of_parquet}
    suffix = Path(path).suffix.lower()
    if suffix not in kinds:
        raise InputError(
            f"data.name: {name!r} is no table: its name must end in {', '.join(kinds)}"
        )
    try:
        columns = kinds[suffix](path)
    except InputError:
        raise
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no text in UTF-8: save it as that") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or first_line(error)}") from error
    except Exception as error:  # whatever comes of a damaged file
        raise InputError(f"{path} is no {suffix} table: {first_line(error)}") from error
    if not columns or not next(iter(columns.values())):
        raise InputError(f"dataset {name!r} has no rows")
    return columns


def _of_text(path: str) -> dict[str, Sequence[Any]]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        heading = file.readline()
        marks = "\t" if path.lower().endswith(".tsv") else ",;\t"
        file.seek(0)
        rows = csv.reader(file, delimiter=max(marks, key=heading.count), strict=True)
        names = [title.strip() for title in next(rows, [])]
        _check_titles(path, names)
        columns: dict[str, list[str]] = {title: [] for title in names}
        for row in rows:
            if not row:
                continue  # an empty line
            if len(row) != len(names):
                raise InputError(
                    f"{path} has {len(row)} values in line {rows.line_num}, not {len(names)}"
                )
            for title, value in zip(names, row, strict=True):
                columns[title].append(value)
    return dict(columns)


def _of_parquet(path: str) -> dict[str, Sequence[Any]]:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise InputError(
            "parquet files are read by pyarrow, which is not installed: pip install pyarrow"
        ) from error
    table = parquet.ParquetFile(path).read()
    _check_titles(path, table.column_names)  # of two alike, the last alone would be left
    return table.to_pydict()


def _check_titles(path: str, titles: Sequence[str]) -> None:
    """Raises: InputError for two columns of one name."""
    if twice := [title for title in titles if titles.count(title) > 1]:
        raise InputError(f"{path} has two columns {twice[0]!r}")


def _chosen(name: str, what: str, asked: str, usual: Sequence[str], there: Sequence[str]) -> str:
    """The name of a column. Raises: InputError if it is missing."""
    if asked and asked in there:
        return asked
    columns = f"its columns are {', '.join(map(repr, there))}"
    if asked:
        near = did_you_mean(asked, there)
        raise InputError(f"data.{what} {asked!r} is no column of {name!r}; {columns}{near}")
    if column := _usual(name, usual, there, f"choose with data.{what}"):
        return column
    raise InputError(f"dataset {name!r} has no {what} column; {columns}: choose with data.{what}")


def _usual(
    name: str, usual: Sequence[str], there: Sequence[str], remedy: str = "rename one"
) -> str:
    """The column that has the first of the usual names, in capitals or not; "" if none has one.

    Raises: InputError if two have it.
    """
    for one in usual:
        found = [key for key in there if key.casefold() == one]
        if len(found) > 1:
            raise InputError(
                f"dataset {name!r} has the columns {' and '.join(map(repr, found))}: {remedy}"
            )
        if found:
            return found[0]
    return ""
