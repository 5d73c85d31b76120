"""The page of all studies: each is on it, nothing outside it is needed, and nothing breaks it."""

import re
import shutil
from html.parser import HTMLParser

import pytest
from helpers.runs import finish

from experiments import report
from experiments.grid.folder_names import folder_of
from experiments.grid.plan import base_config, plan
from experiments.reporting import blocks, page, publish
from experiments.studies import load_study, study_names
from senet_jax.errors import InputError
from senet_jax.runs import workdir
from senet_jax.system import files

pytestmark = pytest.mark.usefixtures("forest_drawn_once")

REDUCTION, BIAS = load_study("reduction"), load_study("bias")


class Page(HTMLParser):
    """The text of a page, the attributes that point somewhere, and its anchors."""

    def __init__(self, html):
        super().__init__()
        self.words, self.links, self.anchors = [], [], []
        self.feed(html)
        self.text = " ".join(" ".join(self.words).split())

    def handle_data(self, data):
        self.words.append(data)

    def handle_starttag(self, tag, attrs):
        assert tag not in ("script", "link", "iframe", "object", "embed")
        self.links += [value for name, value in attrs if name in ("href", "src", "srcset", "data")]
        self.anchors += [value for name, value in attrs if name == "id"]


@pytest.fixture
def root(tmp_path):
    """Runs of Table 10 with curves, one of which failed with a reason that is no HTML."""
    bases = [base_config(REDUCTION, row, "digits", smoke=False) for row in REDUCTION.rows]
    for run in plan(REDUCTION, bases, (0, 1), tmp_path / "reduction" / "digits"):
        if (run.row.label, run.seed) == ("4", 1):
            workdir.fail(run.workdir, "RuntimeError: <b>no</b> & that was it")
        else:
            error = 2.0 + run.seed / 7 + len(run.row.label) / 9
            result = {"finished": f"2026-11-2{run.seed}T10:00:00+00:00", "processor": "<EPYC>"}
            finish(run.workdir, run.config, (9.0, error), **{"eval/top1_error": error}, **result)
    return tmp_path


@pytest.fixture(autouse=True)
def _nothing_published(tmp_path, monkeypatch):
    monkeypatch.setattr(publish, "RESULTS", tmp_path / "results")


def test_the_page_needs_nothing_but_itself(root):
    html = page.render(root)
    shown = Page(html)
    anchors = [link.removeprefix("#") for link in shown.links if link.startswith("#")]
    assert anchors == ["reduction-digits"]
    assert shown.anchors == ["claims", "studies", "reduction-digits"]
    images = [link for link in shown.links if not link.startswith("#")]
    assert len(images) == 3  # all published pairs; errors and curves
    assert all(link.startswith("data:image/png;base64,") for link in images)
    without = re.sub(r"data:image/png;base64,[\w+/=]+", "", html)
    assert not re.search(r"https?:|//|url\(|@import", without)
    assert "@media print" in html
    assert "color-scheme: light dark" in html


def test_every_study_is_there_and_one_without_results_with_its_command(root):
    text = Page(page.render(root)).text
    for name in study_names():
        assert load_study(name).subject in text
        asked = f"not run yet: python -m experiments.run {name}" in text
        assert asked == (name != "reduction")


def test_the_section_says_what_was_run_and_what_is_missing(root):
    text = Page(page.render(root)).text
    for sentence in (
        "6 rows x 2 seeds, 11 of 12 done",
        "Row 4: seed 1 failed: RuntimeError: <b>no</b> & that was it.",
        "2026-11-20 to 2026-11-21",
        "<EPYC>; 2 processors",
        "28,071,976",
        "not corrected for the number of rows",
        "10.0 s per run (median)",
    ):
        assert sentence in text


def test_a_broken_study_shows_its_sentence_and_the_others_stay(root):
    other = root / "cifar" / "cifar10" / "ResNet-110" / "seed0"
    other.mkdir(parents=True)
    shutil.copy(root / "reduction" / "digits" / "16" / "seed0" / "config.json", other)
    (other / "result.json").write_text("{ broken")
    shown = Page(page.render(root))
    assert f"{other}/result.json cannot be read" in shown.text
    assert shown.anchors[2:] == ["reduction-digits", "cifar-cifar10"]
    files.write_json(other / "result.json", {"seed": 0})
    assert "result.json lacks model, dataset" in Page(page.render(root)).text


def test_an_error_that_nobody_foresaw_is_shown_in_its_place(root, monkeypatch, capsys):
    monkeypatch.setattr(page.table, "text_columns", lambda *_: 1 / 0)
    text = Page(page.render(root)).text
    assert "ZeroDivisionError: division by zero" in text
    assert "not run yet: python -m experiments.run cifar" in text
    assert "Traceback" in capsys.readouterr().err


def test_smoke_runs_are_left_out_and_started_ones_shown(root):
    (root / "reduction").rename(root / "reduction-smoke")
    started = root / "reduction" / "svhn" / "8" / "seed3"
    started.mkdir(parents=True)
    files.write_json(started / "config.json", {})
    shown = Page(page.render(root))
    assert shown.anchors[2:] == ["reduction-svhn"]
    assert "no result yet: python -m experiments.run reduction --dataset=svhn" in shown.text
    assert "Row 8: seed 3 has no result." in shown.text


def test_started_runs_show_the_command_that_continues_them(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "load_studies", lambda: [BIAS])
    for place, name, folds, flags in (
        ("mnist", "mnist", None, "--dataset=mnist"),
        ("mnist-3folds", "mnist", 3, "--dataset=mnist --folds=3"),
        (folder_of("csv:/my lists/a.csv"), "csv:/my lists/a.csv", None, None),
        ("elsewhere", "mnist", 4, f"--dataset=mnist --folds=4 --workdir={tmp_path}/bias/elsewhere"),
    ):
        bases = [base_config(BIAS, row, "mnist", smoke=False) for row in BIAS.rows]
        for config in bases:
            config.data.name = name
        for run in plan(BIAS, bases, (0, 1), tmp_path / "bias" / place, folds):
            workdir.start(run.workdir, run.config)
        (finding,) = [each for each in page.find(BIAS, tmp_path) if each.dataset == place]
        text = Page(page.render(tmp_path)).text
        flags = flags or "'--dataset=csv:/my lists/a.csv'"
        assert f"no result yet: python -m experiments.run bias {flags} " in text
        on = f"{name}, {folds} folds" if folds else name
        assert f"ours on {on} " in text
        assert ("2 rows x 2 folds, 0 of 4 done" in text) == any(
            each.is_on_folds for each in page.find(BIAS, tmp_path)
        )
        assert finding.on == on


def test_a_study_on_folds_counts_folds(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "load_studies", lambda: [BIAS])
    bases = [base_config(BIAS, row, "digits", smoke=False) for row in BIAS.rows]
    for run in plan(BIAS, bases, (0, 1), tmp_path / "bias" / "digits-2folds", 2):
        finish(run.workdir, run.config, **{"eval/top1_error": 5.0 + run.seed})
    text = Page(page.render(tmp_path)).text
    assert "ours on digits, 2 folds" in text
    assert "2 rows x 2 folds, all done" in text
    assert "seeds, all done" not in text


@pytest.mark.slow(reason="counts the networks of all published studies")
def test_published_results_stand_in_for_runs_that_are_not_there(root, monkeypatch, tmp_path):
    monkeypatch.setattr(publish, "RESULTS", blocks.ROOT / "experiments" / "results")
    assert "from experiments/results/reduction/digits" not in Page(page.render(root)).text
    empty = tmp_path / "empty"
    workdir.fail(empty / "reduction" / "digits" / "8" / "seed0", "it failed")
    shown = Page(page.render(empty))
    assert shown.anchors.count("reduction-digits") == 1
    assert "6 rows x 3 seeds, all done, from experiments/results/reduction/digits" in shown.text


def test_the_command_writes_the_page_and_refuses_what_does_not_go_with_it(root, monkeypatch):
    monkeypatch.chdir(root)
    report.main(["report", "--all", f"--root={root}"])
    assert (root / "report" / "index.html").read_text("utf-8").startswith("<!doctype html>")
    for arguments in (["--all", "reduction"], ["--all", "--publish"], ["--all", "--index"]):
        with pytest.raises(InputError, match="stand alone"):
            report.main(["report", *arguments])
    with pytest.raises(InputError, match="--root=nowhere is not a directory"):
        report.main(["report", "--all", "--root=nowhere"])


def test_what_se_costs_is_on_the_page_where_it_is_published(root):
    assert "What SE costs" not in page.render(root)
    publish.RESULTS.mkdir()
    published = blocks.ROOT / "experiments" / "results" / publish.TIMING
    (publish.RESULTS / publish.TIMING).symlink_to(published)
    shown = Page(page.render(root))
    assert "What SE costs" in shown.text
    assert "Paper, SE-ResNet-50: 1.100" in shown.text
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in shown.links)
