"""The exceptions for bad input: each a sentence that names the value and what would be right."""

import contextlib
import difflib
from collections.abc import Iterable, Iterator, Sequence


class InputError(ValueError):
    """Input that cannot be used. The message is one sentence, meant to be read as it is."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, SIGUSR1 or SIGHUP, answered at a safe point."""


class Diverged(InputError):
    """A loss that is no longer a finite number."""


class Pruned(InputError):
    """A run that is ended on the way, because others were better there."""


class Occupied(InputError):
    """A work directory in which another process is training."""


def refuse(problems: Sequence[str]) -> None:
    """Raises: InputError with a line for each problem; "" is none."""
    if lines := [*filter(None, dict.fromkeys(problems))]:
        raise InputError("\n".join(lines))


@contextlib.contextmanager
def named(what: str) -> Iterator[None]:
    """Put the name of a key, say, before whatever is refused inside."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{what}: {error}") from error


def did_you_mean(value: str, names: Iterable[str]) -> str:
    """The end of a sentence, "; did you mean 'x'?", for the nearest of the names; "" for none."""
    nearest = difflib.get_close_matches(value, list(names), n=1)
    return f"; did you mean {nearest[0]!r}?" if nearest else ""


def counted(number: int | str, noun: str) -> str:
    """A number and its noun: "1 image", "2,000 classes"; text that is no "1" counts as several."""
    text = number if isinstance(number, str) else f"{number:,}"
    ending = "" if text == "1" else "es" if noun.endswith("s") else "s"
    return f"{text} {noun}{ending}"


def first_line(error: BaseException) -> str:
    """The first 200 characters, at most, of the first line that an error says."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
