"""The space of a search: keys of a configuration, and what their values may be.

--space='optim.learning_rate=log(0.01,1)' --space='model.se.ratio=2|4|8|16'
"""

import dataclasses
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from experiments.grid.study import Row, grid
from experiments.grid.sweep import as_compared, typed_value
from senet_jax.config import flatten
from senet_jax.errors import InputError, did_you_mean
from senet_jax.training.given import add_fields

RANGES = ("uniform", "log", "int")
RANGE = re.compile(r"\s*(\w+)\(([^(),]*),([^(),]*)\)\s*")
DIGITS = 4  # significant ones of a number that is tried, so that people can type it


@dataclasses.dataclass(frozen=True)
class Range:
    """All numbers from `low` to `high`; with `log` as many from 0.01 to 0.1 as from 0.1 to 1."""

    low: float
    high: float
    log: bool

    def value(self, drawn: float) -> float:
        """The value that is tried for a number that was drawn."""
        if isinstance(self.low, int):
            return drawn
        return min(max(float(f"{drawn:.{DIGITS}g}"), self.low), self.high)


@dataclasses.dataclass(frozen=True)
class Choice:
    """Values by their texts."""

    values: Mapping[str, Any]

    def value(self, drawn: str) -> Any:
        """The value with that text."""
        return self.values[drawn]


Space = Mapping[str, Range | Choice]


def parse(config: Any, texts: Sequence[str]) -> Space:
    """Read `--space` flags, each "KEY=VALUES". Raises: InputError for one that is not valid.

    A field of the network that the configuration lacks is added to it.
    """
    if not texts:
        raise InputError(
            "give what to search, like --space='optim.learning_rate=log(0.01,1)' or "
            "--space='model.se.ratio=2|4|8'"
        )
    space: dict[str, Range | Choice] = {}
    known = add_fields(config, dict.fromkeys(text.partition("=")[0] for text in texts))
    for text in texts:
        key, _, values = text.partition("=")
        if key == "seed":
            raise InputError("the seeds of a search are given by --seeds, like --seeds=0,1")
        if key in space:
            raise InputError(f"--space={key} is given twice; give it all values at once")
        match = RANGE.fullmatch(values)
        if match and (match[1] in RANGES or not match[1].isnumeric()):
            space[key] = _range(config, key, text, match, known)
        else:
            space[key] = _choice(config, key, text, values, known)
    return space


def _range(config: Any, key: str, text: str, match: re.Match[str], known: Sequence[str]) -> Range:
    name = match[1]
    if name not in RANGES:
        raise InputError(
            f"--space={text}: there is no {name}(), only {', '.join(RANGES)}"
            f"{did_you_mean(name, RANGES)}"
        )
    low, high = (typed_value(config, key, end, known) for end in match.groups()[1:])
    if isinstance(low, bool) or not isinstance(low, int | float):
        raise InputError(f"--space={text}: {key} is no number; give its values, like {key}=A|B")
    if isinstance(low, int) and name == "uniform":
        raise InputError(f"--space={text}: {key} is a whole number; give {key}=int({low},{high})")
    if name == "int" and isinstance(low, float):
        if not (low.is_integer() and high.is_integer()):
            raise InputError(f"--space={text}: int() is from one whole number to another")
        low, high = int(low), int(high)
    if not low < high:
        raise InputError(f"--space={text}: the first number must be less than the second")
    if name == "log" and low <= 0:
        raise InputError(f"--space={text}: log() begins above 0")
    return Range(low, high, name == "log")


def _choice(config: Any, key: str, text: str, values: str, known: Sequence[str]) -> Choice:
    typed = [typed_value(config, key, each, known) for each in values.split("|")]
    by_text = {str(value): value for value in typed}
    if len({as_compared(key, value) for value in typed}) < len(typed):
        raise InputError(f"--space={text} has a value twice")
    if len(by_text) < 2:
        raise InputError(
            f"--space={text} leaves nothing to search; give at least two values, like {key}=A|B, "
            f"or a range: {', '.join(f'{name}(LOW,HIGH)' for name in RANGES)}"
        )
    return Choice(by_text)


def row_of(space: Space, drawn: Mapping[str, Any]) -> Row:
    """The row of a table for what was drawn from the space."""
    (row,) = grid({key: (part.value(drawn[key]),) for key, part in space.items()})
    return row


def own_values(space: Space, config: Any) -> dict[str, Any] | None:
    """The configuration's own values, as if they had been drawn; None if one is outside."""
    flat, drawn = flatten(config.to_dict()), {}
    for key, part in space.items():
        own = flat[key]
        if isinstance(part, Choice):
            drawn[key] = str(own)
            if drawn[key] not in part.values:
                return None
        else:
            drawn[key] = int(own) if isinstance(part.low, int) and own is not None else own
            if own is None or not part.low <= own <= part.high or part.value(drawn[key]) != own:
                return None
    return drawn


def corners(space: Space) -> Iterator[dict[str, Any]]:
    """All combinations of choices and the ends of ranges, as if they had been drawn."""
    ends = [
        (part.low, part.high) if isinstance(part, Range) else part.values for part in space.values()
    ]
    for drawn in itertools.product(*ends):
        yield dict(zip(space, drawn, strict=True))
