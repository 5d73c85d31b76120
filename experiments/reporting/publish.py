"""Results under version control: experiments/results/STUDY/DATASET/, and the list of studies.

The tree is like that of runs/, and its files are named like those beside a study's runs.
"""

from collections.abc import Iterable
from pathlib import Path

from configs.common import VARIANTS
from experiments.grid.folder_names import folder_of
from experiments.grid.study import Study
from experiments.reporting import blocks, compare
from experiments.reporting.collect import Results, Unfinished, dataset_of, made_with
from experiments.reporting.csv_files import CURVES, RIGHT, RUNS, read_results
from experiments.reporting.run_files import Result
from experiments.reporting.write import data_files, figure_files
from experiments.studies import load_studies
from senet_jax.errors import InputError, did_you_mean
from senet_jax.system import figures, files

RESULTS = blocks.ROOT / "experiments" / "results"
TIMING = "timing"  # the folder of measured times, beside those of the studies
FILES = (RUNS, CURVES, RIGHT, "table.md", "table.png", "curves.png")
PICTURES = {"table.png": "Errors of the rows", "curves.png": "Error against epoch"}


def directory_of(study: Study, dataset: str) -> Path:
    """The directory of a study's published results on a dataset."""
    return RESULTS / study.name / folder_of(dataset)


def published_datasets(study: Study) -> list[str]:
    """The datasets on which results of the study are published."""
    folder = RESULTS / study.name
    return [path.parent.relative_to(folder).as_posix() for path in sorted(folder.rglob(RUNS))]


def read(study: Study, dataset: str) -> tuple[Results, Unfinished]:
    """Read what is published of a study on a dataset.

    Raises: InputError if the files cannot be read, or are of a row that the study lacks: it was
      renamed, and a table would leave its runs out.
    """
    results, unfinished = read_results(directory := directory_of(study, dataset))
    labels = [row.label for row in study.rows]
    for label in (*results, *unfinished):
        if label not in labels:
            raise InputError(
                f"{directory / RUNS} has a row {label!r}, which {study.name} lacks; rename it "
                f"there, or publish again{did_you_mean(label, labels)}"
            )
    return results, unfinished


def publish(study: Study, results: Results, unfinished: Unfinished) -> list[str]:
    """Write the runs, their curves, table and figures to experiments/results/, and the pages.

    Pages have the table where they have the block STUDY_DATASET, and the list of studies.

    Returns: a sentence for each figure that cannot be drawn.

    Raises: InputError if runs were made with uncommitted code, or on a part of the data.
    """
    runs = [run for of_row in results.values() for run in of_row]
    commits = made_with(results, "git_commit")
    if any(commit == "unknown" or commit.endswith("-dirty") for commit in commits):
        raise InputError("some runs were made with uncommitted changes; commit, run again, publish")
    if any(run["config"].get("data.fold") for run in runs):
        raise InputError("these runs are on folds; publish runs on the dataset's own splits")
    dataset = dataset_of(results)
    splits = [run["config"][f"data.{kind}_split"] for run in runs for kind in ("train", "eval")]
    whole = [row.label for row in study.rows if "data.classes" not in row.overrides]
    cut = [run["config"].get("data.classes") for label in whole for run in results.get(label, [])]
    if any(cut) or (dataset not in VARIANTS and any("[" in split for split in splits)):
        raise InputError("these runs used a part of the data; publish runs on all of it")
    directory = directory_of(study, dataset)
    _print_lost(directory, results)
    written = data_files(study, results, unfinished)
    drawings = figure_files(study, results)
    directory.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        if name in written:
            files.write(directory / name, written[name])
        elif name not in drawings:
            (directory / name).unlink(missing_ok=True)  # the curves of earlier runs
    failed = {name: figures.write(directory / name, draw) for name, draw in drawings.items()}
    text = written["table.md"].decode()
    drawn = [name for name in PICTURES if failed.get(name) == ""]
    pictures = "".join(f"\n![{PICTURES[name]}]({name})\n" for name in drawn)
    files.write(directory / "table.md", files.encoded(text + pictures))
    blocks.write_block(f"{study.name}_{dataset.replace('/', '-')}", lambda page: text)
    write_index()
    return [*filter(None, failed.values())]


def _print_lost(directory: Path, results: Results) -> None:
    """Say which seeds of which rows are published and will no longer be, or with other results."""
    try:
        earlier = read_results(directory)[0] if (directory / RUNS).exists() else {}
    except InputError:  # what nobody can read is no loss
        return
    for label, runs in earlier.items():
        if seeds := {run["seed"] for run in runs} - {run["seed"] for run in results.get(label, [])}:
            print(f"no longer published: {label}, {_listed(seeds)}; --published keeps equal ones")
    for label, listed in exchanged(earlier, results).items():
        print(f"published anew, with other results: {label}, {listed}")


def exchanged(earlier: Results, results: Results) -> dict[str, str]:
    """The seeds, in words, that have results in both of which the later are others, by row."""
    others = {}
    for label, runs in results.items():
        before = {run["seed"]: _outcome(run) for run in earlier.get(label, [])}
        again = [run for run in runs if run["seed"] in before]
        if seeds := [run["seed"] for run in again if _outcome(run) != before[run["seed"]]]:
            others[label] = _listed(seeds)
    return others


def _outcome(run: Result) -> tuple[object, ...]:
    """What tells two runs of a configuration and a seed apart."""
    return tuple(run.get(key) for key in ("params_sha256", "eval/top1_error", "eval/loss"))


def _listed(seeds: Iterable[int]) -> str:
    return f"seeds {', '.join(map(str, sorted(seeds)))}"


def write_index() -> None:
    """Bring the list of studies up to date. Raises: InputError if no page has a place for it."""
    if not blocks.write_block("studies", index):
        raise InputError("no page has a place marked <!-- studies --> ... <!-- end studies -->")


def index(page: Path) -> str:
    """The studies as a Markdown table for a page, each with the verdict of its results."""
    lines = [
        "| table | subject | command | data by default | our results |",
        "|---|---|---|---|---|",
    ]
    for study in load_studies():
        file = blocks.ROOT / "experiments" / "studies" / f"{study.name}.py"
        verdicts = [_verdict(study, dataset, page) for dataset in published_datasets(study)]
        lines.append(
            f"| [{study.source}]({blocks.link(page, file)}) | {study.subject} "
            f"| `python -m experiments.run {study.name}` | {study.dataset} "
            f"| {'<br>'.join(verdicts) or 'not run yet'} |"
        )
    return "\n".join(lines) + "\n"


def _verdict(study: Study, dataset: str, page: Path) -> str:
    """The verdict of the published results on a dataset, behind a link to them."""
    directory = directory_of(study, dataset)
    results, _ = read(study, dataset)
    counts = [len(runs) for runs in results.values()]
    seeds = " to ".join(str(count) for count in sorted({min(counts), max(counts)}))
    address = blocks.link(page, directory / "table.md")
    verdict = compare.in_short(study, compare.gains(study, results))
    return f"[{dataset_of(results)}, n = {seeds}]({address}): {verdict}"
