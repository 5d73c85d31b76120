"""The names of classes, from the config.json of weights or from ImageNet's list."""

import csv
import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import Any

from senet_jax.errors import InputError, counted, did_you_mean
from senet_jax.weights.declared import NESTED, refusal, table

# What timm, its older form, and Hugging Face call the names.
KEYS = ("label_names", "labels", "id2label")


@functools.cache
def imagenet() -> dict[str, str]:
    """Names of ImageNet's 1,000 classes by their number in WordNet, "n02123045", in order."""
    text = resources.files("senet_jax.weights").joinpath("imagenet.csv").read_text("utf-8")
    return {row["synset"]: row["name"] for row in csv.DictReader(text.splitlines())}


def names_of_classes(config_json: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """The names of `count` classes by a config.json.

    They are those of any of KEYS, or the `label_descriptions` of these: a list, or a table from
    numbers of classes to names. Classes that this leaves out are called by their number. Where
    nothing is said, 1,000 classes are taken for ImageNet's, as timm does.

    Raises: InputError for names that are not those of as many classes, or that differ by key.
    """
    places = {"": config_json, f"{NESTED}.": table(config_json, NESTED)}
    said: dict[str, tuple[str, ...]] = {}
    for key, (where, place) in itertools.product(KEYS, places.items()):
        if (names := place.get(key)) is not None:
            descriptions = _descriptions(places.values())
            in_words = [descriptions.get(n, n) for n in _in_order(key, names, count)]
            said[where + key] = readable(in_words)
    if said:
        (first, names), *others = said.items()
        for key, theirs in others:
            own = [_own(*each) for each in enumerate(zip(names, theirs, strict=True))]
            if difference := first_difference(*zip(*own, strict=True)):
                raise InputError(
                    f"config.json: {first} and {key} name other classes: {difference}; leave one "
                    "of them out"
                )
        return names
    if count == len(imagenet()):
        return tuple(imagenet().values())
    return tuple(map(str, range(count)))


def _own(number: int, names: tuple[str, str]) -> tuple[str, str]:
    """Two names of a class; the same twice if one of them is no name, but stands for none."""
    one, other = names
    for_none = (str(number), f"LABEL_{number}")  # ours and that of Hugging Face
    return (one, one) if one in for_none or other in for_none else names


def _in_order(key: str, names: Any, count: int) -> list[str]:
    """A name per class, of a list or a table of names. Raises: InputError for anything else."""
    right = f"a list or a table of the names of {count} classes"
    values = list(names.values()) if isinstance(names, dict) else names
    if not isinstance(values, list) or not all(isinstance(name, str) for name in values):
        raise refusal(key, right, names)
    if isinstance(names, list):
        if len(names) != count:
            raise InputError(
                f"config.json: {key} has "
                f"{counted(len(names), 'name')} and the classifier {count} classes"
            )
        return names
    numbers = [int(number) if number.isdecimal() else -1 for number in names]
    if not numbers or len({*numbers}) < len(numbers):
        raise refusal(key, right, names)
    for number, written in zip(numbers, names, strict=True):
        if not 0 <= number < count:
            raise InputError(
                f"config.json: {key} has a class {written!r}, and the classifier {count} from 0 on"
            )
    by_number = dict(zip(numbers, values, strict=True))
    return [by_number.get(number, str(number)) for number in range(count)]


def _descriptions(places: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Names of classes to what they mean. Raises: InputError for anything but a table of texts."""
    for place in places:
        if (value := place.get("label_descriptions")) is not None:
            texts = value.values() if isinstance(value, dict) else [None]
            if not all(isinstance(text, str) for text in texts):
                raise refusal("label_descriptions", "a table of texts by names of classes", value)
            return value
    return {}


def readable(names: Sequence[str]) -> tuple[str, ...]:
    """The names in words: TFDS calls ImageNet's classes by their numbers in WordNet."""
    return tuple(imagenet().get(name, name) for name in names)


def first_difference(names: Sequence[str], others: Sequence[str]) -> str:
    """The first class of another name in two lists of equal length, in words; "" if there is none.

    "class 3 is 'cat' and 'dog'": the names may be the same in another order.
    """
    for number, (one, other) in enumerate(zip(names, others, strict=True)):
        if one != other:
            return f"class {number} is {one!r} and {other!r}"
    return ""


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
