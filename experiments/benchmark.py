"""Time a step of our networks against plain Flax layers and PyTorch, interleaved.

    python -m experiments.benchmark seresnet50 resnet50 --against=plain,torch \\
        --what=train,infer --batch=16 --size=224 --csv=performance.csv
    python -m experiments.benchmark --markdown=performance.csv    (as a table)
    python -m experiments.benchmark seresnet50 --batch=1,4,16,64 --csv=growth.csv
    python -m experiments.benchmark --growth=growth.csv           (as growth.png)
    python -m experiments.benchmark --input=photographs,imagenet2012 --csv=input.csv

Contestants take turns (experiments/timing/race.py): read the ratios, not the seconds. Compilation
is timed twice, the second time with the programs of the first at hand.
`torch` stands for three contestants: `torch` (channels last) and `torch-nchw`, as PyTorch comes,
and `torch-huge`, with the huge pages that our commands take; pip install -e '.[parity]'.
--input instead times two readers of streamed datasets, ours and one on Pillow
(experiments/timing/readers.py); `photographs` are 400 JPEGs that the command makes itself.
"""

import itertools
import sys
from pathlib import Path
from typing import Any

from absl import flags
from rich.console import Console
from rich.table import Table

from experiments.timing import contestants, input_race, plot_times
from experiments.timing.race import Entry, machine, race
from experiments.timing.records import append, columns_of, read
from senet_jax.errors import InputError, did_you_mean, refuse
from senet_jax.models import MODELS, create_model
from senet_jax.models.counts import image_shape_of, summarize
from senet_jax.runs import provenance
from senet_jax.system import cli, figures

TORCH = (*contestants.WITHOUT_HUGE_PAGES, "torch-huge")
OTHERS = ", ".join(contestants.CONTESTANTS[1:])
# The costs of a first start, and of a second one that finds its programs compiled.
COMPILED = (("compile_s", "again_s"), ("peak_gb", "again_gb"))


# What makes the command do something else, and the flags that have an effect beside it.
MODES = {"markdown": (), "growth": (), "input": ("batch", "size", "steps", "csv")}


def main(argv: list[str]) -> None:
    values = flags.FlagValues()
    flags.DEFINE_list("against", [], f"Any of {OTHERS}.", flag_values=values)
    flags.DEFINE_list("what", ["train"], "Any of train, infer.", flag_values=values)
    flags.DEFINE_list("batch", ["16"], "Images per step.", flag_values=values)
    flags.DEFINE_list("size", [], "Pixels; by default the network's own.", flag_values=values)
    flags.DEFINE_list("input", [], "Streamed datasets to time reading.", flag_values=values)
    flags.DEFINE_integer("steps", 10, "Steps to time, two per turn.", flag_values=values)
    cli.define_path("csv", None, "File to append the rows to.", flag_values=values)
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
        for contestant in (TORCH if name == "torch" else (name,))
    ]
    for network in networks:
        sizes = values.size or [image_shape_of(network)[0]]
        for what, batch, size in itertools.product(values.what, values.batch, sizes):
            rows = _race(network, what, int(batch), int(size), ["ours", *against], values.steps)
            _print(rows)
            if values.csv:  # after every race, so that a later one cannot lose it
                append(Path(values.csv), rows)


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
    for flag, choices in (("against", contestants.CONTESTANTS[1:]), ("what", contestants.WHAT)):
        if unknown := [value for value in values[flag].value if value not in choices]:
            raise InputError(f"--{flag} takes {', '.join(choices)}, not {unknown[0]!r}")
    numbers = [(flag, value) for flag in ("batch", "size") for value in values[flag].value]
    for flag, value in [*numbers, ("steps", values.steps)]:
        if not str(value).isdecimal() or int(value) < 1:
            raise InputError(f"--{flag} must be at least 1, not {value}")


def _race(
    network: str, what: str, batch: int, size: int, names: list[str], steps: int
) -> list[dict[str, Any]]:
    """Race the contestants; returns one row each."""
    shape = size, size, 3
    biases: list[dict[str, bool]] = [{}, {"bias": True}] if network.startswith("se") else [{}]
    counts = [summarize(create_model(network, se=se), shape) for se in biases]
    params = [count.params for count in counts]
    entries = {who: Entry(who, {"name": network}, what, batch, size, params) for who in names}
    times, again = race(entries, steps, again="ours")
    assert again is not None
    conditions = {"machine": machine(), "commit": provenance.git_commit()}
    return [
        {
            "network": network,
            "what": what,
            "batch": batch,
            "size": size,
            "contestant": name,
            "median_s": round(taken.median, 4),
            "min_s": round(min(taken.seconds), 4),
            "max_s": round(max(taken.seconds), 4),
            "steps": steps,
            "images_per_s": round(batch / taken.median, 1),
            "times_ours": round(taken.median / times["ours"].median, 3),
            "compile_s": round(taken.compile_s, 1) or "",
            "again_s": round(again.compile_s, 1) if name == "ours" else "",
            "peak_gb": round(taken.peak_gb, 2),
            "again_gb": round(again.peak_gb, 2) if name == "ours" else "",
            "gmacs": round(batch * counts[0].macs / 1e9, 3),
            **conditions,
        }
        for name, taken in times.items()
    ]


def _print(rows: list[dict[str, Any]]) -> None:
    first = rows[0]
    title = f"{first['network']}, {first['what']}, batch {first['batch']}, {first['size']} pixels"
    table = Table(title=title, title_justify="left")
    headings = ("contestant", "median s", "min - max", "times ours", "compile s", "peak GB")
    for column in headings:
        table.add_column(column, justify="left" if column == "contestant" else "right")
    for row in rows:
        table.add_row(
            row["contestant"],
            f"{row['median_s']:.3f}",
            f"{row['min_s']:.3f} - {row['max_s']:.3f}",
            f"{row['times_ours']:.2f}",
            str(row["compile_s"] or "-"),
            f"{row['peak_gb']:.2f}",
        )
    Console(file=sys.stdout).print(table)
    print(f"{first['steps']} steps each, in turn; {first['machine']}\n", flush=True)


def markdown_table(rows: list[dict[str, str]]) -> str:
    """Rows of `--csv` as a table with one line per race, PyTorch in the faster of its layouts."""
    lines = [
        "| network, batch, pixels | s/step | plain / ours | PyTorch / ours | with huge pages "
        "| compile s | GB | PyTorch GB |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    races: list[tuple[tuple[str, ...], dict[str, dict[str, str]]]] = []
    for row in rows:  # a race measured again, after a change of the code, is another
        race = row["network"], row["what"], row["batch"], row["size"]
        if not races or races[-1][0] != race or row["contestant"] in races[-1][1]:
            races.append((race, {}))
        races[-1][1][row["contestant"]] = row
    for (network, what, batch, size), entries in races:
        ours, plain, huge = entries["ours"], entries.get("plain"), entries.get("torch-huge")
        torch = [entries[name] for name in contestants.WITHOUT_HUGE_PAGES if name in entries]
        best = min(torch, key=lambda row: float(row["median_s"]), default=None)
        cells = [f"`{network}` {what}, {batch}, {size}", f"{float(ours['median_s']):.3f}"]
        cells += [f"{float(row['times_ours']):.2f}" if row else "-" for row in (plain, best, huge)]
        cells += [f"{ours[cold]} ({ours[again]})" for cold, again in COMPILED]
        cells += [best["peak_gb"] if best else "-"]
        lines.append(f"| {' | '.join(cells)} |")
    machines = dict.fromkeys(f"{row['machine']}, commit {row['commit']}" for row in rows)
    note = "Float32; medians of steps taken in turn; in brackets, with compiled programs kept. "
    lines += ["", *(note + f"{name}." for name in machines)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    cli.run(main, __doc__)
