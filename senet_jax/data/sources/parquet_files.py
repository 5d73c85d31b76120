"""The parquet files of a dataset of Hugging Face that lies in a folder."""

import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from senet_jax.errors import InputError
from senet_jax.system.files import walk

PARQUET = ".parquet"
# A file of several that are one split, as the library and the hub call them.
SHARD = re.compile(rf"(.*)-(\d+)-of-(\d+)\b.*{re.escape(PARQUET)}")


def find(name: str, place: Path) -> list[Path]:
    """The parquet files below a folder, or a file that is given itself.

    Raises: InputError if part of the folder cannot be looked at, or files of a whole are missing.
    """
    if place.suffix == PARQUET:
        return [place]

    def refuse(error: OSError) -> None:
        if error.filename != str(place):  # which may not be there, as is said elsewhere
            raise InputError(f"data.name: {name!r}: {error.filename}: {error.strerror}")

    every = (folder / file for folder, _, names in walk(place, refuse) for file in names)
    files = sorted(file for file in every if file.suffix == PARQUET)
    _check_shards(name, files)
    return files


def _check_shards(name: str, files: Sequence[Path]) -> None:
    """Check that the files of a split which say how many they are make one whole.

    Raises: InputError if one is missing, as after a copy that was cut short, or if files of another
      export lie beside them.
    """
    wholes: dict[Path, dict[int, list[int]]] = {}
    for file in files:
        if match := SHARD.fullmatch(file.name):
            counts = wholes.setdefault(file.with_name(match[1]), {})
            counts.setdefault(int(match[3]), []).append(int(match[2]))
    for place, counts in wholes.items():
        if len(counts) > 1 or any(len({*numbers}) < len(numbers) for numbers in counts.values()):
            raise InputError(
                f"dataset {name!r} has the files of several exports, {place}-*-of-*{PARQUET}: "
                "leave those of one there"
            )
        ((count, numbers),) = counts.items()
        if missing := {*range(count)} - {*numbers}:
            raise InputError(
                f"dataset {name!r} lacks file {min(missing):05} of {place}-*-of-{count:05}{PARQUET}"
                f" ({len(numbers)} of {count} are there)"
            )


def warn_of_folders(name: str, of_splits: Mapping[str, Sequence[str]]) -> None:
    """Say that files of several folders are one split: these may be configurations."""
    for split, files in of_splits.items():
        folders = sorted({os.path.dirname(file) for file in files})
        if len(folders) > 1:
            logging.getLogger(__name__).warning(
                "split %r of %r is the parquet files of %d folders, %s, %s and so on: if these are "
                "configurations, name one of them as the dataset",
                *(split, name, len(folders), *folders[:2]),
            )
            return


def features_of(datasets: Any, file: str) -> Mapping[str, Any]:
    """The features in a parquet file, of which `datasets` gives those of the first to all."""
    from pyarrow import parquet, types  # pyright: ignore[reportMissingImports]

    schema = parquet.read_schema(file)
    if b"huggingface" in (schema.metadata or {}):
        return datasets.Features.from_arrow_schema(schema)
    return {field.name: datasets.Value(_kind(types, field.type)) for field in schema}


def _kind(types: Any, kind: Any) -> str:
    """What a type of Arrow is as a label; some are no features, as the categories of pandas."""
    if types.is_integer(kind):
        return "int64"
    return "null" if types.is_null(kind) else "string"
