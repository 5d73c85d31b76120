"""What a study claims to find out, written down before it is run."""

import dataclasses

from experiments.statistics.paired import BETTER, EQUIVALENT, EXPECTATIONS, WORSE


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A primary comparison of a study: a row, what it is compared with, and what is expected.

    Attributes:
      row, reference: labels of rows.
      expected: BETTER, WORSE or EQUIVALENT.
      margin: points of top-1 error within which the two count as EQUIVALENT.

    Raises: ValueError for another expectation, or a margin that does not belong to it.
    """

    row: str
    reference: str
    expected: str
    margin: float = 0.0

    def __post_init__(self) -> None:
        if self.expected not in EXPECTATIONS:
            raise ValueError(f"expected must be one of {EXPECTATIONS}, not {self.expected!r}")
        if (self.margin > 0) != (self.expected == EQUIVALENT):
            raise ValueError("a margin above 0 belongs to what is expected to be equivalent")

    @property
    def claim(self) -> str:
        """The comparison as a claim, between the names of its rows."""
        if self.expected == EQUIVALENT:
            return f"within {self.margin:g} points of"
        return f"{self.expected} than"


def better(row: str, reference: str) -> Comparison:
    """A row that is expected to be better than another."""
    return Comparison(row, reference, BETTER)


def worse(row: str, reference: str) -> Comparison:
    """A row that is expected to be worse than another."""
    return Comparison(row, reference, WORSE)


def equivalent(row: str, reference: str, margin: float = 0.5) -> Comparison:
    """A row that is expected to be within `margin` points of another."""
    return Comparison(row, reference, EQUIVALENT, margin)
