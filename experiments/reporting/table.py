"""A study's table: from results to numbers, from numbers to what people read."""

import functools
import json
import statistics
import sys
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments.grid.study import Row, Study
from experiments.reporting import compare
from experiments.reporting.collect import Result, Results, Stopped, made_with, missing
from senet_jax.models import create_model
from senet_jax.models.counts import Summary, image_shape_of, summarize
from senet_jax.models.paper import as_printed
from senet_jax.models.resnet import ResNet
from senet_jax.system.terminal import print_whole

Rows = Sequence[dict[str, Any]]

MARK = "*"  # at a printed count that is not ours

# Left out in this order, after the study's own, where a terminal is too narrow.
SECONDARY = ("our parameters", "s/run", "paper gain", "GMACs")


def counts(study: Study, row: Row) -> Summary:
    """Exact counts of the paper's network in this row, at the image size it is made for."""
    fields = {**study.network_fields, **row.model_fields}
    return _counts(study.network_of(row), json.dumps(fields))


@functools.cache
def _counts(network: str, fields: str) -> Summary:
    return summarize(create_model(network, **json.loads(fields)), image_shape_of(network))


def numbers(study: Study, results: Results) -> Rows:
    """One dict a row: the numbers behind the table, unrounded; None where there is none."""
    dataset = next((run["dataset"] for found in results.values() for run in found), study.dataset)
    gains = compare.gains(study, results)
    return [
        _numbers(study, row, results.get(row.label, []), dataset)
        | _gains(study, row, gains.get(row.label, compare.Gain(())), dataset)
        for row in study.rows
    ]


def _numbers(study: Study, row: Row, found: Sequence[Result], dataset: str) -> dict[str, Any]:
    errors = [result["eval/top1_error"] for result in found]
    if study.swept:  # the networks that were trained, and no other
        first = found[0] if found else {}
        exact = {key: row.overrides[name] for key, name in study.swept.items()}
        exact |= {"params": first.get("params"), "macs": first.get("macs")}
    else:
        exact = {"params": counts(study, row).params, "macs": counts(study, row).macs}
    seconds = [result["wall_time_seconds"] for result in found]
    low, high = compare.t_interval(errors) or (None, None)
    return {
        study.column: row.label,
        **exact,
        **{
            f"paper_{key}": row.printed(key, dataset)
            for keys in study.paper_columns.values()
            for key in keys
        },
        "our_params": found[0]["params"] if found else None,
        "our_top1_error_mean": statistics.fmean(errors) if errors else None,
        "our_top1_error_std": statistics.stdev(errors) if len(errors) > 1 else None,
        "our_top1_error_low": low,
        "our_top1_error_high": high,
        "our_seeds": len(errors),
        # The median: the first run of a row compiles, the others need not.
        "our_seconds": statistics.median(seconds) if seconds else None,
    }


def _gains(study: Study, row: Row, gain: compare.Gain, dataset: str) -> dict[str, Any]:
    """What the paper's row and ours gain over the rows they are compared with."""
    reference, key = study.reference_of(row), study.gain_of
    before = reference.printed(key, dataset) if reference else None
    if reference and (own := row.printed("reference1", dataset)):
        before = own
    after = row.printed(key, dataset)
    low, high = gain.interval or (None, None)
    return {
        "paper_gain": None if before is None or after is None else before - after,
        "our_gain": gain.mean,
        "our_gain_low": low,
        "our_gain_high": high,
        "our_gain_seeds": len(gain.differences),
    }


def formatted(study: Study, rows: Rows) -> dict[str, list[str]]:
    """Heading to the cells below it, as people read them."""
    columns = {
        **{key: [str(row[key]) for row in rows] for key in study.swept or (study.column,)},
        "parameters": [_number(row["params"], ",") for row in rows],
        "GMACs": [_number(row["macs"] and row["macs"] / 1e9, ".3f") for row in rows],
    }
    for heading, keys in study.paper_columns.items():
        columns[heading] = [_printed(row, keys) + MARK * _deviates(row, keys[0]) for row in rows]
    if any(row["paper_gain"] is not None for row in rows):
        columns["paper gain"] = [_signed(row["paper_gain"]) for row in rows]
    if not study.swept:
        columns["our parameters"] = [_number(row["our_params"], ",") for row in rows]
    columns["our top-1"] = [_error(row) for row in rows]
    if any(row["our_gain"] is not None for row in rows):
        columns["our gain"] = [_gain(row) for row in rows]
    columns["s/run"] = [_number(row["our_seconds"], ".1f") for row in rows]
    return columns


def _printed(row: dict[str, Any], keys: Sequence[str]) -> str:
    figures = [row[f"paper_{key}"] for key in keys]
    if figures[0] is None:
        return "-"
    if keys[0] == "params":
        return f"{figures[0]:.1f}M"
    if keys[0] == "gflops":  # Table 3 prints millions
        return f"{figures[0]:.{3 if figures[0] < 1 else 2}f}"
    return as_printed(figures)


def _deviates(row: dict[str, Any], key: str) -> bool:
    """Whether a printed count is not ours, rounded to as many decimals."""
    ours = {"params": row["params"] / 1e6, "gflops": row["macs"] / 1e9}
    printed = row[f"paper_{key}"]
    if key not in ours or printed is None:
        return False
    return round(ours[key], 1 if key == "params" else 3 if printed < 1 else 2) != printed


def _error(row: dict[str, Any]) -> str:
    if not row["our_seeds"]:
        return "-"
    spread = row["our_top1_error_std"]
    between = "" if spread is None else f" ± {spread:.2f}"
    return f"{row['our_top1_error_mean']:.2f}{between} ({row['our_seeds']})"


def _gain(row: dict[str, Any]) -> str:
    low, high = row["our_gain_low"], row["our_gain_high"]
    between = "" if low is None else f" [{_rounded(low):.2f}, {_rounded(high):.2f}]"
    return _signed(row["our_gain"]) + between


def _signed(points: float | None) -> str:
    return "-" if points is None else f"{_rounded(points):+.2f}"


def _rounded(points: float) -> float:
    return round(points, 2) + 0.0  # no "-0.00"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def caption(study: Study, results: Results) -> str:
    """One line: which network, data and conditions the column "ours" stands for."""
    runs = [result for found in results.values() for result in found]
    first = runs[0]

    def all_of(key: str) -> str:
        return ", ".join(made_with(results, key))

    published = study.paper_name_of(first["dataset"])
    others = " or ".join(study.paper_datasets.values())
    instead = f", not {others}" if others and not published else ""
    epochs = ", ".join(f"{e:g}" for e in sorted({run["config"]["train.epochs"] for run in runs}))
    return (
        f"Ours: {_ours(study, results)} on {first['dataset']}{instead}; "
        f"{epochs} epochs, {first['eval/examples']:,} test images; "
        "top-1 error in per cent at the last step; "
        f"{all_of('device_kind')} x {all_of('devices')} ({all_of('host_cpus')} processors), "
        f"JAX {all_of('jax_version')}, commit {all_of('git_commit')}."
    )


def _ours(study: Study, results: Results) -> str:
    """The networks that were trained."""
    if study.network:
        first = next(iter(results.values()))[0]
        fields = {
            field: first["config"].get(f"model.{field}")
            for field in dict.fromkeys((*study.cifar_fields, *study.narrow))
        }
        given = [f"{field} = {value}" for field, value in fields.items() if value is not None]
        return first["model"] + (f" with {' and '.join(given)}" if given else "")
    row = next(row for row in study.rows if row.label in results)
    config = results[row.label][0]["config"]
    narrow = all(f"model.{field}" in config for field in row.narrow if field != "se")
    return "narrow members of these families" if narrow else "these networks"


def theirs(study: Study, results: Results) -> str:
    """The networks and data of the paper's figures."""
    dataset = study.paper_name_of(next(iter(results.values()))[0]["dataset"])
    networks = study.network or "the networks"
    return f"{networks} on {dataset or ' or '.join(study.paper_datasets.values())}"


def remarks(study: Study, results: Results, stopped: Stopped) -> list[str]:
    """What the table says, what it is of, and what a reader must know about these runs."""
    pairs = any(len(keys) > 1 for keys in study.paper_columns.values())
    others = (
        f"Other columns: {theirs(study, results)}; parameters and multiply-adds (GMACs) counted "
        f"here, the rest as printed, errors in per cent{' as top-1 / top-5' if pairs else ''}."
        if study.paper_columns
        else f"Parameters and multiply-adds (GMACs) are those of {study.network}, counted here."
    )
    lines = [
        caption(study, results),
        *([] if study.swept else [others]),
        *marked(study, results),
        "Our top-1: mean ± standard deviation (seeds).",
        *compare.in_words(study, compare.gains(study, results)),
        *study.notes,
    ]
    if narrow := [row.label for row in study.rows if _is_narrow(results.get(row.label, []))]:
        lines.append(
            f"With {study.column} = {', '.join(narrow)} our network has blocks with fewer channels "
            "than r: their hidden width is 1, the least there is."
        )
    return lines + missing(study, results, stopped)


def marked(study: Study, results: Results) -> list[str]:
    """What the mark of a printed count says, if one has it."""
    counts = {"params", "gflops"} & {keys[0] for keys in study.paper_columns.values()}
    if any(_deviates(row, key) for row in numbers(study, results) for key in counts):
        return [f"{MARK}: not what is counted here, rounded."]
    return []


def _is_narrow(found: Sequence[Result]) -> bool:
    """Whether some SE block of the row's network has fewer channels than its ratio."""
    if not found or not found[0]["config"].get("model.se.stages"):
        return False
    model = create_model(found[0]["model"])
    config = found[0]["config"]
    first_stage = min(config["model.se.stages"])
    return isinstance(model, ResNet) and (
        config.get("model.width", model.width) * 2 ** (first_stage - 2) * model.block.expansion
        < config["model.se.ratio"]
    )


def markdown(study: Study, results: Results, rows: Rows, stopped: Stopped) -> str:
    """The table and its remarks as Markdown."""
    columns = formatted(study, rows)
    lines = [
        f"**{study.title}**",
        "",
        "| " + " | ".join(columns) + " |",
        "|" + "---:|" * len(columns),
        *("| " + " | ".join(cells) + " |" for cells in zip(*columns.values(), strict=True)),
        "",
        *(f"- {line}" for line in remarks(study, results, stopped)),
    ]
    return "\n".join(lines) + "\n"


def show(study: Study, results: Results, rows: Rows, stopped: Stopped) -> None:
    """Print the table; where it does not fit, without its secondary columns, never cut digits."""
    columns = formatted(study, rows)
    console = Console(file=sys.stdout, highlight=False)
    left_out: list[str] = []
    for heading in (*study.secondary, *SECONDARY):
        if console.width >= sum(max(map(len, (h, *cells))) + 2 for h, cells in columns.items()):
            break
        if columns.pop(heading, None):
            left_out.append(heading)
    drawn = Table(title=study.title, title_justify="left", box=box.SIMPLE_HEAD)
    drawn.collapse_padding, drawn.pad_edge = True, False
    for heading in columns:
        drawn.add_column(heading, justify="right", no_wrap=True)
    for cells in zip(*columns.values(), strict=True):
        drawn.add_row(*map(escape, cells))
    print_whole(drawn)
    if left_out:
        console.print(f"- Not shown at this width, but in table.md: {', '.join(left_out)}.")
    for line in remarks(study, results, stopped):
        console.print(f"- {line}", markup=False)
