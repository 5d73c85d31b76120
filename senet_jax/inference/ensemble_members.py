"""The members of an ensemble: networks of runs, on all local devices."""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from senet_jax.errors import InputError
from senet_jax.inference import trained_run
from senet_jax.inference.trained_run import TrainedNetwork
from senet_jax.runs import numbering, provenance
from senet_jax.system.devices import replicate


def load_members(
    directories: Sequence[Path],
    weights: str,
    *,
    unfinished: bool,
    on_error: Callable[[InputError], None] | None = None,
) -> list[TrainedNetwork]:
    """Load the networks of runs, with arguments and errors of `load_run`.

    Args:
      on_error: called for each run that cannot be loaded, which is then left out; where there is
        no such function, or no run is left, that is an error.

    A run that is given twice, by another path or as a copy, is warned of: it counts twice. So is
    one whose classes have the numbers of others in the first.

    Raises: InputError if their classes differ.
    """
    members: list[TrainedNetwork] = []
    errors: list[InputError] = []
    for directory in directories:
        try:
            with trained_run.offering_latest():
                member = trained_run.load_trained_network(directory, weights, unfinished=unfinished)
        except InputError as error:
            if on_error is None:
                raise
            errors.append(error)
            continue
        if members and member.class_names != members[0].class_names:
            raise InputError(
                f"{_with_classes(member)}, {_with_classes(members[0])}; the networks of an "
                "ensemble must have the same classes"
            )
        variables = replicate(member.variables, jax.local_devices())
        members.append(dataclasses.replace(member, variables=variables))
    if errors and not members:
        raise InputError("; ".join(map(str, errors)))
    for error in errors:
        assert on_error is not None
        on_error(error)
    _warn_of_copies(members)
    _warn_of_other_numbers(members)
    return members


def _warn_of_copies(members: Sequence[TrainedNetwork]) -> None:
    """Name the networks that are an earlier one, with the same weights and the same images."""
    names: dict[Any, str] = {}
    for member in members if len(members) > 1 else ():
        images = repr(sorted(member.config["data"].items()))
        identity = member.model, provenance.fingerprint(member.variables), images
        if identity in names:
            print(
                f"warning: {member.name} is the same network as {names[identity]}, to the last bit "
                "of its weights: it counts once more",
                file=sys.stderr,
            )
        names.setdefault(identity, member.name)


def _warn_of_other_numbers(members: Sequence[TrainedNetwork]) -> None:
    """Name the networks whose classes have the numbers of others in the first."""
    records = [numbering.records_of(member.name) for member in members]
    for member, theirs in zip(members, records, strict=True):
        if numbering.differs(records[0], theirs):
            print(
                f"warning: {member.name} and {members[0].name} were trained on the same files with "
                "other labels, and their classes have numbers for names: the ensemble takes equal "
                "numbers for the same class",
                file=sys.stderr,
            )


def _with_classes(member: TrainedNetwork) -> str:
    """What a network tells apart, for a sentence: the first names, and how many there are."""
    names = [*member.class_names[:3], *(["..."] if len(member.class_names) > 3 else [])]
    dataset = member.config["data"]["name"]
    return f"{member.name} has {len(member.class_names)} classes of {dataset!r}, {', '.join(names)}"
