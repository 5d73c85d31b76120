"""The results of README.md: some published studies, each row with its interval, and a picture.

`python -m experiments.report --index` writes them between their marks. A test fails if README.md
differs from the published runs.
"""

from pathlib import Path

from experiments.grid.study import Study
from experiments.reporting import blocks, compare, publish, table
from experiments.reporting.collect import Results
from experiments.reporting.numbers import our_errors
from experiments.studies import load_study

MARK = "results"
# Studies, their datasets and what to say of them; what is not published, or has no interval yet,
# is left out. The first has its picture.
SHOWN = (
    ("reduction", "cifar100_half", ""),
    ("reduction", "digits", "; this is what the first command above trains and prints"),
)
COLUMNS = ("row", "top-1 error, %", "gain, points", "95 % interval", "verdict")
RULE = ("---", "---:", "---:", "---:", "---")


def markdown(page: Path) -> str:
    """The table of each study, with its conditions below it."""
    sections = []
    for name, dataset, remark in SHOWN:
        study = load_study(name)
        if dataset not in publish.published_datasets(study):
            continue
        results, _ = publish.read(study, dataset)
        if not any(gain.interval for gain in compare.gains(study, results).values()):
            continue  # a study at its beginning says nothing yet
        title = f"{study.title}, on {dataset}"
        section = f"**{title}**{remark}\n\n{blocks.table(COLUMNS, RULE, rows(study, results))}"
        picture = publish.directory_of(study, dataset) / "table.png"
        if not sections and picture.is_file():
            section += f"\n![{title}]({blocks.link(page, picture)})\n"
        sections.append(f"{section}\n{table.caption(study, results)}\n")
    return "\n".join(sections)


def rows(study: Study, results: Results) -> list[tuple[str, ...]]:
    """The cells of the reference and of each row that is compared with it."""
    gains, shared = compare.gains(study, results), compare.shared_by_folds(results)
    lines = []
    for row in study.rows:
        name = f"{study.column} = {row.label}" if study.column != "row" else row.label
        error = table.error_cell(our_errors(results.get(row.label, []), shared))
        cells: tuple[str, ...] = ("-", "-", "the reference")
        if name != study.reference_name:
            if study.reference_of(row) is None:
                continue
            gain = gains.get(row.label, compare.Gain(()))
            low, high = gain.interval or (None, None)
            interval = "-" if low is None else f"[{low:.2f}, {high:.2f}]"
            verdict = gain.verdict if row.label in results else "no result"
            cells = table.signed(gain.mean), interval, verdict
        lines.append((name, error, *cells))
    return lines


def write() -> None:
    """Bring the table up to date in every page that has a place for it."""
    blocks.write_block(MARK, markdown)
