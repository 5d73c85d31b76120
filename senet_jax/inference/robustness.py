"""One network, or two against each other, on a suite of test sets: errors, tests, intervals."""

import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from senet_jax.data.corruptions import MAIN
from senet_jax.errors import InputError
from senet_jax.evaluation import intervals
from senet_jax.inference import suites
from senet_jax.inference.ensemble import batch_size_for, predict
from senet_jax.inference.ensemble_members import load_members
from senet_jax.inference.ensemble_views import Feed, TestViews
from senet_jax.inference.suites import TestSet
from senet_jax.inference.trained_run import TrainedNetwork
from senet_jax.runs.stored import FINAL
from senet_jax.system import interrupt
from senet_jax.system.terminal import counting
from senet_jax.training import seen


def evaluate_suite(
    suite: str,
    directories: Sequence[Path | str],
    *,
    views: TestViews | None = None,
    weights: str = FINAL,
    unfinished: bool = False,
    batch_size: int | None = None,
) -> dict[str, Any]:
    """Evaluate a trained run, or two against each other, on a suite.

        result = evaluate_suite("cifar100c:cifar100c", ["runs/x", "runs/y"])
        result["mean_corruption_error"], result["difference"]["interval"]

    Args:
      suite: see `suites.find`.
      directories: a work directory, or two.
      views, weights, unfinished, batch_size: see `evaluate_runs`.

    Returns:
      `sets`, one dict per set and severity with the `errors` of the networks in per cent and, of
      two, the exact p-value of McNemar's test and the bootstrap interval of the difference of their
      errors; `missing`, a sentence per reason why sets are left out; of corruptions also
      `mean_corruption_error`, over the kinds that the paper averages over; of two networks the
      `difference` of that, with its bootstrap interval over the images, and the `relative_error`:
      the mean over kinds of the first network's error in per cent of the second's.

    Raises: InputError if none of the sets is here, and for runs that cannot be loaded.
    """
    sets, views = suites.find(suite), views or TestViews()
    with interrupt.at_safe_points() as stop:
        members = load_members([*map(Path, directories)], weights, unfinished=unfinished)
        between = functools.partial(stop.if_asked, members[0].variables)
        _warn(suite, members)
        rows, wrong = list[dict[str, Any]](), dict[str, np.ndarray]()
        lacking = dict[str, list[str]]()  # reasons, and what lacks for each
        with counting(len(sets), f"sets of {suite.partition(':')[0]}") as done:
            for one in sets:
                try:
                    of_set = [wrong_of(m, one, views, batch_size, between) for m in members]
                except InputError as error:
                    lacking.setdefault(str(error), []).append(one.name)
                else:
                    wrong[one.name] = np.stack(of_set)
                    rows += _rows(one, wrong[one.name])
                done(1)
    missing = [f"{', '.join(names)}: {reason}" for reason, names in lacking.items()]
    if not rows:
        raise InputError(f"no set of the suite {suite} can be evaluated: {'; '.join(missing)}")
    return {
        "suite": suite,
        "networks": [member.name for member in members],
        "sets": rows,
        "missing": missing,
        **_over_corruptions({name: wrong[name] for name in MAIN if name in wrong}),
    }


def _warn(suite: str, members: Sequence[TrainedNetwork]) -> None:
    """Say where classes may be others than a network's, or images those it was trained on."""
    for reason in filter(None, (suites.doubt(suite, member) for member in members)):
        print(f"warning: classes are compared by number, and {reason}", file=sys.stderr)
    if not (made_of := suites.originals(suite)):
        return
    for run, count in seen.by_run(made_of, *(member.name for member in members)).items():
        print(
            f"warning: {count:,} of the images that {suite} was made of are among those "
            f"that {run} was trained on: its errors are too good",
            file=sys.stderr,
        )


def wrong_of(
    member: TrainedNetwork,
    test_set: TestSet,
    views: TestViews,
    batch_size: int | None,
    between: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """Whether a network is wrong on each image of a set, [severities, N].

    Raises: InputError as `test_set.show`.
    """
    shown = test_set.show(member, views)
    feeds = [Feed(split, member.class_names, (0,)) for split in shown.splits]
    size = batch_size_for([member], views, batch_size, len(shown.splits[0]))
    parts = [
        (batch.label, batch.mask > 0, batch.together)
        for batch in predict([member], feeds, views, size, between)
    ]
    label, real, said = (np.concatenate(arrays)[:] for arrays in zip(*parts, strict=True))
    right = label if shown.numbers is None else shown.numbers[label]
    among = np.unique(right[real]) if test_set.few_classes else None
    if among is not None and len(among) < test_set.few_classes:
        print(
            f"warning: {test_set.name} has images of {len(among)} of its {test_set.few_classes} "
            f"classes here, and {member.name} chooses among these: its error is too good",
            file=sys.stderr,
        )
    chosen = _chosen(said, among)
    if shown.several is not None:
        pairs = zip(chosen, shown.several, real, strict=False)
        return np.array(
            [[one not in right for one, right, is_real in pairs if is_real and len(right)]]
        )
    return (chosen != right)[real].reshape(len(test_set.severities), -1)


def _chosen(said: np.ndarray, among: np.ndarray | None) -> np.ndarray:
    """The most probable class of each image [N], of some or of all classes; -1 where one is NaN."""
    best = said.argmax(-1) if among is None else among[said[:, among].argmax(-1)]
    return np.where(np.isnan(said).any(-1), -1, best)


def _rows(test_set: TestSet, wrong: np.ndarray) -> list[dict[str, Any]]:
    """A dict per severity; `wrong` is [networks, severities, N]."""
    rows = []
    for place, severity in enumerate(test_set.severities):
        of_networks = wrong[:, place]
        row: dict[str, Any] = {"set": test_set.name}
        if severity:
            row["severity"] = severity
        row |= {"examples": of_networks.shape[1], "errors": (100 * of_networks.mean(1)).tolist()}
        if len(of_networks) == 2:
            one, other = of_networks
            row["mcnemar_p"] = intervals.mcnemar(
                int((one & ~other).sum()), int((other & ~one).sum())
            )
            row["interval"] = intervals.bootstrap(100.0 * one - 100.0 * other)
        rows.append(row)
    return rows


def _over_corruptions(wrong: dict[str, np.ndarray]) -> dict[str, Any]:
    """What is said of all kinds together, from [networks, severities, N] of each."""
    if not wrong:
        return {}
    of_kinds = np.stack([of_kind.mean(1) for of_kind in wrong.values()])  # [kinds, networks, N]
    errors = 100 * of_kinds.mean((0, 2))
    result: dict[str, Any] = {"mean_corruption_error": errors.tolist(), "kinds": len(wrong)}
    if len(errors) == 2:
        per_image = 100 * of_kinds.mean(0)
        difference = per_image[0] - per_image[1]  # of each image, over all its corruptions
        interval = intervals.bootstrap(difference)
        result["difference"] = {"mean": float(difference.mean()), "interval": interval}
        one, other = of_kinds.mean(2).T
        if other.all():
            result["relative_error"] = float(100 * (one / other).mean())
    return result


def in_words(result: dict[str, Any]) -> str:
    """The result of `evaluate_suite`, for people."""
    networks = result["networks"]
    lines = [f"{result['suite']}: top-1 error in per cent of {' and '.join(networks)}"]
    kinds = dict[str, list[dict[str, Any]]]()
    for row in result["sets"]:
        kinds.setdefault(row["set"], []).append(row)
    for name, rows in kinds.items():
        if "severity" in rows[0]:
            lines += [
                f"{name:18}{Path(network).name[-12:]:>13}  "
                + "".join(f"{row['errors'][place]:7.2f}" for row in rows)
                + f"   mean {np.mean([row['errors'][place] for row in rows]):.2f}"
                for place, network in enumerate(networks)
            ]
            continue
        (row,) = rows
        line = f"{name:18}{row['examples']:>9,} images"
        line += "".join(f"{error:8.2f}" for error in row["errors"])
        if len(networks) == 2:
            line += f"   {_interval(row['interval'])}, McNemar p = {row['mcnemar_p']:.3g}"
        lines.append(line)
    if errors := result.get("mean_corruption_error"):
        text = " and ".join(f"{error:.2f}" for error in errors)
        lines.append(f"mean corruption error over {result['kinds']} kinds: {text}")
    if difference := result.get("difference"):
        lines.append(f"difference {difference['mean']:+.2f}, {_interval(difference['interval'])}")
    if "relative_error" in result:
        lines.append(f"relative to the second network: {result['relative_error']:.1f} %")
    return "\n".join(lines)


def _interval(ends: tuple[float, float]) -> str:
    return "95 % bootstrap interval {:+.2f} to {:+.2f}".format(*ends)
