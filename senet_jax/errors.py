"""The one exception for bad input: a sentence that names the value and what would be right."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """What the user gave cannot be used. The message is one sentence, meant to be read as it is."""


class Terminated(KeyboardInterrupt):
    """SIGTERM was answered at a safe point."""


class Diverged(InputError):
    """The loss is no longer a finite number."""


class Occupied(InputError):
    """Another process is training in the work directory."""


def did_you_mean(value: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the nearest of `known`, or nothing when none is near."""
    near = difflib.get_close_matches(value, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def first_line(error: BaseException) -> str:
    """What an error says, as far as it fits into a sentence."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
