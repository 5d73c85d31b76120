"""Measure the accuracy of timm's weights on a folder of images, against what timm publishes.

    python -m experiments.timm_accuracy --images=imagenet/val
    python -m experiments.timm_accuracy 'seresnet50.*' legacy_senet154.in1k --images=imagenet/val

Each set of weights is downloaded to the hub's cache. With --weights=FOLDER it is read from
FOLDER/NAME or FOLDER/NAME.safetensors. Its top-1 and top-5 accuracies are compared with those that
timm publishes for the same pixels, crop and interpolation, in results/timm_accuracy.csv, which has
rows of timm's results-imagenet.csv.

Images are in one folder per class; the folders in order of their names, or numbers, are the
classes. With --labels=FILE they are in one folder, and each line of the file has an image's name
and its class, counted from 0. --limit=N takes N images, spread over all; --batch=N computes N at
once; --csv=FILE also writes the rows to a file.
"""

import contextlib
import csv
import dataclasses
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from senet_jax import models
from senet_jax.data import image_search
from senet_jax.data.image_files import open_image
from senet_jax.data.split import check_labels
from senet_jax.errors import InputError, did_you_mean
from senet_jax.inference.preprocessing import Preprocessing
from senet_jax.system import cli, processors
from senet_jax.weights import files as weight_files
from senet_jax.weights import loading
from senet_jax.weights.image_spec import ImageSpec

FILE = Path(__file__).parent / "results" / "timm_accuracy.csv"
COLUMNS = ("weights", "pixels", "images", "top-1", "timm", "difference", "top-5", "timm")


@dataclasses.dataclass(frozen=True)
class TimmAccuracy:
    """A row of timm's results: a set of weights at one size of images; accuracies in per cent."""

    weights: str
    pixels: int
    crop_pct: float
    interpolation: str
    top1: float
    top5: float

    def images(self, config: ImageSpec) -> ImageSpec:
        """The images of the weights, but with the size, crop and interpolation of this row."""
        size = (3, self.pixels, self.pixels)
        return dataclasses.replace(
            config, input_size=size, crop_pct=self.crop_pct, interpolation=self.interpolation
        )


def main(argv: list[str]) -> None:
    values = flags.FlagValues()
    cli.define_path("images", None, "Folder of images.", flag_values=values)
    cli.define_path("labels", None, "File of names and classes.", flag_values=values)
    cli.define_path("weights", None, "Folder of weights; else the hub's.", flag_values=values)
    flags.DEFINE_integer("batch", 32, "Images at once.", flag_values=values)
    flags.DEFINE_integer("limit", 0, "Images, spread over all; 0: all.", flag_values=values)
    cli.define_path("csv", None, "File to write the rows to.", flag_values=values)
    rows = chosen(cli.parse_flags(argv, values))
    if not values.images:
        raise InputError("give a folder of images, e.g. --images=imagenet/val")
    if values.batch < 1 or values.limit < 0:
        raise InputError("--batch must be at least 1 and --limit at least 0")
    labels = Path(values.labels) if values.labels else None
    examples, classes = find_images(Path(values.images), labels)
    if values.limit:
        count, total = min(values.limit, len(examples)), len(examples)
        examples = [examples[place * total // count] for place in range(count)]
    measured, failed = [], []
    for row in rows:
        try:
            source = _source(row.weights, values.weights)
            measured.append(evaluate(row, source, examples, classes, values.batch))
            print(_line(measured[-1]), flush=True)
        except weight_files.Unreachable:
            raise  # the other rows would wait for the hub again
        except InputError as error:  # one row that fails does not stop the others
            failed.append(row)
            print(f"{row.weights}: {error}", file=sys.stderr, flush=True)
    if measured:
        _show(measured)
    if measured and values.csv:
        _write(Path(values.csv), measured)
    if failed:
        raise InputError(f"{len(failed)} of {len(rows)} were not evaluated")


def timm_accuracies() -> list[TimmAccuracy]:
    """Read the rows of timm_accuracy.csv."""
    with FILE.open(encoding="utf-8") as file:
        return [
            TimmAccuracy(
                row["weights"],
                int(row["pixels"]),
                float(row["crop_pct"]),
                row["interpolation"],
                float(row["top1"]),
                float(row["top5"]),
            )
            for row in csv.DictReader(file)
        ]


def chosen(patterns: Sequence[str]) -> list[TimmAccuracy]:
    """The rows whose weights match any of the shell patterns; all rows if there are none.

    Raises: InputError if a pattern matches nothing.
    """
    rows = timm_accuracies()
    names = {row.weights for row in rows}
    for pattern in patterns:
        if not models.matching(pattern, names):
            raise InputError(
                f"{FILE.name} has no accuracy of {pattern!r}{did_you_mean(pattern, names)}"
            )
    wanted = {name for pattern in patterns or ["*"] for name in models.matching(pattern, names)}
    return [row for row in rows if row.weights in wanted]


def find_images(folder: Path, labels: Path | None) -> tuple[list[tuple[Path, int]], int | None]:
    """Find images; returns their paths and classes, and the number of folders, one per class.

    With a file of labels the number of classes is not known, and None.

    Raises: InputError if there are no images, or the file of labels cannot be used.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder of images {folder}")
    if labels:
        return _labelled(folder, labels), None
    folders = (path for path in folder.iterdir() if path.is_dir())
    classes = sorted(path for path in folders if not path.name.startswith("."))
    if all(path.name.isdecimal() for path in classes):  # "10" is not between "1" and "2"
        classes.sort(key=lambda path: int(path.name))
    examples = []
    for number, inside in enumerate(classes):
        with contextlib.suppress(InputError):  # a class without an image
            examples += [(path, number) for path in image_search.find_images([str(inside)])]
    if not examples:
        raise InputError(f"{folder} has no folders of images, one per class; or give --labels=FILE")
    return examples, len(classes)


def _labelled(folder: Path, labels: Path) -> list[tuple[Path, int]]:
    try:
        lines = labels.read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"{labels} cannot be read: {error}") from error
    examples: dict[Path, int] = {}
    for number, line in enumerate(lines, start=1):
        name, _, label = line.replace(",", " ").strip().rpartition(" ")
        path = Path(os.path.normpath(folder / name.strip()))
        if not label.isdecimal() or not path.is_file():
            raise InputError(
                f"line {number} of {labels} is no file of {folder} and class: {line!r}"
            )
        if path in examples:
            raise InputError(f"line {number} of {labels} names {path.name} again: {line!r}")
        examples[path] = int(label)
    return list(examples.items())


def _source(name: str, folder: str | None) -> Any:
    """The weights' file or folder, or True for the hub's."""
    if not folder:
        return True
    inside = Path(folder) / name
    file = inside.with_name(f"{name}.safetensors")
    return file if file.is_file() else inside


def evaluate(
    row: TimmAccuracy,
    source: Any,
    examples: Sequence[tuple[Path, int]],
    classes: int | None,
    batch: int,
) -> dict[str, Any]:
    """Measure our accuracies; returns them in per cent beside the row's.

    Args:
      row: the weights and what timm publishes of them.
      source: the weights' file or folder, or True for the hub's.
      examples: paths of images and their classes.
      classes: the number of classes; None if it is not known.
      batch: images per call of the network.

    Raises: InputError if the weights cannot be read, or have a different number of classes,
      or a label is none of them.
    """
    if source is not True and not source.exists():
        raise InputError(f"there is no {source}")
    weights = loading.load_pretrained(row.weights, source)
    assert weights.image_spec is not None
    outputs = weights.model.num_classes
    if classes not in (None, outputs):
        raise InputError(
            f"it knows {outputs} classes and the images are in {classes} folders; where some are "
            "left out, give the classes with --labels"
        )
    of_images = np.array([label for _, label in examples])
    remedy = "the weights count their classes from 0"
    check_labels(of_images, outputs, f"{len(examples):,} labels of the images", remedy)
    shown = Preprocessing.of_weights(row.images(weights.image_spec))
    forward = jax.jit(
        lambda variables, images: weights.model.apply(variables, shown.normalize(images))
    )
    top1 = top5 = 0
    for images, labels in _batches(examples, shown, batch, row.weights):
        logits = np.asarray(forward(weights.variables, images))[: len(labels)]
        order = np.argsort(-logits, axis=-1, kind="stable")[:, :5]
        hits = order == labels[:, None]
        top1, top5 = top1 + int(hits[:, 0].sum()), top5 + int(hits.sum())
    return {
        "weights": row.weights,
        "pixels": row.pixels,
        "images": len(examples),
        "top1": round(100 * top1 / len(examples), 3),
        "timm_top1": row.top1,
        "top5": round(100 * top5 / len(examples), 3),
        "timm_top5": row.top5,
    }


def _batches(
    examples: Sequence[tuple[Path, int]], shown: Preprocessing, batch: int, name: str
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield uint8 images [batch, H, W, 3] and their labels, fewer in the last batch."""
    starts = range(0, len(examples), batch)
    terminal = Console(stderr=True)
    with ThreadPoolExecutor(len(processors.usable())) as pool:
        for start in track(starts, name, console=terminal, disable=not terminal.is_terminal):
            part = examples[start : start + batch]
            images = np.stack(list(pool.map(lambda example: read(example[0], shown), part)))
            missing = batch - len(part)
            yield (
                np.pad(images, ((0, missing), (0, 0), (0, 0), (0, 0))),
                np.array([label for _, label in part]),
            )


def read(path: Path, shown: Preprocessing) -> np.ndarray:
    """Read an image file as a network is shown it, uint8 [H, W, 3]; as in timm, not turned upright.

    Raises: InputError if it is no image.
    """
    return shown(open_image(path, upright=False))


def _line(row: dict[str, Any]) -> str:
    return (
        f"{row['weights']} at {row['pixels']} pixels: top-1 {row['top1']:.3f} %, timm's "
        f"{row['timm_top1']:.3f} %"
    )


def _show(rows: Sequence[dict[str, Any]]) -> None:
    table = Table(box=box.SIMPLE, padding=0, pad_edge=False)
    for column in COLUMNS:
        is_name = column == "weights"
        table.add_column(column, justify="left" if is_name else "right", no_wrap=True)
    for row in rows:
        difference = f"{row['top1'] - row['timm_top1']:+.3f}"
        cells = (row["images"], row["top1"], row["timm_top1"], difference)
        table.add_row(
            row["weights"], *map(str, (row["pixels"], *cells, row["top5"], row["timm_top5"]))
        )
    Console(file=sys.stdout).print(table)


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    from senet_jax.system import compilation_cache

    compilation_cache.enable()
    cli.run(main, __doc__)
