"""Parameters of which some are enough in a hurry; `pytest -m slow` has the others."""

from collections.abc import Iterable

import pytest


def one_in(number: int, values: Iterable[object], reason: str) -> list[object]:
    """The values; the first is quick, and so is each that comes `number` after a quick one."""
    slow = pytest.mark.slow(reason=reason)
    return [
        pytest.param(value, marks=slow) if place % number else value
        for place, value in enumerate(values)
    ]
