"""Which features of a dataset are the image and the label, and how many classes there are."""

from collections.abc import Mapping

import numpy as np

from senet_jax.data.sources.tfds_description import Feature
from senet_jax.errors import InputError, did_you_mean


def choose(
    features: Mapping[str, Feature],
    supervised: tuple[str, str] | None,
    name: str,
    image: str,
    label: str,
) -> tuple[str, str]:
    """The names of the image and of the label feature.

    They are those that are asked for, else the dataset's supervised keys, else the only image and
    the only class label that it has.

    Args:
      features: the dataset's features by name.
      supervised: names of the image and the label, as far as the dataset says so.
      name: the dataset's name as the user wrote it.
      image, label: names of features; "" for the dataset's own.

    Raises: InputError if a feature is missing or is of another kind, or none can be chosen.
    """
    own = supervised or (None, None)
    kinds = {
        "image": (image, own[0], [k for k, v in features.items() if v.kind == "Image"]),
        "label": (label, own[1], [k for k, v in features.items() if _is_label(v)]),
    }
    if not all(some for _, _, some in kinds.values()):
        there = ", ".join(f"{key} ({feature.kind})" for key, feature in features.items())
        raise InputError(
            f"dataset {name!r} is not an image-classification dataset (image, label), with one "
            f"label per image: it has {there or 'no named features'}"
        )
    chosen = []
    for key, (asked, default, some) in kinds.items():
        classes = [k for k in some if features[k].num_classes] if key == "label" else some
        if asked and asked not in some:
            raise InputError(
                f"data.{key} {asked!r} is no {key} of dataset {name!r}; it has "
                f"{', '.join(map(repr, some))}{did_you_mean(asked, some)}"
            )
        if not asked and default not in some and len(classes) != 1:
            raise InputError(
                f"dataset {name!r} does not say which feature is its {key}: choose "
                f"{' or '.join(map(repr, some))} with data.{key}"
            )
        chosen.append(asked or (default if default in some else classes[0]))
    if (kind := features[chosen[0]].dtype) != "uint8":
        raise InputError(f"dataset {name!r} has images of {kind}, not uint8")
    return chosen[0], chosen[1]


def _is_label(feature: Feature) -> bool:
    """Whether a feature is one class label, or one whole number."""
    is_number = feature.kind in ("Scalar", "Tensor", "ClassLabel") and feature.shape == ()
    return is_number and feature.dtype.startswith(("int", "uint"))


def count_classes(labels: np.ndarray, name: str) -> int:
    """The number of classes where labels [N] are plain numbers: one more than the greatest.

    Raises: InputError if that is more than there are examples: then they are no classes.
    """
    classes = int(labels.max()) + 1
    if not 0 < classes <= len(labels):
        raise InputError(
            f"dataset {name!r} has whole numbers up to {classes - 1} as labels of {len(labels)} "
            "examples: these are no classes from 0 on"
        )
    return classes
