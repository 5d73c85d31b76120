"""Record the gates of a run: the role of excitation (Hu et al., section 7.2, Figures 6 and 7).

    python -m experiments.gates --workdir=runs/digits
    python -m experiments.gates --workdir=runs/x --classes=goldfish,pug,plane,cliff

Records the gates of every SE block of a finished run over its evaluation set, and evaluates the run
once more without the SE blocks of the last stage that has them. Into the run's directory go
excitation.png (gates by channel and class), excitation.csv (one row per block) and
excitation_removed.csv. `--classes` are names as `predict` prints them, the dataset's own, or
numbers; by default four, evenly spaced. A name with a comma goes in quotes: '"a, b",c'.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiments.reporting import plot_gates
from experiments.reporting.csv_files import to_csv
from senet_jax.errors import InputError, refuse
from senet_jax.evaluation.loop import evaluate
from senet_jax.evaluation.steps import make_eval_step
from senet_jax.inference import gate_statistics, gated_blocks
from senet_jax.inference.gate_statistics import GateSums
from senet_jax.inference.gated_blocks import GatedBlock
from senet_jax.inference.trained_run import TrainedRun, load_run
from senet_jax.models.counts import summarize
from senet_jax.runs import workdir
from senet_jax.system import cli, compilation_cache, figures, files
from senet_jax.system.devices import axis_of, map_step
from senet_jax.system.terminal import print_whole
from senet_jax.weights.class_names import numbers_of

DEFAULT_CLASSES = 4

# The headings in the terminal, each with the key of its column in a row and the value's format.
SUMMARY = {
    "block": ("block", "{}"),
    "C": ("channels", "{}"),
    "mean": ("mean", "{:.3f}"),
    "std": ("std", "{:.3f}"),
    "> 0.95": ("high", "{:.1%}"),
    "< 0.05": ("low", "{:.1%}"),
    "between": ("between", "{:.1e}"),
    "within": ("within", "{:.1e}"),
    "share": ("share", "{:.1%}"),
}
REMOVED = {
    "gates": ("gates", "{}"),
    "top-1 error": ("top1_error", "{:.2f}"),
    "top-5 error": ("top5_error", "{:.2f}"),
    "loss": ("loss", "{:.4f}"),
    "images": ("examples", "{:,}"),
    "parameters": ("params", "{:,}"),
}
NOTES = (
    "mean, std, > 0.95, < 0.05: of all gates of a block, over channels and images.",
    "between, within: variance of the class means, and of the gates about them, each averaged "
    "over channels; share is between / (between + within).",
)
REMOVED_NOTES = (
    "Errors in per cent, with the weights as they are: nothing is trained again. 1 is the network "
    "without these blocks; their mean is one constant per channel, over all evaluation images.",
    "The paper (section 4): without them the top-5 error on ImageNet (top-1 at CVPR) grows by less "
    "than 0.1 %.",
)


def main(argv: list[str]) -> None:
    values = flags.FlagValues()
    cli.define_path("workdir", None, "Directory of a finished run.", flag_values=values)
    flags.DEFINE_list("classes", None, "Names or numbers of classes to draw.", flag_values=values)
    if left_over := cli.parse_flags(argv, values):
        raise InputError(f"unexpected argument {left_over[0]!r}; flags look like --workdir=runs/x")
    if not values.workdir:
        raise InputError("give the work directory of a finished run, e.g. --workdir=runs/x")
    directory = Path(values.workdir)
    workdir.check_usable(directory)
    compilation_cache.enable()
    trained = load_run(directory)
    blocks = find_blocks(trained)
    names = trained.class_names
    # It refuses what it must before the slow part.
    asked = None if values.classes is None else class_numbers(values.classes, trained)
    sums = record(trained)
    classes = chosen_classes(asked, names, sums.examples)
    rows, removed = summaries(blocks, sums), removal(trained, blocks, sums)
    figure = panels(blocks, sums, names, classes)
    failed = write(directory, trained, sums, figure, rows, removed)
    show(trained, rows, removed)
    print(f"-> {directory}/excitation.csv, excitation_removed.csv, excitation.png")
    refuse([failed])


def find_blocks(trained: TrainedRun) -> tuple[GatedBlock, ...]:
    """Find the gated blocks of the run's network. Raises: InputError if it has none."""
    blocks = gated_blocks.find_blocks(trained.run.model, trained.image_shape)
    if not blocks:
        raise InputError(
            f"the {trained.result['model']} of this run has {gated_blocks.NO_GATES}, so there "
            "are no gates to look at"
        )
    return blocks


def class_numbers(texts: Sequence[str], trained: TrainedRun) -> list[int]:
    """The numbers of classes given by name or number. Raises: InputError if a text is neither."""
    if not texts:
        raise InputError("--classes is empty; name classes, or leave it out for four of them")
    try:
        return numbers_of(texts, trained.class_names, trained.run.dataset.class_names)
    except InputError as error:
        raise InputError(f"--classes has {error}") from error


def chosen_classes(
    asked: Sequence[int] | None, names: Sequence[str], examples: np.ndarray
) -> list[int]:
    """The classes to draw.

    Args:
      asked: numbers of classes; None for four, evenly spaced, that have examples.
      names: the names of the dataset's K classes.
      examples: the number of examples of each class, [K].

    Raises: InputError if a class lacks examples.
    """
    if asked is None:
        present = np.flatnonzero(examples)
        count = min(DEFAULT_CLASSES, len(present))
        return present[np.linspace(0, len(present) - 1, count).round().astype(int)].tolist()
    if empty := [number for number in asked if not examples[number]]:
        raise InputError(f"class {names[empty[0]]!r} has no images in the evaluation set")
    return list(asked)


def record(trained: TrainedRun) -> GateSums:
    """Sum all blocks' gates over the run's evaluation set."""
    run = trained.run
    gate_step = map_step(
        gate_statistics.make_gate_step(run.model, run.normalize, axis_of(run.devices)),
        run.devices,
        donate_state=False,
    )
    return gate_statistics.record(
        gate_step,
        trained.state.variables,
        run.dataset.eval,
        run.settings.batch_size,
        run.dataset.num_classes,
        run.devices,
    )


def removal(
    trained: TrainedRun, blocks: Sequence[GatedBlock], sums: GateSums
) -> list[dict[str, Any]]:
    """Evaluate the run as it is, and with the last stage's gates replaced by constants.

    The last stage is the last that has SE blocks. Parameters are those that each case needs: gates
    of 1 need no SE block in that stage, mean gates one constant for each of their channels.
    """
    stage = blocks[-1].stage
    means = {b.name: of_block.mean for b, of_block in sums.split(blocks) if b.stage == stage}
    model = trained.run.model
    without = summarize(gated_blocks.without_stage(model, stage), trained.image_shape).params
    cases: list[tuple[str, dict[str, Any], int]] = [
        ("as trained", {}, trained.result["params"]),
        ("1 (blocks removed)", dict.fromkeys(means, 1.0), without),
    ]
    if gated_blocks.is_all_gates(model):
        cases.append(("their mean", means, without + sum(map(len, means.values()))))
    return [
        {"gates": name, "stage": stage, **evaluate_with(trained, constants), "params": params}
        for name, constants, params in cases
    ]


def evaluate_with(trained: TrainedRun, constants: dict[str, Any]) -> dict[str, float]:
    """The metrics of the run with the gates of these blocks, by name, replaced by constants."""
    run = trained.run
    step = make_eval_step(run.model, run.normalize, axis_of(run.devices))
    mapped = map_step(gated_blocks.with_constants(step, constants), run.devices, donate_state=False)
    weights, data, size = trained.state.variables, run.dataset, run.settings.batch_size
    metrics, _ = evaluate(mapped, weights, data.eval, size, run.devices, classes=data.num_classes)
    return {name: value for name, value in metrics.items() if name != "right"}


def summaries(blocks: Sequence[GatedBlock], sums: GateSums) -> list[dict[str, Any]]:
    """One row per block: its name, stage and channels, and GateSums.summary."""
    return [
        {
            "block": block.label,
            "stage": block.stage,
            "channels": block.channels,
            **of_block.summary(),
        }
        for block, of_block in sums.split(blocks)
    ]


def panels(
    blocks: Sequence[GatedBlock], sums: GateSums, names: Sequence[str], classes: Sequence[int]
) -> dict[str, dict[str, np.ndarray]]:
    """The lines of the figure: the last block of each stage, and every block of the last stage.

    The line of all classes is the mean of their means, as in the paper.
    """
    taken = [*(names[number] for number in classes), plot_gates.EVERYTHING]
    legend = {  # a name that another line has as well needs its number
        number: names[number] + (f" ({number})" if taken.count(names[number]) > 1 else "")
        for number in classes
    }
    last = {block.stage: block.name for block in blocks}  # a later block replaces an earlier one
    drawn = {*last.values(), *(b.name for b in blocks if b.stage == blocks[-1].stage)}
    return {
        block.label: {
            **{legend[number]: of_block.class_means[number] for number in classes},
            plot_gates.EVERYTHING: np.nanmean(of_block.class_means, axis=0),
        }
        for block, of_block in sums.split(blocks)
        if block.name in drawn
    }


def write(
    directory: Path,
    trained: TrainedRun,
    sums: GateSums,
    figure: dict[str, dict[str, np.ndarray]],
    rows: Sequence[dict[str, Any]],
    removed: Sequence[dict[str, Any]],
) -> str:
    """Write excitation.csv, excitation_removed.csv and excitation.png, each as a whole.

    Returns: a sentence on the figure if it cannot be drawn; the other files are there all the same.

    Raises: InputError if the directory cannot be written.
    """
    result = trained.result
    title = f"Gates of {result['model']} on {result['dataset']}, seed {result['seed']}, by class"
    caption = (
        "After Figures 6 and 7 of Hu et al.: means over the images of a class; black is the mean "
        f"of all classes. {sums.examples.sum():,} evaluation images; at most "
        f"{plot_gates.MAX_CHANNELS} evenly spaced channels; weights of commit "
        f"{result['git_commit']}."
    )
    files.write(directory / "excitation.csv", to_csv(rows))
    files.write(directory / "excitation_removed.csv", to_csv(removed))
    return figures.write(
        directory / "excitation.png", lambda: plot_gates.gates(figure, title, caption)
    )


def show(
    trained: TrainedRun, rows: Sequence[dict[str, Any]], removed: Sequence[dict[str, Any]]
) -> None:
    """Print both tables and the meaning of their columns."""
    console = Console(file=sys.stdout, highlight=False)
    _print(SUMMARY, rows, "Gates of every SE block")
    console.print(*(f"- {note}" for note in NOTES), sep="\n")
    if trained.run.model.se.squeeze == "none":
        console.print("- Gates of positions are averaged over these first, image by image.")
    stage = removed[0]["stage"]
    console.print()
    _print(REMOVED, removed, f"The run with other gates in stage {stage}")
    console.print(*(f"- {note}" for note in REMOVED_NOTES), sep="\n")
    if not gated_blocks.is_all_gates(trained.run.model):
        console.print("- CBAM gates positions as well: no constants per channel are its mean.")
    recorded = trained.result["eval/top1_error"]
    if removed[0]["top1_error"] != recorded:
        console.print(
            f"- The run recorded a top-1 error of {recorded:.4f} %, here it is "
            f"{removed[0]['top1_error']:.4f} %: this machine rounds differently."
        )


def _print(columns: dict[str, tuple[str, str]], rows: Sequence[dict[str, Any]], title: str) -> None:
    drawn = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD)
    drawn.collapse_padding, drawn.pad_edge = True, False
    for position, heading in enumerate(columns):
        drawn.add_column(heading, justify="right" if position else "left", no_wrap=True)
    for row in rows:
        # A share is not a number if no gate depends on the image; only that differs from itself.
        cells = (
            form.format(row[key]) if row[key] == row[key] else "-" for key, form in columns.values()
        )
        drawn.add_row(*cells)
    print_whole(drawn)


if __name__ == "__main__":
    cli.run(main, __doc__)
