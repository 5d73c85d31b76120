"""One page with all studies: their results, their conditions, and what is missing.

The page needs no other file: figures are part of it. Runs of `--smoke` are left out, as a few steps
of narrow networks on 50 images say nothing about the paper's networks.
"""

import dataclasses
import shlex
import statistics
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from html import escape
from pathlib import Path

from experiments.reporting import compare, forest, html, numbers, publish, table, verdicts
from experiments.reporting.about_runs import missing
from experiments.reporting.findings import Finding, find
from experiments.reporting.write import figure_files
from experiments.studies import load_studies
from experiments.timing import plot_times
from experiments.timing.cost_table import HEADINGS, PAPER, cells, notes
from experiments.timing.records import read
from senet_jax.errors import InputError, counted
from senet_jax.system import figures, files

PAGE = Path("report", "index.html")
STYLE = Path(__file__).with_name("page.css")


def write(root: Path) -> tuple[Path, list[str]]:
    """Write the page; returns its path, and a sentence on each thing that could not be shown.

    Args:
      root: folder of the runs, as root/STUDY/DATASET.

    Raises: InputError if there is no such directory, or the page cannot be written.
    """
    if not root.is_dir() and root != Path("runs"):  # the default; published runs need no directory
        raise InputError(f"--root={root} is not a directory")
    with files.refused(PAGE):
        PAGE.parent.mkdir(exist_ok=True)
    problems: list[str] = []
    text = render(root, problems)
    files.write(PAGE, files.encoded(text))
    return PAGE, problems


def render(root: Path, problems: list[str] | None = None) -> str:
    """The page as HTML; a sentence on each thing that it cannot show is added to `problems`."""
    problems = [] if problems is None else problems
    studies = [(study, find(study, root)) for study in load_studies()]
    sections = []
    overview = []
    for study, findings in studies:
        for finding in findings:
            finding, section = _section(finding)
            sections.append(section)
            overview.append(_overview_row(finding))
            problems += [*finding.problems, *filter(None, [finding.error])]
        if not findings:
            overview.append(
                [
                    escape(study.name),
                    escape(f"{study.source}: {study.subject}"),
                    "",
                    f"not run yet: <code>python -m experiments.run {study.name}</code>",
                    *[""] * 4,
                ]
            )
    head = ("study", "table", "dataset", "result", "runs", "newest", "commit", "device")
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>senet_jax: all studies</title>
<style>
{STYLE.read_text("utf-8")}</style>
<h1>senet_jax: all studies</h1>
<p>Tables of Hu et al., <i>Squeeze-and-Excitation Networks</i>, and our runs of them; {now}.</p>
{verdicts.section()}<div class="figures">
{_figure("Gains of SE in all published pairs of networks", forest.draw, problems)}</div>
<h2 id="studies">The studies</h2>
{html.table(head, overview, "overview")}
{"".join(sections)}{_costs(problems)}</html>
"""


def _costs(problems: list[str]) -> str:
    """The published section on the cost of SE; "" if none is published."""
    path = publish.RESULTS / publish.TIMING / "cost.csv"
    if not path.exists():
        return ""
    rows = read(str(path))
    alt = "Time against the plain network"
    lines = [map(escape, line) for line in cells(rows)]
    return "".join(
        [
            '<h2 id="cost">What SE costs</h2>\n',
            html.table(HEADINGS, lines, "numbers"),
            html.remarks(notes(rows), "remarks"),
            '<div class="figures">\n',
            _figure(alt, lambda: plot_times.costs(rows, PAPER), problems),
            "</div>\n",
        ]
    )


def _section(finding: Finding) -> tuple[Finding, str]:
    """The section of a study on a dataset; one that cannot be shown does not stop the others."""
    body = ""
    problems = [*finding.problems]
    if finding.results:
        try:
            body = _body(finding, problems)
            finding = dataclasses.replace(finding, problems=problems)
        except Exception as error:
            traceback.print_exc()
            reason = f"{type(error).__name__}: {error}"
            finding = dataclasses.replace(finding, results={}, error=reason)
    if finding.error:
        body = f'<p class="error">{escape(finding.error)}</p>\n'
    elif not body:
        body = html.remarks(missing(finding.study, {}, finding.unfinished), "missing")
    title = f"{finding.study.title}; ours on {finding.on}"
    return finding, f'<h2 id="{escape(finding.anchor)}">{escape(title)}</h2>\n{body}'


def _body(finding: Finding, problems: list[str]) -> str:
    study, results = finding.study, finding.results
    rows = numbers.number_rows(study, results)
    columns = table.text_columns(study, rows)
    alternatives = {"table.png": "Errors", "curves.png": "Error against epoch"}
    drawn = [
        _figure(f"{alternatives[name]} of {study.name}", draw, problems)
        for name, draw in figure_files(study, results).items()
    ]
    absent = missing(study, results, finding.unfinished)
    remarks = table.remarks(study, results, finding.unfinished)
    cells = zip(*columns.values(), strict=True)
    labels = [row.label for row in study.rows]
    marked = labels.index(study.reference) if study.reference else None
    return "".join(
        [
            html.table(list(columns), [map(escape, row) for row in cells], "numbers", marked),
            html.remarks([line for line in remarks if line not in absent], "remarks"),
            html.remarks(absent, "remarks missing"),
            '<div class="figures">\n',
            *drawn,
            "</div>\n<h3>What was run</h3>\n",
            _facts(finding),
        ]
    )


def _figure(alt: str, draw: Callable[[], bytes], problems: list[str]) -> str:
    """A figure, or where it cannot be drawn a sentence, which is added to `problems`."""
    png, failure = figures.attempt(alt, draw)
    if failure:
        problems.append(failure)
        return html.remarks([failure], "missing")
    return html.figure(alt, png)


def _facts(finding: Finding) -> str:
    """The conditions of the runs: where, when and with what they were made."""
    runs = [run for of_row in finding.results.values() for run in of_row]
    seconds = [run["wall_time_seconds"] for run in runs]
    packages = ("python", "jax", "flax", "optax")
    recorded = {package: _joined(finding, f"{package}_version") for package in packages}
    versions = [f"{package} {version}" for package, version in recorded.items() if version]
    facts = {
        "runs": f"{_progress(finding)}, from {finding.place}",
        "device": _devices(finding),
        "host": "; ".join(
            (*finding.values("processor"), counted(_joined(finding, "host_cpus"), "processor"))
        ),
        "versions": "; ".join(versions),
        "commit": _joined(finding, "git_commit"),
        "wall time": f"{sum(seconds) / 3600:.2f} h together, "
        f"{statistics.median(seconds):,.1f} s per run (median)",
        "finished": " to ".join(dict.fromkeys(_dates(finding))) or "not recorded",
    }
    lines = "".join(f"<tr><th>{name}<td>{escape(text)}\n" for name, text in facts.items())
    return f'<div class="scroll"><table class="facts">\n{lines}</table></div>\n'


def _overview_row(finding: Finding) -> list[str]:
    study = finding.study
    if finding.error:
        result = f'<span class="error">{escape(finding.error)}</span>'
    elif not finding.results:
        command = shlex.join(["python", "-m", "experiments.run", study.name, *finding.flags])
        result = f"no result yet: <code>{escape(command)}</code>"
    else:
        gains = compare.gains(study, finding.results)
        result = escape(compare.in_short(study, gains))
    return [
        f'<a href="#{escape(finding.anchor)}">{escape(study.name)}</a>',
        escape(f"{study.source}: {study.subject}"),
        escape(finding.on),
        result,
        escape(_progress(finding)),
        "".join(f'<span class="nowrap">{day}</span>' for day in _dates(finding)[-1:]),
        escape(_joined(finding, "git_commit")),
        escape(_devices(finding)),
    ]


def _progress(finding: Finding) -> str:
    """The number of rows and of seeds or folds, and how many of these runs are done."""
    finished = [(label, run["seed"]) for label, runs in finding.results.items() for run in runs]
    seeds = {seed for _, seed in finished}
    seeds |= {seed for row in finding.unfinished.values() for seed in row}
    rows = len(finding.study.rows)
    total = rows * len(seeds)
    done = "all done" if len(finished) == total else f"{len(finished)} of {total} done"
    kind = "fold" if finding.is_on_folds else "seed"
    return f"{counted(rows, 'row')} x {counted(len(seeds), kind)}, {done}" if total else ""


def _devices(finding: Finding) -> str:
    if not finding.results:
        return ""
    return f"{_joined(finding, 'device_kind')} x {_joined(finding, 'devices')}"


def _dates(finding: Finding) -> list[str]:
    """The first and last day on which a run finished; empty if not recorded."""
    days = [moment[:10] for moment in finding.values("finished")]
    return [days[0], days[-1]] if days else []


def _joined(finding: Finding, key: str) -> str:
    return ", ".join(finding.values(key))
