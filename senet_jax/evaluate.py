"""Evaluate a finished run, or several as an ensemble, on any split.

    python -m senet_jax.evaluate --workdir=runs/x
    python -m senet_jax.evaluate --workdir=runs/x --split=train --dataset=imagenet_v2
    python -m senet_jax.evaluate --workdir=runs/x --image_size=320 --crops=10
    python -m senet_jax.evaluate --workdir=runs/x --workdir=runs/y --flip --predictions=y.csv
    python -m senet_jax.evaluate --workdir=runs/x --suite=cifar100c:FOLDER --against=runs/y

Prints top-1, top-5 and balanced error and the expected calibration error in per cent, of the
ensemble and of each of its networks. Probabilities
are averaged over the networks, and over the views that each is shown of an image. Without flags all
is as in the evaluation of the run itself. A run of several that cannot be loaded is named at the
end, with status 2; the ensemble is then that of the others.

    --workdir            work directory of a run; give it once for each network
    --dataset, --split   a dataset with as many classes, as data.name has it, and any split
                         expression
    --image_size         height and width of streamed images in pixels; several, as in 224,320, are
                         averaged over
    --crops              1: the middle; 10: the middle, the corners, and their mirror images
    --eval_crop          side of a crop against the shorter side of the image, above 0, at most 1
    --flip               average over each image and its mirror image
    --weights            final, ema (moving averages), or best (lowest error, if the run kept it)
    --checkpoint=latest  take a run that is not finished as well
    --batch_size         examples per step
    --predictions        CSV file to write the predictions to, a row per example
    --report             folder for errors by class, confusion matrix and calibration, with pictures
    --suite              imagenet, cifar10c or cifar100c, or one of these with a folder as in
                         cifar100c:FOLDER: the run on each of their test sets. What is not here is
                         named at the end, with status 2
    --against            work directory of a run to compare with on the suite
    --json               print JSON
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from senet_jax.errors import InputError, counted, refuse
from senet_jax.evaluation import metrics
from senet_jax.inference.network_flags import define_run_flags
from senet_jax.runs import class_files
from senet_jax.system import cli, files, host_memory

PREDICTIONS = b"index,label"  # how a file of predictions_csv.py begins


def main(argv: list[str]) -> None:
    values = define_flags()
    if extra := cli.parse_flags(argv, values):
        raise InputError(
            f"unexpected argument {extra[0]!r}; flags look like --workdir=runs/x, once for "
            "each network of an ensemble"
        )
    if not values.workdir:
        raise InputError("give the work directory of a run, e.g. --workdir=runs/x")
    if values.batch_size is not None and values.batch_size < 1:
        raise InputError(f"--batch_size must be at least 1, not {values.batch_size}")
    sizes = whole_numbers(values.image_size)
    if values.predictions:
        check_writable(Path(values.predictions))
    if values.report:
        check_report(Path(values.report))

    if values.suite:
        return on_suite(values, sizes)
    if values.against:
        raise InputError("--against is for --suite; without, give both runs as --workdir")

    # These import JAX, which is slow: flags come first.
    from senet_jax.inference.ensemble import evaluate_runs
    from senet_jax.inference.ensemble_views import TestViews
    from senet_jax.inference.predictions_csv import PredictionsCsv
    from senet_jax.system import compilation_cache
    from senet_jax.training import class_errors

    views = TestViews(sizes, values.crops, values.eval_crop, values.flip)
    compilation_cache.enable()
    host_memory.release_after_compilation()
    predictions, errors = PredictionsCsv(), list[InputError]()
    counted, undrawn = list[tuple[Any, Sequence[str]]](), list[str]()
    result = evaluate_runs(
        values.workdir,
        dataset=values.dataset,
        split=values.split,
        views=views,
        weights=values.weights,
        unfinished=values.checkpoint == "latest",
        batch_size=values.batch_size,
        on_batch=predictions.add if values.predictions else None,
        on_error=errors.append,
        on_tally=lambda tally, names: counted.append((tally, names)),
    )
    try:
        print(json.dumps(result, indent=2, allow_nan=False) if values.json else in_words(result))
    finally:  # output that cannot be written does not take the predictions with it
        if values.predictions:
            predictions.write(Path(values.predictions))
        if values.report:
            folder, caption = Path(values.report), in_words(result).replace("\n", "; ")
            undrawn += class_errors.write_all(folder, *counted[0], caption)
    for written in filter(None, (values.predictions, values.report)):
        print(f"-> {written}", file=sys.stderr if values.json else sys.stdout)
    of = f"{len(errors)} of {len(values.workdir)} runs left out"
    return refuse([*undrawn, "; ".join([of, *map(str, errors)]) if errors else ""])


def on_suite(values: flags.FlagValues, sizes: tuple[int, ...]) -> None:
    """Evaluate a run, or two, on a suite. Raises: InputError for what does not go with that."""
    for name in ("dataset", "split", "predictions", "report"):
        if values[name].value:
            raise InputError(f"--{name} has no effect with --suite: leave it out")
    if len(values.workdir) > 1:
        raise InputError("--suite takes one --workdir, and another run as --against")

    from senet_jax.inference import robustness
    from senet_jax.inference.ensemble_views import TestViews
    from senet_jax.system import compilation_cache

    views = TestViews(sizes, values.crops, values.eval_crop, values.flip)
    compilation_cache.enable()
    result = robustness.evaluate_suite(
        values.suite,
        [*values.workdir, *([values.against] if values.against else [])],
        views=views,
        weights=values.weights,
        unfinished=values.checkpoint == "latest",
        batch_size=values.batch_size,
    )
    as_json = json.dumps(result, indent=2, allow_nan=False) if values.json else ""
    print(as_json or robustness.in_words(result))
    count = len(result["missing"])
    refuse([f"{counted(count, 'set')} left out; {'; '.join(result['missing'])}"] if count else [])


def define_flags() -> flags.FlagValues:
    values = flags.FlagValues()
    cli.define_paths("workdir", "Of a run; once per network.", flag_values=values)
    flags.DEFINE_string("dataset", None, "A dataset.", flag_values=values)
    flags.DEFINE_string("split", None, "A TFDS split expression.", flag_values=values)
    flags.DEFINE_list("image_size", None, "Heights and widths in pixels.", flag_values=values)
    flags.DEFINE_integer("crops", 1, "1 or 10.", flag_values=values)
    flags.DEFINE_bool("flip", False, "Average over mirror images as well.", flag_values=values)
    define_run_flags(values)
    flags.DEFINE_integer("batch_size", None, "Examples per step.", flag_values=values)
    cli.define_path("report", None, "Folder for errors by class.", flag_values=values)
    cli.define_path("predictions", None, "CSV file to write.", flag_values=values)
    flags.DEFINE_string("suite", None, "Several test sets.", flag_values=values)
    cli.define_path("against", None, "A run to compare with.", flag_values=values)
    flags.DEFINE_bool("json", False, "Print JSON.", flag_values=values)
    return values


def whole_numbers(texts: Sequence[str] | None) -> tuple[int, ...]:
    """Read the values of --image_size. Raises: InputError if one is no whole number."""
    try:
        return tuple(dict.fromkeys(int(text) for text in texts or ()))
    except ValueError as error:
        raise InputError(
            f"--image_size takes whole numbers, such as 224 or 224,320, not {','.join(texts or ())}"
        ) from error


def first_bytes(path: Path) -> bytes:
    """As many bytes of a file as tell whether it holds predictions, or fewer."""
    with path.open("rb") as file:
        return file.read(len(PREDICTIONS))


def check_writable(path: Path) -> None:
    """Check, touching nothing, that predictions can be written there; they replace only their like.

    Raises: InputError if not.
    """
    folder, reason = path.resolve().parent, ""
    if path.is_dir():
        reason = "it is a directory"
    elif path.exists() and not path.is_file():
        reason = "it is a device or a pipe, not a file"
    elif path.exists() and any(os.path.samestat(path.stat(), os.fstat(out)) for out in (1, 2)):
        reason = "the output of this command goes there"
    elif not os.access(folder, os.W_OK | os.X_OK):
        reason = f"{folder} is no writable directory"
    elif path.exists() and first_bytes(path) not in (b"", PREDICTIONS):
        reason = "it is a file that holds no predictions"
    if reason:
        raise InputError(f"--predictions={path} cannot be written: {reason}")


def check_report(folder: Path) -> None:
    """Check, touching nothing, that a report can be written there, and replaces only its like.

    Raises: InputError if not.
    """
    files.check_folder(folder, "--report")
    if (folder / "config.json").exists():
        raise InputError(f"--report={folder} holds a run, with errors by class of its own")
    for name, head in class_files.HEADS.items():
        path = folder / name
        if path.exists() and not (path.is_file() and path.read_bytes().startswith(head)):
            raise InputError(f"--report={folder} cannot be written: {name} there is of others")


def in_words(result: Mapping[str, Any]) -> str:
    """Say what was evaluated and how it went, for people."""
    members = result["members"]
    what = network(members[0], result) if len(members) == 1 else f"ensemble of {len(members)}"
    lines = [
        f"{what}, on {result['dataset']}, split {result['split']!r}",
        f"{errors(result)}, on {counted(result['examples'], 'example')}",
    ]
    if len(members) > 1:
        lines += [f"- {network(member, result)}: {errors(member)}" for member in members]
    for run, count in result["seen_before"].items():
        lines.append(
            f"{count:,} of these are among those that {run} was trained on: the error is too good"
        )
    if result["unreadable"]:
        lines.append(f"left out, as undecodable: {counted(result['unreadable'], 'image')}")
    return "\n".join(lines)


def network(member: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    """Describe a network, its weights, and what it was shown."""
    kind = {"final": "", "ema": "moving averages of ", "best": "lowest error, "}[result["weights"]]
    sides = [size if isinstance(size, list) else [size] for size in member["image_sizes"]]
    sizes = " and ".join(" x ".join(map(str, side)) for side in sides)
    shown = f"10 crops of {sizes} pixels" if result["crops"] == 10 else f"{sizes} pixels"
    if result["flip"] and result["crops"] == 1:
        shown += " and mirror images"
    return f"{member['model']} of {member['workdir']} ({kind}step {member['step']:,}), {shown}"


def errors(scores: Mapping[str, Any]) -> str:
    loss = "not finite" if scores["loss"] is None else f"{scores['loss']:.4f}"
    return (
        f"top-1 error {scores['top1_error']:.2f} %, top-5 error {scores['top5_error']:.2f} %, "
        f"loss {loss}, {metrics.in_words(scores)}"
    )


if __name__ == "__main__":
    host_memory.use_huge_pages()
    cli.run(main, __doc__)
