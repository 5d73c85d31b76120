"""Classes that have numbers for names, which two datasets of the same files may give otherwise.

Where classes have names, these are compared. Numbers are equal whatever they stand for; but where
the files are the same and their labels are not, they stand for something else.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from senet_jax.config import whole_path
from senet_jax.runs.stored import result_of


def records_of(origin: str) -> Mapping[str, Any]:
    """What a run has recorded of its dataset; nothing for weights that are of no finished run."""
    return result_of(Path(whole_path(origin)))


def differs(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """Whether two records (`Dataset.identity`) are of the same files numbered otherwise."""
    if not all(str(name).isdecimal() for name in ours.get("class_names", ("",))):
        return False
    splits = zip(
        *(record.get(key, ()) for key in ("files", "labels") for record in (ours, theirs)),
        strict=False,
    )
    return any(f and f == same and labels != others for f, same, labels, others in splits)
