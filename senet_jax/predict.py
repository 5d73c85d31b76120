"""Say what is in image files, with published weights or those of a run.

    python -m senet_jax.predict --model=seresnet50.ra2_in1k cat.jpg holidays/
    python -m senet_jax.predict --model=runs/x --top=1 --json digits/ > answers.json
    python -m senet_jax.predict --model=senet154 --gates --cam=maps cat.jpg

Prints the most probable classes of each image. Folders are searched for images, with the folders in
them. The network is shown an image as in the evaluation of its weights, with their size, crop and
normalisation. Exit status 1 says that some images, which are named, could not be read; 2 that the
command could not be carried out. Ctrl-C and SIGTERM end it with what has been answered so far, and
status 130 and 143.

    --model       a name in timm, with or without the tag of weights; a hub id; a safetensors file
                  or folder; or the work directory of a run
    --top         number of classes per image; 5 by default
    --image_size  height and width in pixels, if different from those of the weights
    --eval_crop   side of the middle that is seen against the shorter side of the image
    --flip        average over each image and its mirror image; gates and maps are of the image
    --weights     weights of a run: final, ema (moving averages), or best (lowest error, if kept)
    --checkpoint=latest  take a run that is not finished as well
    --batch_size  images at once; 32 by default
    --gates       show which channels each SE block opened for each image
    --cam         folder to write class-activation maps to, a PNG per image
    --json        print JSON
"""

if __name__ == "__main__":
    from senet_jax.system import startup

    startup.begin(continues=False)

import functools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from senet_jax.errors import InputError, counted
from senet_jax.inference.network_flags import (
    check_network_flags,
    define_network_flags,
    load_network,
)
from senet_jax.system import cli, files, host_memory

if TYPE_CHECKING:  # these import JAX, which is slow: flags come first
    from senet_jax.inference.classifier import Classifier
    from senet_jax.inference.image_answers import Answer


def main(argv: list[str]) -> None:
    values = define_flags()
    images = [*map(files.local_path, cli.parse_flags(argv, values))]
    check_network_flags(values)
    if not images:
        raise InputError("give images or folders of images")
    for name in ("top", "batch_size"):
        if getattr(values, name) < 1:
            raise InputError(f"--{name} must be at least 1, not {getattr(values, name)}")
    maps = Path(values.cam) if values.cam is not None else None
    if maps:
        files.check_folder(maps, "--cam")

    from senet_jax.data.image_search import find_images
    from senet_jax.inference.image_answers import Question, answer_files
    from senet_jax.system import compilation_cache, interrupt

    paths = find_images(images)
    compilation_cache.enable()
    host_memory.release_after_compilation()
    question = Question(values.top, values.flip, values.gates, maps)
    network = load_network(values)
    answers: list[Answer] = []
    try:
        with interrupt.at_safe_points() as stop:
            check = functools.partial(stop.if_asked, network.variables)
            for answer in answer_files(network, paths, values.batch_size, question, check):
                answers.append(answer)
    finally:  # what ends it early does not take the answers with it
        if values.json and answers:
            print(json.dumps(as_json(network, answers), indent=2, allow_nan=False))
        elif answers:
            show(network, answers)
    if errors := [answer.error for answer in answers if answer.error]:
        print(*map(legible, errors), sep="\n", file=sys.stderr)
        print(f"no answer for {len(errors)} of {counted(len(answers), 'image')}", file=sys.stderr)
        sys.exit(1)


def define_flags() -> flags.FlagValues:
    values = flags.FlagValues()
    define_network_flags(values)
    flags.DEFINE_integer("top", 5, "Classes per image.", flag_values=values)
    flags.DEFINE_bool("flip", False, "Average over mirror images as well.", flag_values=values)
    flags.DEFINE_integer("batch_size", 32, "Images at once.", flag_values=values)
    flags.DEFINE_bool("gates", False, "Show what each SE block opened.", flag_values=values)
    cli.define_path("cam", None, "Folder of class-activation maps.", flag_values=values)
    flags.DEFINE_bool("json", False, "Print JSON.", flag_values=values)
    return values


def as_json(network: "Classifier", answers: Sequence["Answer"]) -> dict[str, Any]:
    """Everything that --json prints."""
    from senet_jax.models.shapes import side

    return {
        "model": network.name,
        "image_size": side(network.preprocessing.image_shape),
        "images": [answer_as_json(network.class_names, answer) for answer in answers],
    }


def answer_as_json(names: Sequence[str], answer: "Answer") -> dict[str, Any]:
    if answer.error is not None:
        return {"image": str(answer.path), "error": answer.error}
    content: dict[str, Any] = {
        "image": str(answer.path),
        "classes": [
            {"class": number, "name": names[number], "probability": probability}
            for number, probability in zip(answer.classes, answer.probabilities, strict=True)
        ],
    }
    if answer.gates:
        content["gates"] = {name: gates.tolist() for name, gates in answer.gates.items()}
    if answer.map:
        content["cam"] = str(answer.map)
    return content


def show(network: "Classifier", answers: Sequence["Answer"]) -> None:
    """Print tables for people."""
    console = Console(file=sys.stdout, highlight=False)
    answers = [answer for answer in answers if answer.error is None]
    if answers:
        console.print(class_table(network, answers))
    for answer in answers:
        if answer.gates:
            console.print(gate_table(answer, console.width))
    if maps := [answer.map for answer in answers if answer.map]:
        more = f" and {len(maps) - 1} more" if len(maps) > 1 else ""
        console.print(Text(f"-> {legible(maps[0])}{more}"), soft_wrap=True)


def class_table(network: "Classifier", answers: Sequence["Answer"]) -> Table:
    """A row per class of each image."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("image", overflow="fold", ratio=1)
    table.add_column("class", overflow="fold", ratio=1)
    table.add_column("probability", justify="right")
    for answer in answers:
        for place, number in enumerate(answer.classes):
            table.add_row(
                Text("" if place else legible(answer.path)),
                Text(legible(network.class_names[number])),
                f"{answer.probabilities[place]:.2%}",
                end_section=place == len(answer.classes) - 1 and len(answer.classes) > 1,
            )
    return table


def legible(text: Path | str) -> str:
    """A path, or a sentence with one, for one line of a terminal.

    What is no text, breaks lines or controls the terminal becomes question marks, and so does what
    its encoding lacks.
    """
    encoding = sys.stdout.encoding or "utf-8"
    text = str(text).encode(encoding, errors="replace").decode(encoding)
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def gate_table(answer: "Answer", width: int) -> Table:
    """A row per SE block: its gates for one image, in at most `width` columns of the terminal."""
    from senet_jax.inference.gate_statistics import summary_of_image

    table = Table(
        title=Text(f"Gates for {legible(answer.path)}"), title_justify="left", box=box.SIMPLE_HEAD
    )
    table.collapse_padding, table.pad_edge = True, False
    table.add_column("block", overflow="fold")
    for heading in ("C", "mean", "> 0.95", "< 0.05"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("most open", "most shut"):
        table.add_column(heading, no_wrap=True)
    fitting = (width - 48) // 22  # channels beside the other columns, in both of these
    for name, gates in answer.gates.items():
        summary = summary_of_image(gates, most=max(1, min(3, fitting)))
        extremes = (
            "  ".join(f"{channel}: {gate:.2f}" for channel, gate in summary[key])
            for key in ("most_open", "most_shut")
        )
        table.add_row(
            name.removesuffix("/se"),
            str(summary["channels"]),
            f"{summary['mean']:.3f}",
            f"{summary['high']:.1%}",
            f"{summary['low']:.1%}",
            *extremes,
        )
    return table


if __name__ == "__main__":
    cli.run(main, __doc__)
