"""Results of a study to its table, from the result files alone.

    python -m experiments.report reduction [--dataset=cifar10] [--workdir=DIR] [--publish]

Writes table.csv, runs.csv, table.md and table.png into the study's directory and prints the table.
`--publish` also copies runs.csv to experiments/results/ and the table into README.md.
"""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from experiments import plot, table
from experiments.study import Row, Study, define_flags, directory_of, the_study
from experiments.table import Results
from senet_jax import cli, workdir
from senet_jax.errors import InputError

ROOT = Path(__file__).parent.parent


def main(argv: list[str]) -> None:
    values = flags.FlagValues()
    define_flags(values)
    flags.DEFINE_bool("publish", False, "Also write README.md.", flag_values=values)
    study = the_study(cli.parse_flags(argv, values), "report")
    directory = directory_of(study, values)
    results = collect(study, directory)
    if not results:
        raise InputError(
            f"there are no results in {directory}; make them with "
            f"`python -m experiments.run {study.name}`"
        )
    report(study, results, directory)
    if values.publish:
        publish(study, results)


def report(study: Study, results: Results, directory: Path) -> None:
    """Write table.csv, runs.csv, table.md and table.png, and print the table."""
    rows = table.numbers(study, results)
    write(study, results, rows, directory)
    table.show(study, results, rows)


def collect(study: Study, directory: Path) -> Results:
    """Row label to the results of its seeds, in order of the seeds; rows without results left out.

    Raises: InputError if runs differ in what they should have in common.
    """
    results: Results = {}
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


def _check_comparable(study: Study, results: Results) -> None:
    everything = [(row, r) for row in study.rows for r in results.get(row.label, [])]
    for index, (row, result) in enumerate(everything):
        for other_row, other in everything[:index]:
            configs = (
                {k: v for k, v in r["config"].items() if _in_common(study, row, other_row, k)}
                for r in (other, result)
            )
            if changes := workdir.differences(*configs, names=("in the first", "in the second")):
                raise InputError(
                    f"{other['workdir']} and {result['workdir']} are runs of different "
                    f"configurations: {changes}"
                )


def _in_common(study: Study, row: Row, other: Row, key: str) -> bool:
    """Whether runs of two rows must have the same value of a configuration key.

    Runs of one network: all but the seed and what the rows override. A plain network and the same
    with SE: all but the SE blocks, too, so that the difference is theirs. Other networks have sizes
    and recipes of their own, and only the data in common.
    """
    if key == "seed" or (row is not other and (key in row.overrides or key in other.overrides)):
        return False
    network, other_network = study.network_of(row), study.network_of(other)
    if network == other_network:
        return True
    if network.removeprefix("se") == other_network.removeprefix("se"):
        return key != "model.name" and not key.startswith("model.se.")
    return key in ("data.name", "data.train_split", "data.eval_split")


def write(study: Study, results: Results, rows: table.Rows, directory: Path) -> None:
    """table.csv, runs.csv, table.md and table.png, each replaced as a whole.

    Raises: InputError if the directory cannot be written.
    """
    try:
        workdir.write_file(directory / "table.csv", to_csv(rows))
        workdir.write_file(directory / "runs.csv", to_csv(flat_runs(study, results)))
        workdir.write_file(directory / "table.md", table.markdown(study, results, rows).encode())
        figure = plot.draw(study, rows, table.theirs(study, results), table.caption(study, results))
        workdir.write_file(directory / "table.png", figure)
    except OSError as error:
        raise InputError(f"{directory} cannot be written: {error.strerror or error}") from error


def publish(study: Study, results: Results) -> None:
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
    content = table.markdown(study, results, table.numbers(study, results))
    text = insert(readme.read_text("utf-8"), name, content)
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


def flat_runs(study: Study, results: Results) -> list[dict[str, Any]]:
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
    """CSV; the header has the keys of all rows, and what a row lacks is empty."""
    text = io.StringIO()
    names = dict.fromkeys(name for row in rows for name in row)
    writer = csv.DictWriter(text, fieldnames=list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


if __name__ == "__main__":
    cli.run(main, __doc__)
