"""Names as other languages and programs have them come out letter by letter, wherever they go."""

import csv
import io
import itertools
import json
import os
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from helpers.runs import finish
from matplotlib.figure import Figure
from matplotlib.text import Text

from configs import digits
from experiments import gates
from experiments.grid.study import Row, Study
from experiments.reporting import plot, plot_gates
from experiments.reporting.csv_files import read_results
from experiments.reporting.html import escape
from experiments.reporting.write import data_files, write_report
from experiments.timing import plot_times
from senet_jax.evaluation import tally_pictures
from senet_jax.evaluation.tally import Tally
from senet_jax.inference.gate_statistics import GateSums
from senet_jax.inference.gated_blocks import GatedBlock
from senet_jax.system import figures, files

NAMES = (
    "cost $5_$",
    r"$\frac$",
    "$",
    r"\$x\$ \alpha",
    "_hidden",
    "a^{b}_{c} % # & ~",
    "猫",
    "שלום",
    "قطة",
    "\U0001f63b and 👩‍👩‍👧",
    "two\nlines\tand a tab",
    "x" * 300,
    "",
    " ",
    "[bold]red[/] :cat: [/nothing]",
    "a|b`c<script>",
    "=1+1",
    "all classes",
    "\u202eevil",
    "\x00\x1b[31m",
    "\udce7 of no encoding",
)


@pytest.fixture
def texts(monkeypatch):
    """What figures show: the texts as they are given to matplotlib, when a figure is written.

    Each is inside its figure, and titles, labels of axes and legends do not cover one another.
    """
    seen = []
    original = Figure.savefig

    def savefig(figure, *arguments, **options):
        original(figure, *arguments, **options)
        for text in figure.findobj(Text):
            drawn, is_formula = text._preprocess_math(text.get_text())
            seen.append(drawn)
            assert not is_formula or "10$^9$" in drawn, drawn
        check_places(figure)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return seen


def check_places(figure):
    figure.draw_without_rendering()
    texts = [figure._suptitle, figure._supxlabel]
    for axes in figure.axes:
        texts += [axes.title, axes.xaxis.label, axes.yaxis.label]
        texts += legend.findobj(Text) if (legend := axes.get_legend()) else []
    texts += [text for legend in figure.legends for text in legend.findobj(Text)]
    texts = [text for text in texts if text and text.get_text().strip()]
    boxes = [text.get_window_extent().padded(-1) for text in texts]
    for (text, box), (other, second) in itertools.combinations(zip(texts, boxes, strict=True), 2):
        assert not box.overlaps(second), (text.get_text(), other.get_text())
    width, height = figure.bbox.size
    for text, box in zip(texts, boxes, strict=True):
        inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
        assert inside, text.get_text()


@pytest.mark.parametrize("name", NAMES)
def test_a_text_is_drawn_as_it_is_or_as_codes(name, texts):
    figure = figures.canvas((12, 4))
    axes = figure.subplots()
    axes.plot([0, 1], label=figures.literal(name))
    axes.legend()
    figures.png(figure, name)
    (shown,) = axes.get_legend().get_texts()  # it is there
    expected = "".join(
        c
        if c.isprintable() and ord(c) in figures._glyphs()
        else c.encode("unicode_escape").decode()
        for c in name
    )
    if len(name) > 60:
        expected = f"{expected[:30]}…{expected[-30:]}"
    expected = f" {expected}" if name.startswith("_") else expected or "''"
    assert shown._preprocess_math(shown.get_text()) == (expected, False)
    codes = any(figures.CODE.search(text) for text in texts)
    said = any("are codes of characters" in text.replace("\n", " ") for text in texts)
    assert codes == said


CARS = [f"Chevrolet Silverado {name} Cab 2012" for name in ("1500 Regular", "2500HD Regular")]


def test_names_that_are_cut_alike_are_told_apart_by_their_place():
    """Two classes of Stanford Cars, whose middles alone differ."""
    names = ["BMW X3", *CARS, CARS[0].replace("2012", "2011")]
    first, second, third, fourth = figures.literals(names, 18)
    assert (first, second) == ("BMW X3", "Chevrolet… Cab 2012 (1)")
    assert third == second.replace("(1)", "(2)")
    assert fourth.endswith("2011")
    assert figures.literals(names) == names


def test_a_confusion_is_listed_by_names_that_differ_and_says_of_how_many(texts):
    names = [*CARS, *(f"class {number}" for number in range(20))]
    right = np.repeat(np.arange(22), 3)
    said = np.where(np.arange(66) % 3 == 0, right, (right + 1) % 22)
    tally = Tally.of(right, said, np.ones(66), 22)
    tally_pictures.confusion(tally, names, "a caption")
    text = "\n".join(texts)
    assert "2  Chevrolet… Cab 2012 (0), Chevrolet… Cab 2012 (1)" in text
    assert "Highest errors (15 of 22)" in text
    assert "confusions (15 of 22)" in text


def test_the_figure_of_gates_has_a_line_per_class_whatever_it_is_called(texts, monkeypatch):
    monkeypatch.setitem(matplotlib.rcParams, "text.usetex", True)  # of the user, without effect
    sums = GateSums.zeros(len(NAMES), 4)
    sums.add(np.random.default_rng(0).uniform(size=(60, 4)), np.arange(60) % len(NAMES))
    drawn = gates.panels([GatedBlock("stage2/block1/se", 2, 4)], sums, NAMES, range(len(NAMES)))
    assert len(drawn["stage2/block1"]) == len(NAMES) + 1  # with the mean of all
    plot_gates.gates(drawn, f"Gates of {NAMES[0]}", NAMES[1])
    for name in ("cost $5_$", r"$\frac$", " _hidden", "\\u732b", "all classes (17)", "all classes"):
        assert name in texts


@pytest.mark.parametrize("blocks", [1, 2, 4])
@pytest.mark.parametrize("classes", [["a"], ["tabby cat"] * 9])
def test_a_figure_of_few_gates_is_no_narrower_than_its_words(blocks, classes, texts):
    panels = {f"stage{n}/block1": dict.fromkeys(classes, np.ones(3)) for n in range(blocks)}
    title = "Gates of a run of a study with a long name, by class"
    drawn = plot_gates.gates(panels, title, "conditions of these gates, such as a commit; " * 9)
    assert drawn.startswith(b"\x89PNG")


def sweep(labels):
    rows = tuple(Row(label, {"optim.learning_rate": 0.1 + i}) for i, label in enumerate(labels))
    return Study(
        name="sweep",
        title=f"Sweep of {labels[0]}" + ", a title as long as the figure is wide" * 2,
        column=labels[1],
        rows=rows,
        base={"*": "digits:seresnet20"},
        reference=labels[0],
        network="seresnet20_cifar",
        paper_datasets={},
        is_sweep=True,
    )


@pytest.fixture
def study_and_runs(tmp_path):
    """A sweep whose rows have such names, finished and failed, and its results."""
    which = sweep([name for name in NAMES if name.strip() and "\udce7" not in name])
    results, unfinished = {}, {}
    for row in which.rows:
        config = digits.get_config("seresnet20")
        config.update_from_flattened_dict(row.overrides)
        finish(tmp_path / "run", config, curve=(3.0, 2.0), macs=1, git_commit=row.label)
        run = json.loads((tmp_path / "run" / "result.json").read_text("utf-8"))
        point = {"step": 1, "epoch": 1, "eval/top1_error": 3.0, "eval/loss": 1.0}
        flat = {"train.epochs": 1.0, "model.name": row.label, "data.name": config.data.name}
        results[row.label] = [run | {"config": flat, "curve": [point]}]
        unfinished[row.label] = {7: f"it {row.label}"}
    return which, results, unfinished


def test_tables_and_figures_of_a_study_take_any_label(study_and_runs, texts, capsys, tmp_path):
    which, results, unfinished = study_and_runs
    results[which.rows[0].label][0] |= {"step": 1, "planned_steps": 2}  # it stopped early
    results[which.rows[0].label][0]["config"]["train.patience"] = 1
    assert write_report(which, results, tmp_path, unfinished) == []
    assert "cost $5_$" in texts
    assert "[bold]red[/] :cat: [/nothing]" in capsys.readouterr().out
    text = (tmp_path / "table.md").read_text("utf-8")
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(lines) == len(which.rows) + 1
    cells = [line.replace(r"\|", "").count("|") for line in lines]
    assert set(cells) == {cells[0]}
    assert r"a\|b\`c\<script>" in text
    assert r"\$\\frac\$" in text


def test_results_are_read_back_whatever_they_are_called(study_and_runs, tmp_path):
    which, results, unfinished = study_and_runs
    for name, content in data_files(which, results, unfinished).items():
        files.write(tmp_path / name, content)
    again, stopped = read_results(tmp_path)
    assert list(again) == list(results)
    for label in results:
        assert again[label][0]["git_commit"] == label
        assert stopped[label] == unfinished[label]


def test_times_are_drawn_with_any_name(texts):
    rows = [
        {"row": name, "what": "training", "network": name, "times_plain": "1.1", "low": "1",
         "high": "1.2", "batch": "1", "machine": name, "commit": name}
        for name in NAMES
    ]  # fmt: skip
    plot_times.costs(rows, {"training": 1.1})
    fields = {"contestant": "ours", "what": "training", "machine": NAMES[0], "commit": NAMES[1]}
    grown = [
        fields | {"batch": str(2**n), "size": name, "network": name, "gmacs": "1", "median_s": "2"}
        for n in range(3)
        for name in NAMES[:3]
    ]
    plot_times.growth(grown)
    assert "cost $5_$" in texts


def test_a_figure_that_fails_takes_nothing_with_it(study_and_runs, monkeypatch, tmp_path):
    which, results, unfinished = study_and_runs
    (tmp_path / "table.png").write_bytes(b"of earlier runs")
    monkeypatch.setattr(plot, "draw", lambda *_: 1 / 0)
    problems = write_report(which, results, tmp_path, unfinished)
    assert problems == [
        f"{tmp_path}/table.png cannot be drawn: ZeroDivisionError: division by zero"
    ]
    written = {path.name for path in tmp_path.iterdir()}
    assert {"table.csv", "runs.csv", "curves.csv", "table.md", "curves.png"} <= written
    assert "table.png" not in written


def test_html_and_csv_keep_names_as_they_are():
    assert escape("a<b") == "a&lt;b"
    rows = list(csv.DictReader(io.StringIO(gates.to_csv([{"x": n} for n in NAMES[:-1]]).decode(),
                                           newline="")))  # fmt: skip
    assert [row["x"] for row in rows] == list(NAMES[:-1])


@pytest.mark.slow(reason="starts a process")
@pytest.mark.parametrize(
    "encoding",
    [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}],
)
def test_a_terminal_that_is_not_utf_8_ends_no_command(encoding, tmp_path):
    for index in range(2):
        config = digits.get_config("seresnet20")
        config.seed = index
        finish(tmp_path / "16" / f"seed{index}", config, git_commit="猫\udce7", device_kind="é")
    done = subprocess.run(
        [sys.executable, "-m", "experiments.report", "reduction", f"--workdir={tmp_path}"],
        env={**os.environ, **encoding}, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"\\u732b" in done.stdout
    assert b"\\udce7" in done.stdout
    assert "猫\\udce7" in (tmp_path / "table.md").read_text("utf-8")
