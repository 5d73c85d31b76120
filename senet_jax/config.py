"""The algebra of configurations: sections to objects, nested to flat, to JSON and back, and diffs.

Imports nothing but the standard library: whoever builds a network should not wait for a command
line or for the packages behind it.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import numbers
import os
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from senet_jax.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from ml_collections import ConfigDict

T = TypeVar("T")

# The type that a field is annotated with: what its values may be, and how that is said.
ACCEPTED: dict[Any, tuple[Any, str]] = {
    bool: (bool, "True or False"),
    int: (numbers.Integral, "a whole number"),
    float: (numbers.Real, "a number"),
    str: (str, "text"),
}
# The largest number of a type, and how that is said: devices calculate with 32 bits.
LIMITS = {int: (2**31 - 1, " below 2^31"), float: (3.4e38, ", finite and below 3.4e38")}

KINDS = (str, int, float, tuple, list, types.NoneType)  # of values that JSON has

# Keys that may name weights by a path of this machine.
PATHS = ("model.pretrained", "train.teacher")


def build(constructor: Callable[..., T], section: str, values: Mapping[str, Any]) -> T:
    """Call `constructor(**values)` for one section of a configuration.

    Args:
      constructor: a class, a function, or a partial of either. The keys of a dataclass are checked,
        and the types of all that is annotated.
      section: the section's name, with which the sentence of an error begins.

    Raises: InputError for a key that a dataclass lacks, a field that lacks both a key and a
      default, a value of a different type than annotated, and whatever the constructor refuses.
    """
    target = constructor.func if isinstance(constructor, functools.partial) else constructor
    if target is constructor and dataclasses.is_dataclass(target):
        _check_keys(dataclasses.fields(target), section, values)
    for key, annotation in typing.get_type_hints(target).items():
        if key in values and (right := right_kind(annotation, values[key])):
            raise InputError(f"{section}: {key} must be {right}, not {values[key]!r}")
    try:
        return constructor(**values)
    except (TypeError, ValueError) as error:
        raise InputError(f"{section}: {error}") from error


def _check_keys(
    fields: Iterable[dataclasses.Field[Any]], section: str, values: Mapping[str, Any]
) -> None:
    is_required = {
        field.name: field.default is field.default_factory is dataclasses.MISSING
        for field in fields
    }
    for key in values:
        if key not in is_required:
            raise InputError(f"{section} has no key {key!r}{did_you_mean(key, is_required)}")
    check_present(section, values, [key for key, required in is_required.items() if required])


def check_present(section: str, values: Mapping[str, Any], keys: Iterable[str]) -> None:
    """Raises: InputError for the first of the keys that a section lacks."""
    for key in keys:
        if key not in values:
            name = f"{section}.{key}" if section else key
            raise InputError(
                f"the configuration has no {name}; start from configs/common.py, or, if it is of "
                "an older version, train again"
            )


def right_kind(annotation: Any, value: Any) -> str | None:
    """What the value should be, in words; None if it is that, or if the annotation is not ours."""
    if typing.get_origin(annotation) is types.UnionType:
        if value is None and type(None) in typing.get_args(annotation):
            return None
        kinds = [kind for kind in typing.get_args(annotation) if kind is not type(None)]
        words = [right_kind(kind, value) for kind in kinds]
        return None if None in words else " or ".join(map(str, words))
    if typing.get_origin(annotation) is tuple:
        item_type = typing.get_args(annotation)[0]
        if isinstance(value, tuple | list) and not any(right_kind(item_type, v) for v in value):
            return None
        if item_type not in ACCEPTED:
            return None
        return f"a tuple of {ACCEPTED[item_type][1].removeprefix('a ')}s"
    if annotation not in ACCEPTED:
        return None
    accepted, words = ACCEPTED[annotation]
    # In Python, but not in a configuration, True is a whole number.
    if not isinstance(value, accepted) or (annotation is not bool and isinstance(value, bool)):
        return words
    if annotation in LIMITS:
        largest, limit = LIMITS[annotation]
        if not (math.isfinite(value) and abs(value) <= largest):
            return words + limit
    return None


def check_finite(values: Mapping[str, Any]) -> None:
    """Raises: InputError for the first number of nested dicts that JSON cannot have."""
    for key, value, number in _each(values):
        if isinstance(number, float) and not math.isfinite(number):
            raise InputError(f"{key} must be finite, not {value}")


def check_kinds(values: Mapping[str, Any]) -> None:
    """Raises: InputError for the first value of nested dicts of a type that JSON does not have."""
    for key, _, one in _each(values):
        if not isinstance(one, KINDS):
            raise InputError(
                f"{key} must be text, a number of Python, True, False, None or a tuple of these, "
                f"not {one!r}"
            )


def _each(values: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """The keys of nested dicts, their values, and of a tuple's each."""
    for key, value in flatten(values).items():
        for one in value if isinstance(value, tuple | list) else [value]:
            yield key, value, one


def plain(config: ConfigDict) -> Any:
    """The configuration as JSON has it, so that a stored and a given one compare equal.

    Raises: InputError for a value that JSON cannot have, such as a number of NumPy.
    """
    values = config.to_dict()
    check_kinds(values)
    return json.loads(json.dumps(values))


def with_tuples(value: Any) -> Any:
    """The way back from `plain`: configurations have no lists, and JSON has no tuples."""
    if isinstance(value, dict):
        return {key: with_tuples(item) for key, item in value.items()}
    return tuple(map(with_tuples, value)) if isinstance(value, list) else value


def flatten(values: Any, prefix: str = "") -> dict[str, Any]:
    """Turn nested dicts into one dict with dotted keys."""
    flat = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        flat.update(flatten(value, f"{name}.") if isinstance(value, dict) else {name: value})
    return flat


def differences(
    a: Mapping[str, Any],
    b: Mapping[str, Any],
    names: tuple[str, str] = ("there", "now"),
    most: int = 5,
) -> str:
    """The keys in which two flat configurations differ, with both values; "" if there are none.

    Weights of PATHS are the same under a path and under the whole one, as config.json has it.

    Args:
      names: what the values of `a` and of `b` are called, as in "seed (0 there, 1 now)".
      most: number of keys with their values; of others it is said how many there are.
    """
    keys = sorted(key for key in a.keys() | b.keys() if a.get(key) != b.get(key))
    keys = [key for key in keys if key not in PATHS or not _are_one_path(a.get(key), b.get(key))]
    missing = "missing"  # a key that configurations of another version lack
    pairs = ", ".join(
        f"{key} ({a.get(key, missing)} {names[0]}, {b.get(key, missing)} {names[1]})"
        for key in keys[:most]
    )
    return pairs + (f" and {len(keys) - most} more" if len(keys) > most else "")


def whole_path(text: str) -> str:
    """A path of this machine from its root, with `~` expanded; what is no path there stays."""
    path = os.path.abspath(os.path.expanduser(text))
    return path if os.path.exists(path) else text


def _are_one_path(*texts: Any) -> bool:
    """Whether both are one path of this machine, which need not be there any more."""
    return len({text and os.path.abspath(os.path.expanduser(text)) for text in texts}) == 1
