"""Evaluate a finished run, or several as an ensemble, on any split.

    python -m senet_jax.evaluate --workdir=runs/x
    python -m senet_jax.evaluate --workdir=runs/x --split=train --dataset=imagenet_v2
    python -m senet_jax.evaluate --workdir=runs/x --image_size=320 --crops=10
    python -m senet_jax.evaluate --workdir=runs/x --workdir=runs/y --flip --predictions=said.csv

Prints top-1 and top-5 error in per cent, of the ensemble and of each of its networks. What counts
is the mean of the probabilities, over networks and over what each is shown of an image. Everything
is by default as the run has it.

    --split, --dataset   any TFDS split expression, and a dataset of as many classes
    --image_size         of streamed images, in pixels; several, as in 224,320, are averaged over
    --crops              1: the middle; 10: corners and middle, and their mirror images
    --eval_crop          side of a crop against the shorter side of the image
    --flip               average over each image and its mirror image
    --weights            final, ema (moving averages), best (of the lowest error, if kept)
    --checkpoint=latest  also of a run that is not finished
    --batch_size         examples a step
    --predictions        a CSV file to write what was predicted to, example by example
    --json               print for machines
"""

import json
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from senet_jax.errors import InputError
from senet_jax.system import cli, host_memory
from senet_jax.system.terminal import counting

if TYPE_CHECKING:  # these import JAX, which is slow: flags come first
    from senet_jax.inference.ensemble import Feed, Member, Predicted, TestViews
    from senet_jax.inference.predictions import Predictions


def main(argv: list[str]) -> None:
    values = define_flags()
    if left_over := cli.parse_flags(argv, values):
        raise InputError(
            f"unexpected argument {left_over[0]!r}; flags look like --workdir=runs/x, once for "
            "each network of an ensemble"
        )
    if not values.workdir:
        raise InputError("give the work directory of a run, e.g. --workdir=runs/x")
    if values.batch_size is not None and values.batch_size < 1:
        raise InputError(f"--batch_size must be at least 1, not {values.batch_size}")
    sizes = whole_numbers(values.image_size)
    if values.predictions:
        check_writable(Path(values.predictions))

    from senet_jax.inference import ensemble
    from senet_jax.inference.predictions import Predictions
    from senet_jax.system import compilation_cache, interrupt

    try:
        views = ensemble.TestViews(sizes, values.crops, values.eval_crop, values.flip)
    except ValueError as error:
        raise InputError(str(error)) from error
    compilation_cache.enable()
    host_memory.release_after_compilation()
    with interrupt.at_safe_points() as stop:
        directories = [Path(directory) for directory in values.workdir]
        unfinished = values.checkpoint == "latest"
        members = ensemble.load_members(directories, values.weights, unfinished=unfinished)
        own = members[0].config["data"]
        dataset, split = values.dataset or own["name"], values.split or own["eval_split"]
        feeds = ensemble.feeds(members, dataset, split, views)
        if (names := feeds[0].class_names) != members[0].class_names:
            print(
                f"warning: the classes of {dataset} have other names than those of {own['name']}, "
                f"such as {names[0]!r} and {members[0].class_names[0]!r}; they are compared by "
                "number",
                file=sys.stderr,
            )
        rows = Predictions(feeds[0].class_names) if values.predictions else None
        batch_size = values.batch_size or default_batch_size(members, views)
        said = ensemble.predictions(
            members, feeds, views, batch_size, lambda: stop.if_asked(members[0].variables)
        )
        found = evaluate(said, members, feeds, rows)
    shown = {"crops": views.crops, "flip": views.mirrored, "weights": values.weights}
    result = {"dataset": dataset, "split": split, **shown, **found}
    print(json.dumps(result, indent=2, allow_nan=False) if values.json else in_words(result))
    if rows is not None:
        rows.write(Path(values.predictions))
        print(f"-> {values.predictions}", file=sys.stderr if values.json else sys.stdout)


def define_flags() -> flags.FlagValues:
    values = flags.FlagValues()
    flags.DEFINE_multi_string("workdir", [], "Of a run; once for each network.", flag_values=values)
    flags.DEFINE_string("dataset", None, "Of TFDS, with as many classes.", flag_values=values)
    flags.DEFINE_string("split", None, "A TFDS split expression.", flag_values=values)
    flags.DEFINE_list("image_size", None, "In pixels.", flag_values=values)
    flags.DEFINE_integer("crops", 1, "1 or 10.", flag_values=values)
    flags.DEFINE_float(
        "eval_crop", None, "Side of a crop against the shorter side.", flag_values=values
    )
    flags.DEFINE_bool("flip", False, "Average over mirror images as well.", flag_values=values)
    flags.DEFINE_enum("weights", "final", ["final", "ema", "best"], "Of a run.", flag_values=values)
    flags.DEFINE_enum("checkpoint", "final", ["final", "latest"], "Of a run.", flag_values=values)
    flags.DEFINE_integer("batch_size", None, "Examples a step.", flag_values=values)
    flags.DEFINE_string("predictions", None, "CSV file to write.", flag_values=values)
    flags.DEFINE_bool("json", False, "Print for machines.", flag_values=values)
    return values


def whole_numbers(texts: Sequence[str] | None) -> tuple[int, ...]:
    """Of --image_size. Raises: InputError for what is none."""
    try:
        return tuple(dict.fromkeys(int(text) for text in texts or ()))
    except ValueError as error:
        raise InputError(
            f"--image_size takes whole numbers, such as 224 or 224,320, not {','.join(texts or ())}"
        ) from error


def check_writable(path: Path) -> None:
    """Raises: InputError, touching nothing, if a file cannot be written there."""
    if path.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
        reason = "it is a directory" if path.is_dir() else f"{path.parent} is no writable directory"
        raise InputError(f"--predictions={path} cannot be written: {reason}")


def default_batch_size(members: Sequence["Member"], views: "TestViews") -> int:
    """Examples a step: as many as keep a network as busy as a step of its training."""
    smallest = min(member.config["train"]["batch_size"] for member in members)
    return max(1, smallest // views.count)


def evaluate(
    said: Iterable["Predicted"],
    members: Sequence["Member"],
    feeds: Sequence["Feed"],
    rows: "Predictions | None",
) -> dict[str, Any]:
    """Loss, errors and numbers of examples of an ensemble, and of each of its "members".

    A loss that is not finite is None.

    Args:
      feeds: what `said` was said of.
      rows: is given everything, example by example.

    Raises: InputError for a split without labels, or of which nothing can be decoded.
    """
    from senet_jax.evaluation import metrics
    from senet_jax.evaluation.scores import sums

    tallies: list[list[dict[str, float]]] = [[] for _ in (None, *members)]
    total = len(feeds[0].split)
    with counting(total, "evaluating") as done:
        for one in said:
            if (one.label[one.mask > 0] < 0).any():
                raise InputError("the split has examples without labels, so there are no errors")
            for tally, log_probability in zip(tallies, (one.together, *one.members), strict=True):
                tally.append(sums(log_probability, one.label, one.mask))
            if rows is not None:
                rows.add(one)
            done(int(one.mask.sum()))
    together, *each = (metrics.means(tally) for tally in tallies)
    if not together["examples"]:
        raise InputError(f"none of the {total} images of the split can be decoded")
    said_by: list[dict[str, Any]] = [
        {
            "workdir": member.name,
            "model": member.config["model"]["name"],
            "step": member.step,
            "image_sizes": [f.split.image_shape[0] for f in feeds if index in f.members],
            **finite(means),
        }
        for index, (member, means) in enumerate(zip(members, each, strict=True))
    ]
    unreadable = total - int(together["examples"])
    return {**finite(together), "unreadable": unreadable, "members": said_by}


def finite(means: Mapping[str, float]) -> dict[str, float | None]:
    """None for what is not finite, as JSON has it."""
    return {name: value if math.isfinite(value) else None for name, value in means.items()}


def in_words(result: Mapping[str, Any]) -> str:
    """What was evaluated and how it went, for people."""
    members, on = result["members"], f"{result['dataset']}, split {result['split']!r}"
    what = f"ensemble of {len(members)}" if len(members) > 1 else described(members[0], result)
    said = [f"{what}, on {on}", f"{errors(result)}, on {result['examples']:,} examples"]
    if len(members) > 1:
        said += [f"- {described(member, result)}: {errors(member)}" for member in members]
    if result["unreadable"]:
        said.append(f"{result['unreadable']:,} images cannot be decoded and are left out")
    return "\n".join(said)


def described(member: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    """A network, its weights, and what it was shown."""
    of = {"final": "", "ema": "moving averages of ", "best": "lowest error, "}[result["weights"]]
    sizes = " and ".join(map(str, member["image_sizes"]))
    shown = f"10 crops of {sizes} pixels" if result["crops"] == 10 else f"{sizes} pixels"
    if result["flip"] and result["crops"] == 1:
        shown += " and mirror images"
    return f"{member['model']} of {member['workdir']} ({of}step {member['step']:,}), {shown}"


def errors(found: Mapping[str, Any]) -> str:
    loss = "not finite" if found["loss"] is None else f"{found['loss']:.4f}"
    return (
        f"top-1 error {found['top1_error']:.2f} %, top-5 error {found['top5_error']:.2f} %, "
        f"loss {loss}"
    )


if __name__ == "__main__":
    host_memory.use_huge_pages()
    cli.run(main, __doc__)
