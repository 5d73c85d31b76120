"""What a TFDS builder says of its dataset, kept so that the next start needs no TensorFlow.

A description is kept by the dataset's name and the folder of datasets, and belongs to the files of
the prepared dataset as they were then, and to the version of TFDS, which decides what a name means.
"""

import contextlib
import dataclasses
import functools
import importlib.metadata
import json
import os
from pathlib import Path
from typing import Any, Self

import numpy as np

from senet_jax.config import with_tuples
from senet_jax.data.sources import kept


@dataclasses.dataclass(frozen=True)
class Feature:
    """A feature of a dataset.

    Attributes:
      kind: the name of its class in TFDS, such as Image.
      shape: [H, W, C] of images, None where it varies; [] of one number; None for all others.
      dtype: NumPy's name of the type of its values; "" where it has none.
      names: one name per class, () where TFDS has lost some; None if this is no class label.
      num_classes: number of classes; None if this is no class label.
    """

    kind: str
    shape: tuple[int | None, ...] | None
    dtype: str
    names: tuple[str, ...] | None
    num_classes: int | None


@dataclasses.dataclass(frozen=True)
class Description:
    """A dataset of TFDS.

    Attributes:
      name, config: the names of the builder and of its config, "" where it has none.
      folder: where the prepared dataset lies or will lie.
      splits: numbers of examples of each file of each split; none if it is not prepared.
      features: the features by name; none if they have no names.
      supervised: the names of the features that are the image and the label, if TFDS says so.
      cycle: number of files that are read in turn.
    """

    name: str
    config: str
    folder: str
    splits: dict[str, tuple[int, ...]]
    features: dict[str, Feature]
    supervised: tuple[str, str] | None
    cycle: int

    @functools.cached_property
    def stamp(self) -> Any:
        """What changes with the prepared files; None where that cannot be told."""
        return _stamp(self.folder)

    @classmethod
    def of_builder(cls, builder: Any) -> Self:
        """The description of what a builder knows now."""
        info = builder.info
        features = dict(info.features) if hasattr(info.features, "keys") else {}
        keys: Any = info.supervised_keys
        are_keys = isinstance(keys, tuple) and len(keys) > 1
        supervised: Any = tuple(map(str, keys[:2])) if are_keys else None
        return cls(
            name=builder.name,
            config=getattr(builder.builder_config, "name", "") or "",
            folder=os.fspath(builder.data_path),
            splits={name: tuple(split.shard_lengths) for name, split in info.splits.items()},
            features={key: _feature(value) for key, value in features.items()},
            supervised=supervised,
            cycle=1 if info.disable_shuffling else 16,
        )

    def keep(self, name: str) -> None:
        """Keep it for the next start, by the name that the user wrote."""
        known = {"description": dataclasses.asdict(self), "stamp": self.stamp, "by": _version()}
        if self.stamp is not None:
            content = np.frombuffer(json.dumps(known).encode(), np.uint8)
            kept.save(_place(name), _place(name), content)


def find(name: str) -> Description | None:
    """The description that is kept of a prepared dataset, if that has not changed since."""
    content = kept.load(_place(name), _place(name))
    if content is None:
        return None
    known = json.loads(content.tobytes())
    fields, is_ours = known["description"], _version() in (known["by"], "")
    if not is_ours or known["stamp"] != json.loads(json.dumps(_stamp(fields["folder"]))):
        return None
    features: dict[str, Any] = with_tuples(fields.pop("features"))
    features = {key: Feature(**feature) for key, feature in features.items()}
    return Description(features=features, **with_tuples(fields))


def _feature(feature: Any) -> Feature:
    shape, dtype, names, classes = getattr(feature, "shape", None), "", None, None
    with contextlib.suppress(Exception):  # of what is no array
        dtype = np.dtype(feature.np_dtype).name
    if type(feature).__name__ == "ClassLabel" and feature.num_classes is not None:
        names, classes = tuple(feature.names), feature.num_classes
        if len(names) != classes:  # TFDS loses names that are blank; all after them would shift
            names = ()
    is_shape = isinstance(shape, tuple) and all(n is None or isinstance(n, int) for n in shape)
    return Feature(type(feature).__name__, shape if is_shape else None, dtype, names, classes)


def _place(name: str) -> str:
    """The place of a name's description in the cache."""
    folder = os.path.expanduser(name)
    if os.path.isdir(folder):
        return f"tfds folder {os.path.abspath(folder)}"
    root = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return f"tfds name {name} in {os.path.abspath(os.path.expanduser(root))}"


def _stamp(folder: str) -> Any:
    """The files of a dataset, and the versions beside it; None for what is no folder here."""
    try:
        with os.scandir(folder) as scan:
            files = sorted((e.name, *kept.state_of(e.stat())) for e in scan)
        return [files, sorted(os.listdir(Path(folder).parent))] if files else None
    except OSError:
        return None


def _version() -> str:
    """The version of TFDS; "" where it is not installed."""
    try:
        return importlib.metadata.version("tensorflow-datasets")
    except importlib.metadata.PackageNotFoundError:
        return ""
