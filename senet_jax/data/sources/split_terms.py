"""Split expressions, "train[:90%]+test", as TFDS reads them, without TFDS.

A split is known by the numbers of examples in each of its files; a dataset's splits are a mapping
from names to these. A place is the number of an example in a split, from 0 on.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

Splits = Mapping[str, Sequence[int]]

TERM = re.compile(r"(?P<name>[\w-]+)(\[(?P<slice>[\d\w%:.-]+)\])?")
BOUND = re.compile(r"(?:(?P<value>-?[\d_.]+)(?P<unit>%|shard)?)?")
CYCLE, BLOCK = 16, 16  # files that TFDS reads in turn, and examples that it takes of each


def terms(
    expression: str, splits: Splits, other_names: Mapping[str, str] = {}
) -> list[tuple[str, range]]:
    """The terms of an expression: the names of splits, and places in them.

    `[a:b]` counts as a slice of Python does, in examples, per cent ("%", rounded to the nearest
    example, halves to even numbers) or files ("shard"); "all" is all splits.

    Args:
      other_names: other names of splits, with their names in `splits`.

    Raises: ValueError for what TFDS refuses, and for a term without examples.
    """
    parts = [TERM.fullmatch(part) for part in re.split(r"\s*\+\s*", expression)]
    found = []
    for part in parts:
        if part is None:
            raise ValueError(f"no split expression: {expression!r}")
        name = other_names.get(part["name"], part["name"])
        if name != "all":
            found.append((name, _places(part["slice"], splits.get(name))))
        elif part["slice"]:
            raise ValueError("all splits together cannot be sliced")
        else:
            found += [(name, range(sum(files))) for name, files in splits.items()]
    if not found or not all(places for _, places in found):
        raise ValueError("a term has no examples")
    return found


def _places(text: str | None, files: Sequence[int] | None) -> range:
    """The places that a slice takes of a split. Raises: ValueError as `terms`."""
    if files is None:
        raise ValueError("no such split")
    count = sum(files)
    if text is None:
        return range(count)
    bounds = [BOUND.fullmatch(bound) for bound in text.split(":")]
    if not 1 <= len(bounds) <= 2 or not all(bounds) or not any(b and b[0] for b in bounds):
        raise ValueError(f"no slice: {text!r}")
    values = [bound and bound["value"] for bound in bounds]
    unit = next((bound["unit"] for bound in bounds if bound and bound["unit"]), "")
    if len(bounds) == 1:
        if unit != "shard":
            raise ValueError(f"no slice: {text!r}")
        values.append(str(int(values[0] or "") + 1))
    number: Callable[[str], float] = float if unit == "%" else int
    first, last = (None if value is None else number(value) for value in values)
    begin, end = 0 if first is None else first, count if last is None else last
    if unit == "%":
        if max(abs(first or 0), abs(last or 0)) > 100:
            raise ValueError(f"more than 100 %: {text!r}")
        begin, end = (
            bound if given is None else round(given * count / 100.0)
            for bound, given in ((0, first), (count, last))
        )
    elif unit == "shard":
        if last is not None and last <= 0:
            last += len(files)
        begin = 0 if first is None else sum(files[: int(first)])
        end = count if last is None else sum(files[: int(last)])
    if max(abs(begin), abs(end)) > count:
        raise ValueError(f"beyond the {count} examples: {text!r}")
    begin, end = (int(bound + count if bound < 0 else bound) for bound in (begin, end))
    return range(begin, end)


def in_reading_order(
    places: Sequence[tuple[str, range]], splits: Splits, cycle: int = CYCLE
) -> Iterator[tuple[str, range]]:
    """Places in the order in which TFDS reads them, unshuffled: blocks of several files in turn.

    A file whose last examples were taken is replaced by the next one when it is asked for more.

    Args:
      cycle: number of files that are read in turn.
    """
    files = iter([part for term in places for part in _in_files(*term, splits)])
    slots: list[tuple[str, range] | None] = [None] * cycle
    waiting = True
    while waiting or any(slots):
        for slot in range(cycle):
            if slots[slot] is None:
                slots[slot] = next(files, None)
            if (part := slots[slot]) is None:
                waiting = False
                continue
            name, rest = part
            if rest:
                yield name, rest[:BLOCK]
            slots[slot] = (name, rest[BLOCK:]) if len(rest) >= BLOCK else None


def _in_files(name: str, places: range, splits: Splits) -> Iterator[tuple[str, range]]:
    """Places of a split, file by file."""
    start = 0
    for count in splits[name]:
        part = range(max(places.start, start), min(places.stop, start + count))
        if part:
            yield name, part
        start += count
