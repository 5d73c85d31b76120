"""Evaluation images that a run, its first weights, or its teacher were trained on.

A network that has learnt them, or learns from one that has, is measured on no new images: its error
is too good, on every fold of a split above all.
"""

import contextlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from senet_jax.config import whole_path
from senet_jax.data import shared
from senet_jax.errors import InputError
from senet_jax.runs import workdir
from senet_jax.runs.stored import result_of
from senet_jax.weights import sources

RECORD = "seen_before"


def look(section: Mapping[str, Any], *origins: str) -> dict[str, int]:
    """What the result of a run says of such images, with a warning; {} if there are none.

    Args:
      section: the `data` section of the run.
      origins: model.pretrained and train.teacher. Of those that are no runs of ours, the training
        images are not known.
    """
    if not (counts := by_run(section, *origins)):
        return {}
    path, most = max(counts.items(), key=lambda item: item[1])
    logging.getLogger(__name__).warning(
        "%d of the images to evaluate on are among those that %s was trained on, which this run "
        "starts or learns from: its error will be too good",
        most,
        path,
    )
    return {RECORD: most}


def by_run(section: Mapping[str, Any], *origins: str) -> dict[str, int]:
    """The number of such images for each run that was trained on any, by its directory.

    Warns where there may be more: of runs whose training images are gone, or have changed.

    Args:
      section: the `data` section that says which images are evaluated.
      origins: runs, and what else weights come from. Runs that these come from count as well.
    """
    ancestors = dict(_ancestors(origins))
    counts = {str(path): shared.count(section, theirs) for path, theirs in ancestors.items()}
    for path, theirs in ancestors.items():
        with contextlib.suppress(InputError):  # whoever loads the run says why
            files = result_of(path).get("files", ())
            if why := shared.doubt(section, theirs, files):
                logging.getLogger(__name__).warning(
                    "the images that %s was trained on %s: how many of them are evaluated is not "
                    "known",
                    path,
                    why,
                )
    return {path: count for path, count in counts.items() if count}


def in_words(count: int, examples: int) -> str:
    """A sentence for whoever reads the error."""
    return (
        f"{count:,} of the {examples:,} examples are among those that its first weights or its "
        "teacher were trained on, so that the error is too good"
    )


def _ancestors(origins: tuple[str, ...]) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Runs from which weights or answers come, also by way of others, and their `data` sections."""
    ahead, known = [*origins], set[Path]()
    while ahead:
        path = Path(whole_path(word)) if (word := ahead.pop()) else None
        if path is None or path in known or not sources.is_run(path):
            continue
        known.add(path)
        try:
            sections = workdir.load_config(path).to_dict()
        except InputError:  # whoever loads its weights says why
            continue
        yield path, sections["data"]
        train: Mapping[str, Any] = sections.get("train", {})
        ahead += [sections["model"].get("pretrained", ""), train.get("teacher", "")]
