"""The names of classes, from the config.json of weights or from ImageNet's list."""

import csv
import functools
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from senet_jax.errors import InputError, did_you_mean


@functools.cache
def imagenet() -> dict[str, str]:
    """Names of ImageNet's 1,000 classes by their number in WordNet, "n02123045", in order."""
    text = resources.files("senet_jax.weights").joinpath("imagenet.csv").read_text("utf-8")
    return {row["synset"]: row["name"] for row in csv.DictReader(text.splitlines())}


def names_of_classes(config_json: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """The names of `count` classes by a config.json in timm's form.

    They are its `label_names`, or the `label_descriptions` of these. Where it lacks them, 1,000
    classes are taken for ImageNet's, as timm does, and others are called by their number.
    """
    names = config_json.get("label_names")
    if isinstance(names, list) and len(names) == count:
        descriptions = config_json.get("label_descriptions")
        if not isinstance(descriptions, dict):
            descriptions = {}
        return readable([str(descriptions.get(name, name)) for name in names])
    if count == len(imagenet()):
        return tuple(imagenet().values())
    return tuple(map(str, range(count)))


def readable(names: Sequence[str]) -> tuple[str, ...]:
    """The names in words: TFDS calls ImageNet's classes by their numbers in WordNet."""
    return tuple(imagenet().get(name, name) for name in names)


def numbers_of(texts: Sequence[str], names: Sequence[str], own: Sequence[str]) -> list[int]:
    """The numbers of the classes that people mean by a name, by the dataset's own, or by a number.

    A name counts before a number. A class that is meant twice is there once.

    Args:
      names: the names of all classes, as `readable` gives them.
      own: their names in the dataset, such as their numbers in WordNet.

    Raises: InputError for a text that is none of these, or the name of several classes.
    """
    numbers: list[int] = []
    for text in texts:
        named = [number for number in range(len(names)) if text in (names[number], own[number])]
        if len(named) > 1:
            raise InputError(
                f"{text!r} is the name of {len(named)} classes; give one of the numbers "
                f"{', '.join(map(str, named))}"
            )
        if not named and text.isascii() and text.isdecimal() and int(text) < len(names):
            named = [int(text)]
        if not named:
            raise InputError(
                f"{text!r}, which is neither a class of the dataset nor a number from 0 to "
                f"{len(names) - 1}{did_you_mean(text, [*names, *own])}"
            )
        numbers += named
    return list(dict.fromkeys(numbers))
