"""Say what is in image files, with published weights or those of a run.

    python -m senet_jax.predict --model=seresnet50.ra2_in1k cat.jpg holidays/
    python -m senet_jax.predict --model=runs/x --top=1 --json digits/ > said.json
    python -m senet_jax.predict --model=senet154 --gates --cam=maps cat.jpg

Prints the most probable classes of each image. Folders are searched for images, also in folders in
them. An image is shown to the network as in the evaluation that its weights had: the size, crop and
normalisation are theirs. Exit status 1 says that some images could not be read, which are named;
2 that the command cannot be carried out.

    --model       a name in timm, with or without the tag of weights; a hub id; a safetensors file
                  or folder; or the work directory of a run
    --top         how many classes of each image
    --image_size  in pixels, other than that of the weights
    --eval_crop   side of the middle that is seen against the shorter side of the image
    --flip        average over each image and its mirror image
    --weights     of a run: final, ema (moving averages), best (of the lowest error, if kept)
    --checkpoint=latest  also of a run that is not finished
    --batch_size  images at once
    --gates       which channels each SE block opened for each image
    --cam         a folder to write class-activation maps to, a PNG for each image
    --json        print for machines
"""

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

from senet_jax.errors import InputError
from senet_jax.inference.flags import check_network_flags, define_network_flags, load_network
from senet_jax.system import cli, files, host_memory

if TYPE_CHECKING:  # these import JAX, which is slow: flags come first
    from senet_jax.inference.answers import Answer
    from senet_jax.inference.classifier import Classifier


def main(argv: list[str]) -> None:
    values = define_flags()
    given = cli.parse_flags(argv, values)
    check_network_flags(values)
    if not given:
        raise InputError("give images or folders of images")
    for name in ("top", "batch_size"):
        if getattr(values, name) < 1:
            raise InputError(f"--{name} must be at least 1, not {getattr(values, name)}")
    maps = Path(values.cam) if values.cam is not None else None
    if maps:
        files.check_folder(maps, "--cam")

    from senet_jax.inference import answers as predicting
    from senet_jax.inference.images import find_images
    from senet_jax.system import compilation_cache, interrupt

    paths = find_images(given)
    compilation_cache.enable()
    host_memory.release_after_compilation()
    asked = predicting.Asked(values.top, values.flip, values.gates, maps)
    network = load_network(values)
    with interrupt.at_safe_points() as stop:
        said = predicting.predict(
            network, paths, values.batch_size, asked, lambda: stop.if_asked(network.variables)
        )
    if values.json:
        print(json.dumps(in_full(network, said), indent=2, allow_nan=False))
    else:
        show(network, said)
    if errors := [one.error for one in said if one.error]:
        print(*errors, sep="\n", file=sys.stderr)
        print(f"{len(errors)} of {len(said)} images have no answer", file=sys.stderr)
        sys.exit(1)


def define_flags() -> flags.FlagValues:
    values = flags.FlagValues()
    define_network_flags(values)
    flags.DEFINE_integer("top", 5, "Classes of each image.", flag_values=values)
    flags.DEFINE_bool("flip", False, "Average over mirror images as well.", flag_values=values)
    flags.DEFINE_integer("batch_size", 32, "Images at once.", flag_values=values)
    flags.DEFINE_bool("gates", False, "What each SE block opened.", flag_values=values)
    flags.DEFINE_string("cam", None, "Folder of class-activation maps.", flag_values=values)
    flags.DEFINE_bool("json", False, "Print for machines.", flag_values=values)
    return values


def in_full(network: "Classifier", said: Sequence["Answer"]) -> dict[str, Any]:
    """Everything, as JSON has it."""
    return {
        "model": network.name,
        "image_size": network.shown.image_shape[0],
        "images": [one_in_full(network.class_names, one) for one in said],
    }


def one_in_full(names: Sequence[str], said: "Answer") -> dict[str, Any]:
    if said.error is not None:
        return {"image": str(said.path), "error": said.error}
    found: dict[str, Any] = {
        "image": str(said.path),
        "classes": [
            {"class": number, "name": names[number], "probability": probability}
            for number, probability in zip(said.classes, said.probabilities, strict=True)
        ],
    }
    if said.gates:
        found["gates"] = {name: gates.tolist() for name, gates in said.gates.items()}
    return found | ({"cam": str(said.map)} if said.map else {})


def show(network: "Classifier", said: Sequence["Answer"]) -> None:
    """Print tables for people."""
    console = Console(file=sys.stdout, highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("image", overflow="fold", ratio=1)
    table.add_column("class", overflow="fold", ratio=1)
    table.add_column("probability", justify="right")
    answers = [one for one in said if one.error is None]
    for one in answers:
        for place, number in enumerate(one.classes):
            table.add_row(
                Text("" if place else legible(one.path)),
                Text(network.class_names[number]),
                f"{one.probabilities[place]:.2%}",
                end_section=place == len(one.classes) - 1 and len(one.classes) > 1,
            )
    if answers:
        console.print(table)
    for one in answers:
        if one.gates:
            show_gates(console, one)
    maps = [one.map for one in answers if one.map]
    if maps:
        more = f" and {len(maps) - 1} more" if len(maps) > 1 else ""
        console.print(Text(f"-> {legible(maps[0])}{more}"), soft_wrap=True)


def legible(path: Path) -> str:
    """A path for the terminal, in which bytes of a name that are no text are question marks."""
    return str(path).encode(errors="replace").decode()


def show_gates(console: Console, said: "Answer") -> None:
    """Print a row for each SE block of what it made of an image."""
    from senet_jax.inference import explain

    table = Table(
        title=Text(f"Gates for {legible(said.path)}"), title_justify="left", box=box.SIMPLE_HEAD
    )
    table.collapse_padding, table.pad_edge = True, False
    table.add_column("block", overflow="fold")
    for heading in ("C", "mean", "> 0.95", "< 0.05"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("most open", "most shut"):
        table.add_column(heading, no_wrap=True)
    fitting = (console.width - 48) // 22  # beside the other columns, in both of these
    for name, gates in said.gates.items():
        found = explain.summary(gates, most=max(1, min(3, fitting)))
        extremes = (
            "  ".join(f"{channel}: {gate:.2f}" for channel, gate in found[key])
            for key in ("most_open", "most_shut")
        )
        shares = (f"{found[key]:.1%}" for key in ("high", "low"))
        mean = f"{found['mean']:.3f}"
        table.add_row(name.removesuffix("/se"), str(found["channels"]), mean, *shares, *extremes)
    console.print(table)


if __name__ == "__main__":
    host_memory.use_huge_pages()
    cli.run(main, __doc__)
