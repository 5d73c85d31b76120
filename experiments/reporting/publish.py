"""Results under version control: experiments/results/, read back, and the blocks of README.md."""

import ast
import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.grid.study import Study
from experiments.reporting import compare, plot, table
from experiments.reporting.collect import CURVE, NEEDED, Results, Stopped, made_with
from experiments.studies import load_studies, study_names
from senet_jax.errors import InputError
from senet_jax.system import files

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "experiments" / "results"
# What of `files` is published as it is, and how its name ends there.
ENDINGS = {
    "runs.csv": ".csv",
    "curves.csv": "_curves.csv",
    "table.png": ".png",
    "curves.png": "_curves.png",
}
PICTURES = {"table.png": "Errors of the rows", "curves.png": "Error against epoch"}


def documents(
    study: Study, results: Results, rows: table.Rows, stopped: Stopped
) -> dict[str, bytes]:
    """Everything written about a study's results, by file name; curves only if there are any."""
    caption = table.caption(study, results)
    written = {
        "table.csv": to_csv(rows),
        "runs.csv": runs_csv(results, stopped),
        "table.md": table.markdown(study, results, rows, stopped).encode(),
        "table.png": plot.draw(study, results, rows, table.theirs(study, results), caption),
    }
    if any(run["curve"] for found in results.values() for run in found):
        written["curves.csv"] = curves_csv(results)
        written["curves.png"] = plot.curves(study, results, caption)
    return written


def publish(study: Study, results: Results, stopped: Stopped) -> None:
    """Write the runs, their curves, table and figures to experiments/results/, and README.md.

    README.md has the table if it has a place for it, and always the list of studies.

    Raises: InputError for runs whose code is not a commit, or on a part of the data.
    """
    runs = [result for found in results.values() for result in found]
    commits = made_with(results, "git_commit")
    if any(commit == "unknown" or commit.endswith("-dirty") for commit in commits):
        raise InputError("some runs were made with uncommitted changes; commit, run again, publish")
    if any(
        "[" in run["config"][f"data.{kind}_split"] for run in runs for kind in ("train", "eval")
    ):
        raise InputError("these runs used a part of the data; publish runs on all of it")
    name = path_of(study, runs[0]["dataset"]).stem
    written = documents(study, results, table.numbers(study, results), stopped)
    text = written["table.md"].decode()
    pictures = [
        f"\n![{what}]({name}{ENDINGS[source]})\n"
        for source, what in PICTURES.items()
        if source in written
    ]
    RESULTS.mkdir(exist_ok=True)
    for source, ending in ENDINGS.items():
        path = RESULTS / f"{name}{ending}"
        if source in written:
            files.write(path, written[source])
        else:
            path.unlink(missing_ok=True)  # curves of other runs
    files.write(RESULTS / f"{name}.md", (text + "".join(pictures)).encode())
    readme = ROOT / "README.md"
    if f"<!-- {name} -->" in (before := readme.read_text("utf-8")):
        files.write(readme, insert(before, name, text).encode())
    write_index()


def write_index() -> None:
    """Bring the list of studies in README.md up to date."""
    readme = ROOT / "README.md"
    files.write(readme, insert(readme.read_text("utf-8"), "studies", index()).encode())


def path_of(study: Study, dataset: str) -> Path:
    """Where the runs of a study on a dataset are published."""
    return RESULTS / f"{study.name}_{dataset.replace('/', '-')}.csv"


def published(study: Study) -> list[Path]:
    """The files of a study's runs in experiments/results/, one a dataset."""
    found = []
    for path in sorted(RESULTS.glob("*.csv")):
        # A study's name may begin with that of another one.
        owner = max(
            (s for s in study_names() if path.stem.startswith(f"{s}_")), key=len, default=None
        )
        if owner == study.name and not path.stem.endswith("_curves"):
            found.append(path)
    return found


def read(path: Path) -> tuple[Results, Stopped]:
    """What `collect` and `unfinished` gave when the file was published, with curves.

    Raises: InputError for a file that is not one of ours.
    """
    results: Results = {}
    stopped: dict[str, dict[int, str]] = {}
    for line in _lines(path):
        label, values = line.pop("row"), {key: _decode(text) for key, text in line.items() if text}
        if "failed" in values:
            stopped.setdefault(label, {})[values["seed"]] = values["failed"]
            continue
        if lacking := [key for key in NEEDED if key not in values]:
            raise InputError(f"{path} lacks {', '.join(lacking)} in row {label}")
        config = {k.removeprefix("config."): v for k, v in values.items() if k[:7] == "config."}
        result = {k: v for k, v in values.items() if k[:7] != "config."}
        results.setdefault(label, []).append(result | {"config": config, "curve": []})
    curves = path.with_name(f"{path.stem}_curves.csv")
    for line in _lines(curves) if curves.exists() else []:
        point = {key: _decode(line[key]) for key in CURVE if line[key]}
        for result in results.get(line["row"], []):
            if result["seed"] == _decode(line["seed"]):
                result["curve"].append(point)
    return results, stopped


def index() -> str:
    """The studies as a Markdown table, each with what its published results say."""
    lines = [
        "| table | subject | command | data by default | our results |",
        "|---|---|---|---|---|",
    ]
    for study in load_studies():
        found = []
        for path in published(study):
            results, _ = read(path)
            link = f"[{in_brief(results)}](experiments/results/{path.stem}.md)"
            found.append(f"{link}: {compare.in_short(study, compare.gains(study, results))}")
        lines.append(
            f"| [{study.source}](experiments/studies/{study.name}.py) | {study.subject} "
            f"| `python -m experiments.run {study.name}` | {study.dataset} "
            f"| {'<br>'.join(found) or 'not run yet'} |"
        )
    return "\n".join(lines) + "\n"


def in_brief(results: Results) -> str:
    """Dataset and number of seeds."""
    dataset = next(iter(results.values()))[0]["dataset"]
    seeds = sorted({len(found) for found in results.values()})
    return f"{dataset}, n = {' to '.join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))}"


def insert(text: str, name: str, content: str) -> str:
    """Replace what stands between `<!-- name -->` and `<!-- end name -->`."""
    start, end = f"<!-- {name} -->", f"<!-- end {name} -->"
    pattern = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(text):
        raise InputError(f"README.md has no place marked {start} ... {end}")
    return pattern.sub(lambda _: f"{start}\n{content}{end}", text)


def runs_csv(results: Results, stopped: Stopped) -> bytes:
    """One line a run: row, result and configuration; of an unfinished one row, seed and reason."""
    done = [
        {
            "row": label,
            **{k: _encode(v) for k, v in run.items() if k not in ("config", "curve")},
            **{f"config.{k}": _encode(v) for k, v in run["config"].items()},
        }
        for label, found in results.items()
        for run in found
    ]
    rest = [
        {"row": label, "seed": seed, "failed": _encode(why)}
        for label, seeds in stopped.items()
        for seed, why in seeds.items()
    ]
    return to_csv([*done, *rest])


def curves_csv(results: Results) -> bytes:
    """One line an evaluation of a run."""
    return to_csv(
        [
            {"row": label, "seed": run["seed"], **point}
            for label, found in results.items()
            for run in found
            for point in run["curve"]
        ]
    )


def to_csv(rows: Sequence[dict[str, Any]]) -> bytes:
    """CSV; the header has the keys of all rows, and what a row lacks is empty."""
    text = io.StringIO()
    names = dict.fromkeys(name for row in rows for name in row)
    writer = csv.DictWriter(text, fieldnames=list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _lines(path: Path) -> list[dict[str, str]]:
    lines = list(csv.DictReader(io.StringIO(path.read_text("utf-8"), newline="")))
    if not lines or not {"row", "seed"} <= lines[0].keys():
        raise InputError(f"{path} is not a file of runs: it has no columns row and seed")
    return lines


def _encode(value: Any) -> str:
    """A cell that _decode reads back as it was; quoted only if it is text that looks like none."""
    return value if isinstance(value, str) and value and _decode(value) == value else repr(value)


def _decode(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
