"""Remarks on runs that were trained or measured on other images than those they are beside."""

import collections
import functools
import json
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from experiments.grid.plan import is_fold_of_seed
from experiments.grid.study import Study
from experiments.reporting.collect import ASKED, Results
from experiments.reporting.run_files import Result
from senet_jax.data.split import DECIMALS
from senet_jax.runs.workdir import FINAL

SOURCE = ("data.name", "data.image", "data.label")
# What changes where that which a result says of a whole split is another, see data.split.Dataset.
WHOLE = ("its number of images changed", "its labels changed", "its files were edited")
# The keys that say which images a run was measured on, and what of these it was to say.
SPLIT = (*ASKED, "data.eval_split")
POOL = (*ASKED, "data.train_split")  # the same of runs on folds
# Weights that runs start or learn from: what a result has of them, and the keys that choose them.
ORIGINS = {
    "first weights": ("pretrained_sha256", ("model.pretrained", "model.name", "model.weights")),
    "teachers": ("teacher_sha256", ("train.teacher", "train.teacher_weights")),
}


def in_words(study: Study, results: Results) -> list[str]:
    """Sentences on rows of other splits than the row they are compared with, and on changes."""
    lines = []
    for row in study.rows:
        reference = study.reference_of(row)
        if reference is None or not {row.label, reference.label} <= results.keys():
            continue
        if _split_of(results[row.label][0]) != _split_of(results[reference.label][0]):
            lines.append(
                f"Row {row.label} and {reference.label} were measured on images of different "
                "splits, columns or classes: the gain is not due to the network alone."
            )
    lines += [*_changes(results)] or [*_changes_of_splits(results)]
    return [*lines, *_other_origins(study, results), *_seen_before(results)]


def _changes(results: Results) -> Iterator[str]:
    """Sentences on a dataset that changed between the runs: its numbers, labels or images."""
    runs = [run for of_row in results.values() for run in of_row]
    measured = _by_images(runs, _split_of, lambda run: run["eval/examples"])
    for numbers in measured.values():
        if len(numbers) > 1:
            yield (
                f"Runs were measured on {' or '.join(f'{n:,}' for n in sorted(numbers))} images "
                "of one split: the dataset has changed between them, or images could not be read, "
                "and their errors cannot be compared."
            )
    again = "the dataset has changed between them, and their errors cannot be compared."
    for key, how in (("labels", "with different labels"), ("files", "whose files were edited")):
        found = _by_images(runs, _split_of, functools.partial(_of_split, key=key, number=1))
        if any(len(n) > 1 and len(measured[split]) == 1 for split, n in found.items()):
            yield f"Runs were measured on images of one split {how}: {again}"
    trained: dict[str, Callable[[Result], Any]] = {
        "different numbers of images": lambda run: _of_split(run, "examples", 0),
        "images with different labels": lambda run: _of_split(run, "labels", 0),
        "images of different mean": _mean_of,
        "images whose files were edited,": lambda run: _of_split(run, "files", 0),
    }
    for what, ask in trained.items():
        if any(len(found) > 1 for found in _by_images(runs, _trained_on, ask).values()):
            yield f"Runs were trained on {what} of one split: {again}"
            return  # what follows from it is no news


def _changes_of_splits(results: Results) -> Iterator[str]:
    """Sentences on a split of which runs had other parts, such as folds, that changed meanwhile."""
    found = collections.defaultdict[tuple[str, str], list[Sequence[Any]]](list)
    for run in (run for of_row in results.values() for run in of_row):
        for split, about in run.get("splits", {}).items():
            found[_values_of(run, SOURCE), split].append(about)
    for (_, split), told in found.items():
        for what, values in zip(WHOLE, zip(*told, strict=False), strict=False):
            if len({*values} - {""}) > 1:
                yield (
                    f"Runs had parts of split {split!r} before and after {what}: errors of these "
                    "cannot be compared."
                )
                break


def _other_origins(study: Study, results: Results) -> Iterator[str]:
    """Sentences on weights that changed between the runs that start or learn from them."""
    runs = [run for of_row in results.values() for run in of_row]
    for what, (digest, keys) in ORIGINS.items():
        chosen, ask = functools.partial(_values_of, keys=keys), operator.methodcaller("get", digest)
        if any(len(found) > 1 for found in _by(chosen, runs, ask).values()):
            yield (
                f"Runs had different {what} by one name ({keys[0]}): these were trained again, or "
                "replaced, between them, and errors cannot be compared."
            )
    for row in study.rows:
        origins = results.get(row.starts_from or "", ())
        ends = {run["seed"]: run.get("params_sha256") for run in origins}
        # Of the averages, or the best, of an origin its result has no digest.
        begun = [
            run
            for run in results.get(row.label, ())
            if run["config"].get("model.weights", FINAL) == FINAL
        ]
        starts = {run["seed"]: run.get("pretrained_sha256") for run in begun}
        if any(start and (ends.get(seed) or start) != start for seed, start in starts.items()):
            yield (
                f"Row {row.label} did not start from the runs of row {row.starts_from} that are "
                "here: these were trained again after it."
            )


def _seen_before(results: Results) -> Iterator[str]:
    """Sentences on rows whose weights or teacher were trained on images they are measured on."""
    for label, runs in results.items():
        if seen := max(run.get("seen_before", 0) for run in runs):
            yield (
                f"Row {label}: up to {seen:,} of its {runs[0]['eval/examples']:,} evaluation "
                "images are among those that its first weights or its teacher were trained on, so "
                "that its error is too good."
            )


def _by_images(
    runs: Sequence[Result], images_of: Callable[[Result], str], ask: Callable[[Result], Any]
) -> Mapping[str, set[Any]]:
    """What runs say of the same images and fold; those that do not say it are left out."""
    return _by(lambda run: f"{images_of(run)} {run['config'].get('data.fold') or ''}", runs, ask)


def _by(
    key_of: Callable[[Result], str], runs: Sequence[Result], ask: Callable[[Result], Any]
) -> Mapping[str, set[Any]]:
    """What runs say, by a key of theirs; those that do not say it are left out."""
    found = collections.defaultdict[str, set[Any]](set)
    for run in runs:
        if (value := ask(run)) is not None:
            found[key_of(run)].add(value)
    return found


def _of_split(run: Result, key: str, number: int) -> Any:
    """What a result has of its training split, 0, or its evaluation split, 1; None if nothing."""
    values = run.get(key) or ()
    return values[number] if len(values) > number else None


def _mean_of(run: Result) -> Any:
    """The mean of the training images, where the run took it from them."""
    if run["config"].get("data.mean") or not run.get("mean"):
        return None
    return tuple(round(value, DECIMALS) for value in run["mean"])


def _split_of(run: Result) -> str:
    """The images that a run was measured on, by the keys of its configuration that choose them."""
    keys = SPLIT
    if run["config"].get("data.fold"):
        keys = POOL if is_fold_of_seed(run["config"]) else (*POOL, "data.fold")
    return _values_of(run, keys)


def _trained_on(run: Result) -> str:
    """The images that a run was trained on, in the same way."""
    return _values_of(run, (*POOL, "data.image_size"))


def _values_of(run: Result, keys: Sequence[str]) -> str:
    return json.dumps([run["config"].get(key) or "" for key in keys])
