"""What classes are called: by the weights' own configuration, or by ImageNet's list."""

import csv
import functools
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any


@functools.cache
def imagenet() -> dict[str, str]:
    """WordNet's numbers of ImageNet's 1,000 classes, "n02123045", to names, in their order."""
    text = resources.files("senet_jax.weights").joinpath("imagenet.csv").read_text("utf-8")
    return {row["synset"]: row["name"] for row in csv.DictReader(text.splitlines())}


def names_of_classes(config: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """The names of `count` classes by a config.json in timm's form.

    It says them as `label_names`, perhaps with `label_descriptions` of these; otherwise 1,000
    classes are taken for ImageNet's, as timm does, and others are called by their number.
    """
    names = config.get("label_names")
    if isinstance(names, list) and len(names) == count:
        described = config.get("label_descriptions")
        described = described if isinstance(described, dict) else {}
        return readable([str(described.get(name, name)) for name in names])
    if count == len(imagenet()):
        return tuple(imagenet().values())
    return tuple(map(str, range(count)))


def readable(names: Sequence[str]) -> tuple[str, ...]:
    """The names, of ImageNet's classes those in words, by which TFDS does not call them."""
    return tuple(imagenet().get(name, name) for name in names)
