"""Time a step of our networks against plain Flax layers and PyTorch, interleaved.

    python -m experiments.benchmark seresnet50 resnet50 --against=plain,torch \\
        --what=train,infer --batch=16 --size=224 --csv=performance.csv
    python -m experiments.benchmark --markdown=performance.csv    (as a table)
    python -m experiments.benchmark seresnet50 --batch=1,4,16,64 --csv=growth.csv
    python -m experiments.benchmark --growth=growth.csv           (as growth.png)
    python -m experiments.benchmark seresnet50 --dtype=bfloat16 --batch=256 \\
        --against=torch,torch-compile,fused --csv=experiments/results/timing/performance
    python -m experiments.benchmark --input=photographs,imagenet2012 --csv=input.csv

Contestants take turns (experiments/timing/race.py): read the ratios, not the seconds. Each takes
as many steps in a turn as last a second together. A ratio is the median over turns, with its 95 %
interval from six turns on. FLOP/s are those of the network's multiply-adds, 2 each, three times
that in training; bytes are those of XLA's cost analysis. Beside both stands what the machine did in
a large matrix product and in a copy. Compilation is timed twice, the second time with the programs
of the first at hand. --csv may be a folder, whose files are named by the hardware.

`fused` and `plain` are ours with that implementation, `no-onednn` is ours with the convolutions of
training left to XLA on a CPU. `torch` stands for three contestants: `torch`
(channels last) and `torch-nchw`, as PyTorch comes, and `torch-huge`, with the huge pages that our
commands take; on a GPU for the first alone. `torch-compile` is beside them; pip install -e
'.[parity]'. The batch is that of all --devices together, which a CPU simulates.
--input instead times two readers of streamed datasets, ours and one on Pillow
(experiments/timing/readers.py); `photographs` are 400 JPEGs that the command makes itself.
"""

import itertools
import os
import sys
from pathlib import Path
from typing import Any

from absl import flags
from rich.console import Console
from rich.table import Table

from experiments.timing import contestants, input_race, plot_times
from experiments.timing.contestants import Entry
from experiments.timing.performance import csv_of, markdown_table, of_machine, ratio_cell, rows_of
from experiments.timing.race import TURN_S, race
from experiments.timing.records import append, columns_of, read
from senet_jax.errors import InputError, did_you_mean, refuse
from senet_jax.models import MODELS, create_model
from senet_jax.models.counts import image_shape_of, summarize
from senet_jax.system import cli, figures

TORCH = ("torch", "torch-nchw", "torch-huge")
OTHERS = ", ".join(contestants.CONTESTANTS[1:])
DTYPES = ", ".join(contestants.DTYPES)

# What makes the command do something else, and the flags that have an effect beside it.
MODES = {"markdown": (), "growth": (), "input": ("batch", "size", "steps", "csv")}


def main(argv: list[str]) -> None:
    values = flags.FlagValues()
    flags.DEFINE_list("against", [], f"Any of {OTHERS}.", flag_values=values)
    flags.DEFINE_list("what", ["train"], "Any of train, infer.", flag_values=values)
    flags.DEFINE_list("batch", ["16"], "Images per step.", flag_values=values)
    flags.DEFINE_list("dtype", ["float32"], f"Any of {DTYPES}.", flag_values=values)
    flags.DEFINE_integer("devices", 1, "Devices that share a batch.", flag_values=values)
    flags.DEFINE_list("size", [], "Pixels; by default the network's own.", flag_values=values)
    flags.DEFINE_list("input", [], "Streamed datasets to time reading.", flag_values=values)
    flags.DEFINE_integer("steps", 12, "Bursts to time, two per turn.", flag_values=values)
    cli.define_path("csv", None, "File or folder for the rows.", flag_values=values)
    cli.define_path("markdown", None, "Print this file as a table.", flag_values=values)
    cli.define_path("growth", None, "Draw this file beside it as PNG.", flag_values=values)
    networks = cli.parse_flags(argv, values)
    _check_modes(networks, values)
    if values.markdown:
        rows = read(values.markdown)
        of_input = "dataset" in rows[0]
        to_markdown = input_race.markdown_table if of_input else markdown_table
        with columns_of(values.markdown):
            print(to_markdown(rows), end="")
        return
    if values.growth:
        png = Path(values.growth).with_suffix(".png")
        rows = read(values.growth)
        refuse([figures.write(png, lambda: plot_times.growth(rows))])
        print(f"wrote {png}")
        return
    _check(networks, values)
    if values.input:
        _read_datasets(values)
        return
    against = [
        contestant
        for name in values.against
        for contestant in (_torch() if name == "torch" else (name,))
    ]
    for network in networks:
        sizes = values.size or [image_shape_of(network)[0]]
        races = itertools.product(values.what, values.dtype, values.batch, sizes)
        for what, dtype, batch, size in races:
            names = ["ours", *dict.fromkeys(against)]
            rows = _race(network, what, dtype, int(batch), int(size), names, values)
            _print(rows)
            if values.csv:  # after every race, so that a later one cannot lose it
                append(csv_of(Path(values.csv), rows[0]["machine"]), rows)


def _torch() -> tuple[str, ...]:
    """What `torch` stands for here: layouts and huge pages matter on a CPU."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # leave the GPU to contestants
    import jax

    return TORCH if jax.default_backend() == "cpu" else TORCH[:1]


def _read_datasets(values: Any) -> None:
    races = itertools.product(values.input, values.size or ["224"], values.batch)
    for dataset, size, batch in races:
        rows = input_race.rows(dataset, int(size), int(batch), values.steps)
        print(input_race.markdown_table(rows), flush=True)
        if values.csv:
            append(Path(values.csv), rows)


def _check_modes(networks: list[str], values: Any) -> None:
    for mode, others in MODES.items():
        if values[mode].value:
            cli.check_beside(values, mode, *others)
            if networks:
                raise InputError(f"--{mode} takes no network, not {networks[0]!r}")


def _check(networks: list[str], values: Any) -> None:
    if not networks and not values.input:
        raise InputError("name a network, e.g. `python -m experiments.benchmark seresnet50`")
    for name in networks:
        if name not in MODELS:
            raise InputError(f"unknown model {name!r}{did_you_mean(name, MODELS)}")
    lists = {"against": contestants.CONTESTANTS[1:], "what": contestants.WHAT}
    for flag, choices in (lists | {"dtype": contestants.DTYPES}).items():
        if unknown := [value for value in values[flag].value if value not in choices]:
            raise InputError(f"--{flag} takes {', '.join(choices)}, not {unknown[0]!r}")
    numbers = [(flag, value) for flag in ("batch", "size") for value in values[flag].value]
    for flag, value in [*numbers, ("steps", values.steps), ("devices", values.devices)]:
        if not str(value).isdecimal() or int(value) < 1:
            raise InputError(f"--{flag} must be at least 1, not {value}")
    if values.devices > 1:
        if torch := [name for name in values.against if name.startswith("torch")]:
            raise InputError(f"{torch[0]} has one device; leave it out beside --devices")
        for batch in values.batch:
            if int(batch) % values.devices:
                raise InputError(f"--batch={batch} does not divide among {values.devices} devices")


def _race(
    network: str, what: str, dtype: str, batch: int, size: int, names: list[str], values: Any
) -> list[dict[str, Any]]:
    """Race the contestants; returns one row each."""
    shape = size, size, 3
    biases: list[dict[str, bool]] = [{}, {"bias": True}] if network.startswith("se") else [{}]
    counts = [summarize(create_model(network, se=se), shape) for se in biases]
    params = [count.params for count in counts]
    entries = {
        who: Entry(who, {"name": network}, what, batch, size, params, dtype, values.devices)
        for who in names
    }
    times, again = race(entries, values.steps, again="ours", turn_s=TURN_S)
    assert again is not None
    return rows_of(entries["ours"], times, again, counts[0].macs)


def _print(rows: list[dict[str, Any]]) -> None:
    first = rows[0]
    title = (
        f"{first['network']}, {first['what']}, {first['dtype']}, batch {first['batch']}, "
        f"{first['size']} pixels"
    )
    table = Table(title=title, title_justify="left")
    headings = ("contestant", "images/s", "times ours", "TFLOP/s", "GB/s", "compile s", "GB")
    for column in headings:
        table.add_column(column, justify="left" if column == "contestant" else "right")
    for row in rows:
        table.add_row(
            row["contestant"],
            str(row["images_per_s"]),
            ratio_cell(row),
            of_machine(row, "tflops") or "-",
            of_machine(row, "gb_s") or "-",
            str(row["compile_s"] or "-"),
            f"{row['peak_gb']:.2f}",
        )
    Console(file=sys.stdout).print(table)
    print(f"{first['steps']} bursts of steps each, in turn; {first['machine']}\n", flush=True)


if __name__ == "__main__":
    cli.run(main, __doc__)
