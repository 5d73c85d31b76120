"""The TFDS builder of a name or of a folder. TensorFlow is imported inside functions."""

import contextlib
import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from senet_jax.errors import InputError, did_you_mean, first_line

INFO = "dataset_info.json"  # in the folder of each prepared dataset


def import_tfds() -> Any:
    """Import TFDS, with TensorFlow quiet and away from the accelerator.

    Raises: InputError if they are not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    try:
        with _without_keras():
            import tensorflow as tf
            import tensorflow_datasets as tfds
    except ImportError as error:
        raise InputError(
            "TFDS datasets are read by tensorflow and tensorflow-datasets, which cannot be "
            f"imported here ({first_line(error)}); digits, folder:PATH, csv:PATH, hf:PATH and what "
            "was kept in memory before need neither"
        ) from error
    tf.config.set_visible_devices([], "GPU")
    return tfds


@contextlib.contextmanager
def _without_keras() -> Iterator[None]:
    """Let TensorFlow be imported without Keras: two fifths of its import, and not used here.

    TensorFlow tries to import it and goes on without; `tf.keras` imports it at first use.
    """
    if "keras" in sys.modules:
        yield
        return
    sys.modules["keras"] = None  # type: ignore[assignment]  # Python then refuses its import
    try:
        yield
    finally:
        del sys.modules["keras"]


def builder_of(name: str) -> Any:
    """The builder of a dataset's name in TFDS spelling, or of the folder of a prepared one.

    Raises: InputError if there is none.
    """
    tfds = import_tfds()
    folder = os.path.expanduser(name)
    if (
        name.startswith(("/", "~", "./", "../"))
        or "://" in name
        or os.path.isfile(f"{folder}/{INFO}")
    ):
        return _builder_of_folder(name, folder)
    try:
        return tfds.builder(name)
    except tfds.core.DatasetNotFoundError as error:
        known = [*tfds.list_builders(), "digits", "fake"]
        # Configurations know other splits of a dataset by such names: "cifar100_half".
        begun = [other for other in known if name.startswith(f"{other}_")]
        near = prepared_versions(name) or did_you_mean(name, begun or known)
        raise InputError(f"data.name: TFDS has no dataset {name!r}{near}") from error
    except Exception as error:
        if "Parsing builder name" in str(error):
            raise InputError(
                f"data.name {name!r} is no name of a dataset; names are like 'cifar10' or "
                "'food101:2.0.0'"
            ) from error
        # No such config or version, or a namespace (huggingface:...) that lacks its packages or its
        # host: TFDS passes on whatever was raised.
        reason = first_line(error) + prepared_versions(name)
        raise InputError(f"data.name: dataset {name!r}: {reason}") from error


def _builder_of_folder(name: str, folder: str) -> Any:
    """The builder of a prepared dataset. Raises: InputError if none is in that folder."""
    try:
        return import_tfds().builder_from_directory(folder)
    except Exception as error:  # TFDS passes on whatever was raised
        below = [Path(folder).glob(depth + INFO) for depth in ("*/", "*/*/", "*/*/*/")]
        found = [str(path.parent) for path in itertools.islice(itertools.chain(*below), 3)]
        inside = f"; in it are {', '.join(found)}" if found else f" ({first_line(error)})"
        raise InputError(
            f"data.name {name!r} is no folder of a prepared dataset, like .../cifar10/3.0.2{inside}"
        ) from error


def prepared_versions(name: str) -> str:
    """The end of a sentence that says which versions of a dataset are prepared, if any."""
    name = name.partition(":")[0]
    with contextlib.suppress(Exception):  # of a dataset or a config that there is not at all
        builder = import_tfds().builder(name)
        folder = Path(str(builder.data_path)).parent
        if found := sorted(path.parent.name for path in folder.glob("*/" + INFO)):
            return f"; prepared is data.name={' or '.join(f'{name}:{each}' for each in found)}"
    return ""
