"""The evaluation of one network or several on a split: probabilities averaged over views.

A network is shown the middle of an image, or its ten crops (Krizhevsky et al. 2012), at one size or
at several, with mirror images or without. The mean of its probabilities over all these views is
what it says; the mean of what all networks say is what the ensemble says.
"""

import functools
import itertools
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from senet_jax.data import folds
from senet_jax.data.augment import normalize
from senet_jax.errors import InputError
from senet_jax.evaluation import metrics
from senet_jax.evaluation.loop import outputs as outputs_of
from senet_jax.evaluation.scores import Predicted, log_mean, log_probabilities, outcomes, sums
from senet_jax.evaluation.steps import make_logits_step
from senet_jax.evaluation.tally import Tally
from senet_jax.inference.ensemble_members import load_members
from senet_jax.inference.ensemble_views import (
    Feed,
    TestViews,
    load_feeds,
    section_of,
    split_of,
)
from senet_jax.inference.trained_run import TrainedNetwork
from senet_jax.layers.network import Network
from senet_jax.layers.squeeze_excite import is_count
from senet_jax.models.shapes import side
from senet_jax.runs.stored import FINAL
from senet_jax.system import interrupt
from senet_jax.system.devices import AXIS, map_step
from senet_jax.system.terminal import counting
from senet_jax.training import seen
from senet_jax.weights.class_names import first_difference

KEPT = 8  # networks whose programs are kept from one evaluation of a process to the next


def evaluate_runs(
    directories: Path | str | Sequence[Path | str],
    *,
    dataset: str | None = None,
    split: str | None = None,
    views: TestViews | None = None,
    weights: str = FINAL,
    unfinished: bool = False,
    batch_size: int | None = None,
    on_batch: Callable[[Predicted, Sequence[str]], None] | None = None,
    on_error: Callable[[InputError], None] | None = None,
    on_tally: Callable[[Tally, Sequence[str]], None] = lambda *_: None,
) -> dict[str, Any]:
    """Evaluate a trained run, or several as an ensemble, on any split, on all local devices.

        result = senet_jax.evaluate_runs(["runs/x", "runs/y"], split="test")
        result["top1_error"], [member["top1_error"] for member in result["members"]]

    Args:
      directories: a work directory, or one per network of the ensemble.
      dataset, split: a TFDS dataset with as many classes, and a split; by default the first run's.
      views: what the networks are shown of each image; by default what their own evaluation shows.
      weights, unfinished: see `load_run`.
      batch_size: examples per step; see `batch_size_for`.
      on_batch: called with each batch's predictions and the classes' names; see PredictionsCsv.add.
      on_error: called for each run that cannot be loaded, where others can; without it an error.
      on_tally: called with the counts of what all networks together say, and the classes' names.

    Returns:
      `loss` (nats), `top1_error`, `top5_error`, `balanced_error`, `calibration_error` (per cent,
      see Tally), `examples` (number) and `unreadable` (images that cannot be decoded) of the
      ensemble, what was evaluated (`dataset`, `split`, `crops`, `flip`, `weights`), `seen_before`,
      the number of images that a network, or a run that it comes from, was trained on, by its
      directory, and `members`, a dict per network. What is not finite is None.

    Raises:
      InputError: for what cannot be loaded or does not fit together, and a split without labels.
      KeyboardInterrupt: after Ctrl-C or SIGTERM, between two batches.
    """
    if not (directories := [directories] if isinstance(directories, Path | str) else directories):
        raise InputError("give at least one work directory to evaluate")
    views = views or TestViews()
    with interrupt.at_safe_points() as stop:
        places = [*map(Path, directories)]
        members = load_members(places, weights, unfinished=unfinished, on_error=on_error)
        section = members[0].config["data"]
        split, fold = split_of(members, split or (str(section["eval_split"]) if dataset else None))
        dataset = dataset or str(section["name"])
        feeds = load_feeds(members, dataset, split, views, fold)
        _warn_of_other_names(members[0], dataset, feeds[0].class_names)
        size = batch_size_for(members, views, batch_size, len(feeds[0].split))
        stopping = functools.partial(stop.if_asked, members[0].variables)
        predicted = predict(members, feeds, views, size, stopping)
        scores, tally = score(predicted, members, feeds, on_batch)
    on_tally(tally, feeds[0].class_names)
    shown = {"crops": views.crops, "flip": views.mirrored, "weights": weights}
    known = seen.by_run(section_of(members[0], dataset, split, fold), *(m.name for m in members))
    about = {"dataset": dataset, "split": folds.in_words(split, fold), seen.RECORD: known}
    return {**about, **shown, **scores}


def _warn_of_other_names(member: TrainedNetwork, dataset: str, names: Sequence[str]) -> None:
    if difference := first_difference(names, member.class_names):
        print(
            f"warning: the classes of {dataset} have other names than those of "
            f"{member.config['data']['name']}: {difference}; they are compared by number",
            file=sys.stderr,
        )


def batch_size_for(
    members: Sequence[TrainedNetwork], views: TestViews, wanted: int | None, examples: int
) -> int:
    """Examples per step, of a split of so many: those wanted, but no padding beyond the usual.

    Usual are as many as keep a network as busy as a step of its training.

    Raises: InputError if it is no number of examples.
    """
    if wanted is not None and not is_count(wanted):
        raise InputError(f"batch_size must be a whole number of at least 1, not {wanted!r}")
    smallest = min(member.config["train"]["batch_size"] for member in members)
    usual = max(1, smallest // views.count)
    return min(wanted or usual, max(usual, examples))


def predict(
    members: Sequence[TrainedNetwork],
    feeds: Sequence[Feed],
    views: TestViews,
    batch_size: int,
    between: Callable[[], None] = lambda: None,
) -> Iterator[Predicted]:
    """Predict each batch of the split, in order, on all local devices.

    Args:
      batch_size: examples per step, rounded up to a multiple of the devices.
      between: called before each batch; what it raises ends the evaluation.
    """
    devices = jax.local_devices()

    def logits_of_feed(feed: Feed) -> Callable[..., Any]:
        sharers: list[Any] = [members[index] for index in feed.members]
        steps = [
            (_program(one.model, one.mean, one.std, views.mirrored, (*devices,)), one.variables)
            for one in sharers
        ]
        return lambda _, batch: [step(variables, batch) for step, variables in steps]

    passes = [
        outputs_of(logits_of_feed(feed), None, feed.split, batch_size, devices, between)
        for feed in feeds
    ]
    queued = zip(*passes, strict=True)
    # The devices work on the next batch while the host looks at this one.
    for of_feeds, _ in itertools.pairwise(itertools.chain(queued, (None,))):
        assert of_feeds is not None
        views_of_member: list[list[np.ndarray]] = [[] for _ in members]
        for feed, (_, logits) in zip(feeds, of_feeds, strict=True):
            for index, of_views in zip(feed.members, logits, strict=True):
                views_of_member[index].append(np.asarray(of_views))
        batches = [batch for batch, _ in of_feeds]
        mask = np.prod([batch["mask"] for batch in batches], axis=0)
        for batch in batches:
            if not np.array_equal(batch["label"] * mask, batches[0]["label"] * mask):
                raise InputError(
                    "the runs were trained on different labels of the dataset (data.label), and "
                    "the networks of an ensemble must say the same of an image"
                )
        of_members = np.stack(
            [log_probabilities(np.concatenate(logits, axis=1)) for logits in views_of_member]
        )
        yield Predicted(batches[0]["label"], mask, log_mean(of_members, axis=0), of_members)


@functools.lru_cache(maxsize=KEPT)
def _program(
    model: Network,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    mirrored: bool,
    devices: tuple[Any, ...],
) -> Callable[..., Any]:
    """The step of all networks that differ in their weights only, and of all sets of a suite."""
    scale = functools.partial(normalize, mean=mean, std=std)
    step = make_logits_step(model, scale, AXIS, flip=mirrored)
    return map_step(step, devices, donate_state=False)


def score(
    predicted: Iterable[Predicted],
    members: Sequence[TrainedNetwork],
    feeds: Sequence[Feed],
    on_batch: Callable[[Predicted, Sequence[str]], None] | None = None,
) -> tuple[dict[str, Any], Tally]:
    """Loss, errors and numbers of examples of an ensemble, and of each of its "members".

    What is not finite is None. With them comes the tally of the ensemble.

    Args:
      predicted: what `members` say of `feeds`, batch by batch.
      on_batch: function called after each batch; see `evaluate_runs`.

    Raises: InputError for a split without labels, or if none of its images can be decoded.
    """
    parts: list[list[dict[str, float]]] = [[] for _ in (None, *members)]
    said: list[list[tuple[np.ndarray, ...]]] = [[] for _ in (None, *members)]
    total = len(feeds[0].split)
    with counting(total, "evaluating") as done:
        for batch in predicted:
            if (batch.label[batch.mask > 0] < 0).any():
                raise InputError("the split has examples without labels, so there are no errors")
            log_probabilities_of = (batch.together, *batch.members)
            real = batch.mask > 0
            for part, outcome, said_of in zip(parts, said, log_probabilities_of, strict=True):
                part.append(sums(said_of, batch.label, batch.mask))
                outcome.append((batch.label[real], *outcomes(said_of[real])))
            if on_batch is not None:
                on_batch(batch, feeds[0].class_names)
            done(int(batch.mask.sum()))
    classes = len(feeds[0].class_names)
    tallies = []
    for outcome in said:
        label, predicted, confidence = map(np.concatenate, zip(*outcome, strict=True))
        tallies.append(Tally.of(label, predicted, confidence, classes))
    means = [metrics.means(part) | t.means for part, t in zip(parts, tallies, strict=True)]
    together, *each = means
    if not together["examples"]:
        raise InputError(f"none of the {total} images of the split can be decoded")
    scores: list[dict[str, Any]] = [
        {
            "workdir": member.name,
            "model": member.config["model"]["name"],
            "step": member.step,
            "image_sizes": [side(f.split.image_shape) for f in feeds if index in f.members],
            **_finite(of_member),
        }
        for index, (member, of_member) in enumerate(zip(members, each, strict=True))
    ]
    unreadable = total - int(together["examples"])
    return {**_finite(together), "unreadable": unreadable, "members": scores}, tallies[0]


def _finite(means: Mapping[str, float]) -> dict[str, float | None]:
    """The means as JSON can have them: None where one is not finite."""
    return {name: value if math.isfinite(value) else None for name, value in means.items()}
