"""The algebra of configurations: sections to objects, nested to flat, and what differs."""

import dataclasses
import functools
import json
import math
import numbers
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from ml_collections import ConfigDict

from senet_jax.errors import InputError, did_you_mean

T = TypeVar("T")


KINDS: dict[Any, tuple[Any, str]] = {
    bool: (bool, "True or False"),
    int: (numbers.Integral, "a whole number"),
    float: (numbers.Real, "a number"),
    str: (str, "text"),
}


# What devices calculate with has 32 bits.
LIMITS = {int: (2**31 - 1, " below 2^31"), float: (3.4e38, ", finite and below 3.4e38")}


def build(constructor: Callable[..., T], section: str, values: Mapping[str, Any]) -> T:
    """`constructor(**values)` for one section of the configuration.

    Raises: InputError, naming the section, for keys that a dataclass has not or lacks, values of
      another type than its fields are annotated with, and whatever the constructor refuses.
    """
    made = constructor.func if isinstance(constructor, functools.partial) else constructor
    if made is constructor and dataclasses.is_dataclass(made):
        _check_keys(dataclasses.fields(made), section, values)
    for key, kind in typing.get_type_hints(made).items():
        if key in values and (right := _instead(kind, values[key])):
            raise InputError(f"{section}: {key} must be {right}, not {values[key]!r}")
    try:
        return constructor(**values)
    except (TypeError, ValueError) as error:
        raise InputError(f"{section}: {error}") from error


def _check_keys(
    fields: Iterable[dataclasses.Field[Any]], section: str, values: Mapping[str, Any]
) -> None:
    needed = {field.name: field.default is dataclasses.MISSING for field in fields}
    for key in values:
        if key not in needed:
            raise InputError(f"{section} has no key {key!r}{did_you_mean(key, needed)}")
    check_present(section, values, [key for key in needed if needed[key]])


def check_present(section: str, values: Mapping[str, Any], keys: Iterable[str]) -> None:
    """Raises: InputError for the first of the keys that a section lacks."""
    for key in keys:
        if key not in values:
            name = f"{section}.{key}" if section else key
            raise InputError(
                f"the configuration has no {name}; start from configs/common.py, or, if it is of "
                "an older version, train again"
            )


def _instead(kind: Any, value: Any) -> str | None:
    """What a value should be that is not of an annotated type; None if it is, or none of ours."""
    if typing.get_origin(kind) is tuple:
        of = typing.get_args(kind)[0]
        if isinstance(value, tuple | list) and not any(_instead(of, item) for item in value):
            return None
        return f"a tuple of {KINDS[of][1].removeprefix('a ')}s" if of in KINDS else None
    if kind not in KINDS:
        return None
    accepted, name = KINDS[kind]
    if not isinstance(value, accepted) or (kind is not bool and isinstance(value, bool)):
        return name
    largest, limit = LIMITS.get(kind, (0, ""))
    if limit and not (math.isfinite(value) and abs(value) <= largest):
        return name + limit
    return None


def plain(config: ConfigDict) -> Any:
    """As JSON gives it back, so that stored and given configurations compare equal."""
    return json.loads(json.dumps(config.to_dict()))


def flatten(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dicts to one dict with dotted keys."""
    flat = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        flat.update(flatten(value, f"{name}.") if isinstance(value, dict) else {name: value})
    return flat


def differences(
    a: Mapping[str, Any], b: Mapping[str, Any], names: tuple[str, str] = ("there", "now")
) -> str:
    """The keys in which two flat configurations differ, with both values; "" if there are none."""
    keys = sorted(k for k in a.keys() | b.keys() if a.get(k) != b.get(k))
    missing = "missing"  # a key that configurations of another version have not
    named = ", ".join(
        f"{k} ({a.get(k, missing)} {names[0]}, {b.get(k, missing)} {names[1]})" for k in keys[:5]
    )
    return named + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")
