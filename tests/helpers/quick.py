"""Parameters of which some are enough in a hurry; `pytest -m slow` has the others."""

from collections.abc import Collection, Iterable

import pytest


def some_quick(values: Iterable[object], quick: Collection[object], reason: str) -> list[object]:
    """The values, or tuples of several; those not among the `quick` are slow, for a reason."""
    slow = pytest.mark.slow(reason=reason)

    def marked(value: object) -> object:
        return pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=slow)

    return [value if value in quick else marked(value) for value in values]


def one_in(number: int, values: Iterable[object], reason: str) -> list[object]:
    """The values; the first is quick, and so is each that comes `number` after a quick one."""
    values = [*values]
    return some_quick(values, values[::number], reason)
