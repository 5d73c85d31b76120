"""The results table of README.md: some published studies, each row with its interval.

`python -m experiments.report --index` writes it between its marks. A test fails if README.md
differs from the published runs.
"""

import statistics

from experiments.grid.study import Study
from experiments.reporting import blocks, compare, publish, table
from experiments.reporting.collect import Results
from experiments.reporting.csv_files import read_results
from experiments.studies import load_study

MARK = "results"
# Studies and their datasets; what is not published is left out.
SHOWN = (("reduction", "cifar100_half"), ("transfer", "cifar100"), ("reduction", "digits"))
COLUMNS = ("study", "row", "top-1 error, %", "gain, points", "95 % interval", "verdict")


def markdown() -> str:
    """The table and, below it, the conditions of each study."""
    lines = [COLUMNS, ("---", "---", "---:", "---:", "---:", "---")]
    conditions = []
    for name, dataset in SHOWN:
        study = load_study(name)
        if dataset not in publish.published_datasets(study):
            continue
        results, _ = read_results(publish.directory_of(study, dataset))
        lines += rows(study, dataset, results)
        conditions.append(f"- {name}: {table.caption(study, results)}")
    text = "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
    return f"{text}\n" + "\n".join(conditions) + "\n"


def rows(study: Study, dataset: str, results: Results) -> list[tuple[str, ...]]:
    """The cells of the reference and of each row that is compared with it."""
    gains = compare.gains(study, results)
    lines = []
    for row in study.rows:
        errors = [run["eval/top1_error"] for run in results[row.label]]
        spread = f"{statistics.fmean(errors):.2f} ± {statistics.stdev(errors):.2f} ({len(errors)})"
        name = f"{study.column} = {row.label}" if study.column != "row" else row.label
        cells: tuple[str, ...] = ("-", "-", "the reference")
        if row.label not in gains and name != study.reference_name:
            continue
        if gain := gains.get(row.label):
            low, high = gain.interval or (float("nan"), float("nan"))
            cells = f"{gain.mean:+.2f}", f"[{low:.2f}, {high:.2f}]", gain.verdict
        lines.append((f"{study.name}, {dataset}", name, spread, *cells))
    return lines


def write() -> None:
    """Bring the table up to date in every page that has a place for it."""
    blocks.write_block(MARK, lambda page: markdown())
