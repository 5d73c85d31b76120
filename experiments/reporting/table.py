"""A study's table and its remarks, as Markdown and in a terminal."""

import re
import sys
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from configs.common import VARIANTS
from experiments.grid.study import Study
from experiments.reporting import about_runs, by_class, compare, primary, same_images
from experiments.reporting.collect import (
    Results,
    Unfinished,
    dataset_of,
    datasets_of,
    made_with,
)
from experiments.reporting.numbers import (
    COUNTS,
    Numbers,
    decimals,
    deviates,
    is_narrow,
    not_as_counted,
    not_as_declared,
    number_rows,
)
from senet_jax.errors import counted
from senet_jax.models.paper import as_printed
from senet_jax.runs import provenance
from senet_jax.system.terminal import print_whole

MARK = "*"  # after a printed count that differs from ours

# The columns that a narrow terminal leaves out, in this order, after Study.secondary.
SECONDARY = ("our parameters", "s/run", "paper gain", "GMACs")


def text_columns(study: Study, rows: Sequence[Numbers]) -> dict[str, list[str]]:
    """The cells of the table by heading, as text; `rows` are number_rows."""
    columns = {
        **_label_columns(study),
        "parameters": [_number(row["params"], ",") for row in rows],
        "GMACs": [_number(row["macs"] and row["macs"] / 1e9, ".3f") for row in rows],
    }
    for heading, keys in study.paper_columns.items():
        columns[heading] = [_paper_cell(row, keys) for row in rows]
    if any(row["paper_gain"] is not None for row in rows):
        columns["paper gain"] = [signed(row["paper_gain"]) for row in rows]
    if not study.is_sweep:
        columns["our parameters"] = [_number(row["our_params"], ",") for row in rows]
    columns["our top-1"] = [error_cell(row) for row in rows]
    if any(row["our_gain"] is not None for row in rows):
        columns["our gain"] = [_gain(row) for row in rows]
    columns["s/run"] = [_number(row["our_seconds"], ".1f") for row in rows]
    return columns


def _label_columns(study: Study) -> dict[str, list[str]]:
    """The rows' labels, or one column per factor; a row without any has its label in the first."""
    if not study.factors:
        return {study.column: [row.label for row in study.rows]}
    first, *others = study.factors
    return {
        first: [str(row.factors.get(first, row.label)) for row in study.rows],
        **{other: [str(row.factors.get(other, "-")) for row in study.rows] for other in others},
    }


def _paper_cell(row: Numbers, keys: Sequence[str]) -> str:
    """The paper's figures in a column, with MARK after a count that differs from ours."""
    figures = [row[f"paper_{key}"] for key in keys]
    if figures[0] is None:
        return "-"
    if keys[0] not in COUNTS:
        return as_printed(figures)
    unit = "M" if keys[0] == "params" else ""
    mark = MARK if deviates(row, keys[0]) else ""
    return f"{figures[0]:.{decimals(keys[0], figures[0])}f}{unit}{mark}"


def error_cell(row: Numbers) -> str:
    """Our error in a row: mean, deviation over seeds and their number."""
    if not row["our_seeds"]:
        return "-"
    spread = row["our_top1_error_std"]
    between = "" if spread is None else f" ± {spread:.2f}"
    return f"{row['our_top1_error_mean']:.2f}{between} ({row['our_seeds']})"


def _gain(row: Numbers) -> str:
    low, high = row["our_gain_low"], row["our_gain_high"]
    between = "" if low is None else f" [{_rounded(low):.2f}, {_rounded(high):.2f}]"
    return signed(row["our_gain"]) + between


def signed(points: float | None) -> str:
    """A difference in points with its sign; "-" for none."""
    return "-" if points is None else f"{_rounded(points):+.2f}"


def _rounded(points: float) -> float:
    return round(points, 2) + 0.0  # no "-0.00"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def caption(study: Study, results: Results) -> str:
    """One line on the networks, data and conditions of our runs."""
    runs = [run for of_row in results.values() for run in of_row]
    images = sorted({run["eval/examples"] for run in runs})

    def all_of(key: str) -> str:
        return " or ".join(made_with(results, key))

    commits = made_with(results, "git_commit")
    code = f"commit{'s' if len(commits) > 1 else ''} {', '.join(commits)}"
    others = " or ".join(study.paper_datasets.values())
    datasets = datasets_of(results)
    differs = others and not study.paper_name_of(datasets[0])
    instead = f", not {others}" if differs else ""
    epochs = ", ".join(f"{e:g}" for e in sorted({run["config"]["train.epochs"] for run in runs}))
    return (
        f"Ours: {_ours(study, results)} on {' or '.join(datasets)}{instead}"
        f"{''.join(map(_splits, datasets))}; "
        f"{counted(epochs, 'epoch')}, "
        f"{counted(' or '.join(f'{n:,}' for n in images), 'test image')}; "
        "top-1 error in per cent at the last step; "
        f"{all_of('device_kind')} x {all_of('devices')} "
        f"({counted(all_of('host_cpus'), 'processor')}), "
        f"JAX {all_of('jax_version')}{_library(results)}, {code}."
        f"{not_as_declared(study, results)}{_mixed(results)}{_folds(results)}"
    )


def _library(results: Results) -> str:
    """The version of oneDNN, where runs had it."""
    versions = made_with(results, key := "onednn_version")
    return f", oneDNN {' or '.join(versions)}" if versions != [provenance.USUAL[key]] else ""


def _folds(results: Results) -> str:
    """A sentence on runs on folds."""
    if not (folds := compare.folds_of(results)):
        return ""
    split = next(iter(results.values()))[0]["config"]["data.train_split"]
    return (
        f" Seed N was evaluated on fold N + 1 of {folds} of split {split!r}, stratified by class, "
        "and trained on the others. Folds share training images, so runs are not independent: "
        "intervals and tests have the corrected variance of Nadeau and Bengio (2003), 1/n + "
        f"1/{folds - 1} times that of a run."
    )


def _splits(dataset: str) -> str:
    """The splits of a variant of a dataset, in words; "" for the dataset itself."""
    if dataset not in VARIANTS:
        return ""
    name, train, evaluation = VARIANTS[dataset].values()
    return (
        f" ({train} of {name} in training, {evaluation} in evaluation: errors cannot be compared "
        "with those printed for it, gains can)"
    )


def _mixed(results: Results) -> str:
    """A sentence on what runs differ in, where the same seed would give them different bits."""
    values = {words: made_with(results, key) for key, words in provenance.BITS.items()}
    differing = [f"{w} ({' or '.join(v)})" for w, v in values.items() if len(v) > 1]
    if not differing:
        return ""
    return (
        f" The runs differ in {', '.join(differing)}, and so in their last bits: part of the "
        "differences between them is due to that."
    )


def _ours(study: Study, results: Results) -> str:
    """The networks that were trained, in words."""
    if study.network:
        first = next(iter(results.values()))[0]
        fields = {
            field: first["config"].get(f"model.{field}")
            for field in dict.fromkeys((*study.cifar_fields, *study.narrow))
        }
        changes = [f"{field} = {value}" for field, value in fields.items() if value is not None]
        return " or ".join(made_with(results, "model")) + (
            f" with {' and '.join(changes)}" if changes else ""
        )
    row = next(row for row in study.rows if row.label in results)
    config = results[row.label][0]["config"]
    narrow = all(f"model.{field}" in config for field in row.narrow if field != "se")
    return "narrow members of these families" if narrow else "these networks"


def theirs(study: Study, results: Results) -> str:
    """The networks and data of the paper's figures, in words."""
    dataset = study.paper_name_of(dataset_of(results))
    networks = study.network or "the networks"
    return f"{networks} on {dataset or ' or '.join(study.paper_datasets.values())}"


def remarks(study: Study, results: Results, unfinished: Unfinished) -> list[str]:
    """The remarks below the table: its conditions, its columns, and what readers must know."""
    runs = "folds" if compare.folds_of(results) else "seeds"
    lines = [
        caption(study, results),
        *_about_other_columns(study, results),
        f"Our top-1: mean ± standard deviation ({runs}).",
        *primary.in_words(study, results),
        *compare.in_words(study, compare.gains(study, results)),
        *primary.about_secondary(study, results),
        *primary.about_deviations(results),
        *by_class.in_words(results),
        *primary.about_averages(results),
        *study.notes,
    ]
    if narrow := [row.label for row in study.rows if is_narrow(results.get(row.label, []))]:
        lines.append(
            f"With {study.in_words(', '.join(narrow))} our network has blocks with fewer channels "
            "than r: their hidden width is 1, the least there is."
        )
    lines += about_runs.in_words(study, results) + same_images.in_words(study, results)
    return lines + about_runs.missing(study, results, unfinished)


def _about_other_columns(study: Study, results: Results) -> list[str]:
    """The remarks on the columns that are not our errors, and on MARK if a cell has it."""
    if study.is_sweep:
        return []
    if not study.paper_columns:
        networks = ", ".join(dict.fromkeys(map(study.network_of, study.rows)))
        return [f"Parameters and multiply-adds (GMACs) are those of {networks}, counted here."]
    pairs = any(len(keys) > 1 for keys in study.paper_columns.values())
    lines = [
        f"Other columns: {theirs(study, results)}; parameters and multiply-adds (GMACs) counted "
        f"here, the rest as printed, errors in per cent{' as top-1 / top-5' if pairs else ''}."
    ]
    lines += [
        f"Not the networks counted: ours differ in {d}." for d in not_as_counted(study, results)
    ]
    counts = [keys[0] for keys in study.paper_columns.values() if keys[0] in COUNTS]
    if any(deviates(row, key) for row in number_rows(study, results) for key in counts):
        lines.append(f"{MARK}: not what is counted here, rounded.")
    return lines


def markdown(study: Study, results: Results, unfinished: Unfinished) -> str:
    """The table and its remarks as Markdown."""
    columns = text_columns(study, number_rows(study, results))
    lines = [
        f"**{_literal(study.title)}**",
        "",
        "| " + " | ".join(map(_literal, columns)) + " |",
        "|" + "---:|" * len(columns),
        *(
            "| " + " | ".join(map(_literal, cells)) + " |"
            for cells in zip(*columns.values(), strict=True)
        ),
        "",
        *(f"- {_literal(line)}" for line in remarks(study, results, unfinished)),
    ]
    return "\n".join(lines) + "\n"


def _literal(text: str) -> str:
    """A text of others in a line of Markdown, where it begins and ends no cell, code or formula."""
    return re.sub(r"([\\|`<$])", r"\\\1", " ".join(text.split()))


def show(study: Study, results: Results, unfinished: Unfinished) -> None:
    """Print the table, without its secondary columns if it does not fit; digits are never cut."""
    columns = text_columns(study, number_rows(study, results))
    console = Console(file=sys.stdout, highlight=False)
    left_out: list[str] = []
    for heading in (*study.secondary, *SECONDARY):
        widths = [max(map(len, (head, *cells))) + 2 for head, cells in columns.items()]
        if console.width >= sum(widths):
            break
        if columns.pop(heading, None):
            left_out.append(heading)
    drawn = Table(title=Text(study.title), title_justify="left", box=box.SIMPLE_HEAD)
    drawn.collapse_padding, drawn.pad_edge = True, False
    for heading in columns:
        drawn.add_column(Text(heading), justify="right", no_wrap=True)
    for cells in zip(*columns.values(), strict=True):
        drawn.add_row(*map(Text, cells))
    print_whole(drawn)
    if left_out:
        console.print(Text(f"- Not shown at this width, but in table.md: {', '.join(left_out)}."))
    for line in remarks(study, results, unfinished):
        console.print(Text(f"- {line}"))
