"""Measure what SE costs: time and memory of every row of the ablations, against the plain network.

    python -m experiments.cost                                   (SE-ResNet-50, half an hour)
    python -m experiments.cost --network=seresnet20_cifar --only='SE,r = 4,ECA'
    python -m experiments.cost --draw --csv=FILE                 (the figure and table once more)

Rows are the SE blocks of all studies of section 6, each once, in a network whose bottlenecks
stride on the 3x3, as by default; the counts are of these networks. They race in groups beside the
plain network (experiments/timing/race.py), and the ratio to it is what counts. The paper's own
ratios (section 4) are 209 to 190 ms for a training step of 256 images on GPUs and 167 to 164 ms for
one image on a CPU.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from rich.console import Console
from rich.table import Table

from experiments.studies import load_studies
from experiments.timing import plot_times
from experiments.timing.contestants import Entry
from experiments.timing.cost_table import HEADINGS, PAPER, cells, markdown, notes
from experiments.timing.performance import ratio_columns
from experiments.timing.race import TURN_S, Taken, machine, race
from experiments.timing.records import append, columns_of, read
from senet_jax.errors import InputError, did_you_mean, refuse
from senet_jax.models import MODELS, create_model
from senet_jax.models.counts import image_shape_of, summarize
from senet_jax.runs import provenance
from senet_jax.system import cli, figures, files

PLAIN = "plain"
TOGETHER = 5  # rows per race: each keeps its memory while the others work


def main(argv: list[str]) -> None:
    values = flags.FlagValues()
    flags.DEFINE_string("network", "seresnet50", "One with SE blocks.", flag_values=values)
    flags.DEFINE_list("what", list(PAPER), "Any of train, infer.", flag_values=values)
    flags.DEFINE_integer("train_batch", 8, "Images per training step.", flag_values=values)
    flags.DEFINE_integer("infer_batch", 1, "Images per inference.", flag_values=values)
    flags.DEFINE_integer("steps", 12, "Bursts to time, two per turn.", flag_values=values)
    flags.DEFINE_list("only", None, "Labels of rows; by default all.", flag_values=values)
    cli.define_path("csv", "cost.csv", "Rows; the figure is beside it.", flag_values=values)
    flags.DEFINE_bool("draw", False, "Measure nothing.", flag_values=values)
    if rest := cli.parse_flags(argv, values):
        raise InputError(f"cost takes flags only, not {rest[0]!r}; the network is --network")
    path = Path(values.csv)
    if path.suffix in (".md", ".png"):
        raise InputError(f"--csv={path} is where the table or the figure goes; say .csv")
    if values.draw:
        cli.check_beside(values, "draw", "csv")
    else:
        _measure(values, path)
    rows = read(str(path))
    with columns_of(str(path)):
        show(rows)
        table = markdown(rows)
    files.write(path.with_suffix(".md"), files.encoded(table))
    failed = figures.write(path.with_suffix(".png"), lambda: plot_times.costs(rows, PAPER))
    print(f"-> {path}, {path.with_suffix('.md')}, {path.with_suffix('.png')}")
    refuse([failed])


def variants(network: str) -> dict[str, dict[str, Any]]:
    """Arguments of `create_model` by label: the rows of the studies, each network once.

    The plain network is first, the standard SE block second. Rows that the network refuses, such as
    stage 5 of a network with four stages, are left out.
    """
    networks: dict[str, dict[str, Any]] = {
        PLAIN: {"name": network, "se": {"stages": ()}},
        "SE": {"name": network, "se": {}},
    }
    seen = [create_model(**fields).se for fields in networks.values()]
    for study in load_studies():
        for row in study.rows if study.network == "seresnet50" else ():
            fields = {"name": network, **row.model_fields}
            try:
                config = create_model(**fields).se
            except InputError:
                continue
            if config not in seen:
                seen.append(config)
                named = study.column in ("design", "variant", "block")
                networks[row.label if named else f"{study.column} = {row.label}"] = fields
    return networks


def _measure(values: Any, path: Path) -> None:
    """Race the rows and add them to the file as they come."""
    chosen = _chosen(values)
    base = variants(values.network)[PLAIN]
    size, _, _ = image_shape_of(values.network)
    for what in values.what:
        batch = values[f"{what}_batch"].value
        for first in range(0, len(chosen), TOGETHER):
            labels = [PLAIN, *list(chosen)[first : first + TOGETHER]]
            entries = {
                label: Entry("ours", chosen.get(label, base), what, batch, size) for label in labels
            }
            print(f"{what}: {', '.join(labels[1:])}", flush=True)
            taken, _ = race(entries, values.steps, turn_s=TURN_S)
            append(path, [_row(label, entries[label], taken) for label in labels[1:]])


def _chosen(values: Any) -> dict[str, dict[str, Any]]:
    """The rows that the flags mean. Raises: InputError if they cannot be measured."""
    if not values.network.startswith("se") or values.network not in MODELS:
        near = did_you_mean(values.network, [name for name in MODELS if name.startswith("se")])
        raise InputError(f"--network must be one with SE blocks, not {values.network!r}{near}")
    if unknown := [what for what in values.what if what not in PAPER]:
        raise InputError(f"--what takes {', '.join(PAPER)}, not {unknown[0]!r}")
    for flag in ("train_batch", "infer_batch", "steps"):
        if values[flag].value < 1:
            raise InputError(f"--{flag} must be at least 1, not {values[flag].value}")
    if Path(values.csv).exists():
        raise InputError(f"{values.csv} exists already; choose a different --csv, or --draw it")
    rows = variants(values.network)
    del rows[PLAIN]
    for label in values.only or ():
        if label not in rows:
            raise InputError(f"--only has no row {label!r}{did_you_mean(label, rows)}")
    return {label: fields for label, fields in rows.items() if label in (values.only or rows)}


def _row(label: str, entry: Entry, taken: Mapping[str, Taken]) -> dict[str, Any]:
    """The row of the file for one contestant of a race."""
    variant, base = taken[label], taken[PLAIN]
    counts = summarize(create_model(**entry.fields), (entry.size, entry.size, 3))
    return {
        "row": label,
        "network": entry.fields["name"],
        "what": entry.what,
        "batch": entry.batch,
        "size": entry.size,
        "params": counts.params,
        "gmacs": round(counts.macs / 1e9, 4),
        "median_s": round(variant.median, 5),
        "plain_s": round(base.median, 5),
        **ratio_columns(variant, base, "times_plain"),
        "compile_s": round(variant.compile_s, 1),
        "peak_gb": round(variant.peak_gb, 3),
        "plain_gb": round(base.peak_gb, 3),
        "turns": len(variant.by_turn),
        "steps": len(variant.seconds) * variant.burst,
        "machine": machine(),
        "commit": provenance.git_commit(),
    }


def show(rows: Sequence[Mapping[str, str]]) -> None:
    """Print the table."""
    table = Table(title="Cost of SE against the plain network", title_justify="left")
    for heading in HEADINGS:
        table.add_column(
            heading, justify="left" if heading == "row" else "right", no_wrap=heading == "row"
        )
    for line in cells(rows):
        table.add_row(*line)
    console = Console(file=sys.stdout, highlight=False)
    console.print(table)
    for note in notes(rows):
        console.print(f"- {note}")


if __name__ == "__main__":
    cli.run(main, __doc__)
