"""Results of a study to its table, from the result files alone.

    python -m experiments.report reduction [--dataset=digits] [--workdir=DIR] [--publish]

Writes table.csv, runs.csv, table.md and table.png into the study's directory and prints the table.
`--publish` also copies runs.csv to experiments/results/ and the table into README.md.
"""

import csv
import io
import re
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from rich import box
from rich.console import Console
from rich.table import Table

from experiments import plot
from experiments.study import Row, Study, load_study
from senet_jax import cli, workdir
from senet_jax.errors import InputError
from senet_jax.models import create_model
from senet_jax.models.resnet import ResNet
from senet_jax.summary import Summary, summarize

ROOT = Path(__file__).parent.parent
Result = dict[str, Any]


def main(argv: list[str]) -> None:
    values = flags.FlagValues()
    flags.DEFINE_string("dataset", "digits", "Which dataset's results.", flag_values=values)
    flags.DEFINE_string("workdir", None, "Where the study was run.", flag_values=values)
    flags.DEFINE_bool("smoke", False, "Results of a smoke run.", flag_values=values)
    flags.DEFINE_bool("publish", False, "Also write README.md.", flag_values=values)
    names = cli.parse_flags(argv, values)
    if len(names) != 1:
        raise InputError("give one study, e.g. `python -m experiments.report reduction`")
    study = load_study(names[0])
    directory = (
        Path(values.workdir)
        if values.workdir
        else default_workdir(study, values.dataset, smoke=values.smoke)
    )
    results = collect(study, directory)
    if not results:
        raise InputError(
            f"there are no results in {directory}; make them with "
            f"`python -m experiments.run {study.name}`"
        )
    write(study, results, directory)
    show(study, results)
    if values.publish:
        publish(study, results)


def default_workdir(study: Study, dataset: str, *, smoke: bool = False) -> Path:
    """Where a study's runs go unless --workdir says otherwise."""
    return Path("runs", study.name + ("-smoke" if smoke else ""), dataset)


def collect(study: Study, directory: Path) -> dict[str, list[Result]]:
    """Row label to the results of its seeds, in order of the seeds; rows without results left out.

    Raises: InputError if runs differ in anything but their seed and what their rows override.
    """
    results: dict[str, list[Result]] = {}
    for row in study.rows:
        found = []
        for path in directory.glob(f"{row.label}/seed*/result.json"):
            config = workdir.read_json(path.with_name("config.json"))
            if config is None:
                raise InputError(f"{path.parent} has a result.json but no config.json")
            result = workdir.read_json(path)
            found.append(result | {"config": workdir.flatten(config), "workdir": path.parent})
        if found:
            results[row.label] = sorted(found, key=lambda result: result["seed"])
    _check_comparable(study, results)
    return results


def _check_comparable(study: Study, results: dict[str, list[Result]]) -> None:
    everything = [(row, r) for row in study.rows for r in results.get(row.label, [])]
    for index, (row, result) in enumerate(everything):
        for other_row, other in everything[:index]:
            own = {"seed"}
            if row is not other_row:
                own |= row.overrides.keys() | other_row.overrides.keys()
            there, now = (
                {k: v for k, v in r["config"].items() if k not in own} for r in (other, result)
            )
            if changes := workdir.differences(there, now):
                raise InputError(
                    f"{other['workdir']} and {result['workdir']} are runs of different "
                    f"configurations: {changes.replace(' there', '').replace(' now', '')}"
                )


def counts(study: Study, row: Row) -> Summary:
    """Exact counts of the paper's network with this row's SE block, at 224 pixels."""
    prefix = "model.se."
    se = {k.removeprefix(prefix): v for k, v in row.overrides.items() if k.startswith(prefix)}
    return summarize(create_model(study.network, se=se, **study.network_fields), (224, 224, 3))


def table(study: Study, results: dict[str, list[Result]]) -> list[dict[str, Any]]:
    """One dict a row: the numbers behind the table, unrounded; None where there is none."""
    rows = []
    for row in study.rows:
        found = results.get(row.label, [])
        errors = [result["eval/top1_error"] for result in found]
        exact = counts(study, row)
        rows.append(
            {
                study.column: row.label,
                "params": exact.params,
                "macs": exact.macs,
                **{
                    f"paper_{key}": row.paper.get(key)
                    for keys in study.paper_columns.values()
                    for key in keys
                },
                "our_params": found[0]["params"] if found else None,
                "our_top1_error_mean": statistics.fmean(errors) if errors else None,
                "our_top1_error_std": statistics.stdev(errors) if len(errors) > 1 else None,
                "our_seeds": len(errors),
                # The median: the first run of a row compiles, the others need not.
                "our_seconds": (
                    statistics.median(result["wall_time_seconds"] for result in found)
                    if found
                    else None
                ),
            }
        )
    return rows


def formatted(study: Study, rows: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    """Heading to the cells below it, as people read them."""
    columns = {
        study.column: [row[study.column] for row in rows],
        "parameters": [f"{row['params']:,}" for row in rows],
        "GMACs": [f"{row['macs'] / 1e9:.3f}" for row in rows],
    }
    for heading, keys in study.paper_columns.items():
        columns[heading] = [_printed(row, keys) for row in rows]
    columns["our parameters"] = [_number(row["our_params"], ",") for row in rows]
    columns["our top-1"] = [_error(row) for row in rows]
    columns["s/run"] = [_number(row["our_seconds"], ".1f") for row in rows]
    return columns


def _printed(row: dict[str, Any], keys: Sequence[str]) -> str:
    if row[f"paper_{keys[0]}"] is None:
        return "-"
    return " / ".join(
        f"{row[f'paper_{key}']:.1f}M" if key == "params" else f"{row[f'paper_{key}']:.2f}"
        for key in keys
    )


def _error(row: dict[str, Any]) -> str:
    if not row["our_seeds"]:
        return "-"
    spread = row["our_top1_error_std"]
    between = "" if spread is None else f" ± {spread:.2f}"
    return f"{row['our_top1_error_mean']:.2f}{between} ({row['our_seeds']})"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def caption(study: Study, results: dict[str, list[Result]]) -> str:
    """One line: which network, data and conditions the column "ours" stands for."""
    runs = [result for found in results.values() for result in found]
    first = runs[0]

    def all_of(key: str) -> str:
        return ", ".join(sorted({str(run[key]) for run in runs}))

    return (
        f"Ours: {first['model']} on {first['dataset']}, not ImageNet; "
        f"{first['config']['train.epochs']:g} epochs, {first['eval/examples']:,} test images; "
        f"top-1 error in per cent at the last step, mean ± standard deviation (seeds); "
        f"{all_of('device_kind')} x {all_of('devices')} ({all_of('host_cpus')} processors), "
        f"JAX {all_of('jax_version')}, commit {all_of('git_commit')}."
    )


def remarks(study: Study, results: dict[str, list[Result]]) -> list[str]:
    """The caption, the study's notes, and what a reader must know about these runs."""
    lines = [
        caption(study, results),
        f"Other columns: {study.network} on ImageNet; parameters and multiply-adds (GMACs) counted "
        "here, the rest as printed, errors in per cent as top-1 / top-5.",
        *study.notes,
    ]
    if narrow := [row.label for row in study.rows if _is_narrow(results.get(row.label, []))]:
        lines.append(
            f"With {study.column} = {', '.join(narrow)} our network has blocks with fewer channels "
            "than r: their hidden width is 1, the least there is."
        )
    seeds = {len(results.get(row.label, [])) for row in study.rows}
    if len(seeds) > 1:
        lines.append("Incomplete: some rows have fewer seeds than others.")
    return lines


def _is_narrow(found: Sequence[Result]) -> bool:
    """Whether some SE block of the row's network has fewer channels than its ratio."""
    if not found or not found[0]["config"].get("model.se.stages"):
        return False
    model = create_model(found[0]["model"])
    first_stage = min(found[0]["config"]["model.se.stages"])
    return isinstance(model, ResNet) and (
        model.width * 2 ** (first_stage - 2) * model.block.expansion
        < found[0]["config"]["model.se.ratio"]
    )


def markdown(study: Study, results: dict[str, list[Result]]) -> str:
    """The table and its remarks as Markdown."""
    columns = formatted(study, table(study, results))
    lines = [
        f"**{study.title}**",
        "",
        "| " + " | ".join(columns) + " |",
        "|" + "---:|" * len(columns),
        *("| " + " | ".join(cells) + " |" for cells in zip(*columns.values(), strict=True)),
        "",
        *(f"- {line}" for line in remarks(study, results)),
    ]
    return "\n".join(lines) + "\n"


def show(study: Study, results: dict[str, list[Result]]) -> None:
    """Print the table; where it does not fit, without its secondary columns, never cut digits."""
    columns = formatted(study, table(study, results))
    console = Console(file=sys.stdout, highlight=False)
    left_out: list[str] = []
    if console.width < sum(max(map(len, (h, *cells))) + 2 for h, cells in columns.items()):
        left_out = [*study.secondary, "our parameters"]
    drawn = Table(title=study.title, title_justify="left", box=box.SIMPLE_HEAD)
    drawn.collapse_padding, drawn.pad_edge = True, False
    kept = {heading: cells for heading, cells in columns.items() if heading not in left_out}
    for heading in kept:
        drawn.add_column(heading, justify="right", no_wrap=True)
    for cells in zip(*kept.values(), strict=True):
        drawn.add_row(*cells)
    least = Console(width=1000).measure(drawn).maximum
    wide = Console(file=sys.stdout, highlight=False, width=max(console.width, least))
    wide.print(drawn)
    if left_out:
        console.print(f"- Not shown at this width, but in table.md: {', '.join(left_out)}.")
    for line in remarks(study, results):
        console.print(f"- {line}")


def write(study: Study, results: dict[str, list[Result]], directory: Path) -> None:
    """table.csv, runs.csv, table.md and table.png, each replaced as a whole.

    Raises: InputError if the directory cannot be written.
    """
    rows = table(study, results)
    try:
        workdir.write_file(directory / "table.csv", to_csv(rows))
        workdir.write_file(directory / "runs.csv", to_csv(flat_runs(study, results)))
        workdir.write_file(directory / "table.md", markdown(study, results).encode())
        workdir.write_file(directory / "table.png", plot.draw(study, rows, caption(study, results)))
    except OSError as error:
        raise InputError(f"{directory} cannot be written: {error.strerror or error}") from error


def publish(study: Study, results: dict[str, list[Result]]) -> None:
    """Copy the runs to experiments/results/ and the table between its markers in README.md.

    Raises: InputError for runs whose code is not a commit, or on a part of the data.
    """
    runs = [result for found in results.values() for result in found]
    if any(run["git_commit"] == "unknown" or run["git_commit"].endswith("-dirty") for run in runs):
        raise InputError("some runs were made with uncommitted changes; commit, run again, publish")
    if any(
        "[" in run["config"][f"data.{kind}_split"] for run in runs for kind in ("train", "eval")
    ):
        raise InputError("these runs used a part of the data; publish runs on all of it")
    name = f"{study.name}_{runs[0]['dataset']}"
    readme = ROOT / "README.md"
    text = insert(readme.read_text("utf-8"), name, markdown(study, results))
    (ROOT / "experiments" / "results").mkdir(exist_ok=True)
    workdir.write_file(
        ROOT / "experiments" / "results" / f"{name}.csv", to_csv(flat_runs(study, results))
    )
    workdir.write_file(readme, text.encode())


def insert(text: str, name: str, content: str) -> str:
    """Replace what stands between `<!-- name -->` and `<!-- end name -->`."""
    start, end = f"<!-- {name} -->", f"<!-- end {name} -->"
    pattern = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(text):
        raise InputError(f"README.md has no place marked {start} ... {end}")
    return pattern.sub(lambda _: f"{start}\n{content}{end}", text)


def flat_runs(study: Study, results: dict[str, list[Result]]) -> list[dict[str, Any]]:
    """One flat dict a run: row, result and configuration."""
    return [
        {
            study.column: label,
            **{k: v for k, v in result.items() if k not in ("config", "workdir")},
            **{f"config.{k}": v for k, v in result["config"].items()},
        }
        for label, found in results.items()
        for result in found
    ]


def to_csv(rows: Sequence[dict[str, Any]]) -> bytes:
    """CSV with the first row's keys as header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


if __name__ == "__main__":
    cli.run(main, __doc__)
