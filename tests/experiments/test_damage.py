"""A damaged file of one run is named, all other runs are shown, and the status is not 0."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.closed import closed
from helpers.runs import finish

from configs import digits
from experiments import report, status
from experiments.grid.plan import plan
from experiments.reporting import page, plot, publish
from experiments.reporting.collect import collect
from experiments.reporting.run_files import CONFIG_KINDS, KINDS, NEEDED
from experiments.studies import load_study
from senet_jax.config import flatten
from senet_jax.errors import InputError
from senet_jax.runs import lock
from senet_jax.runs.workdir import ADDED

pytestmark = pytest.mark.usefixtures("forest_drawn_once")

STUDY = load_study("squeeze")
ALL = [3] * len(STUDY.rows)  # seeds of each row
FILES = ("result.json", "config.json", "metrics.jsonl", "process.json", "failed.json")


def of_text(content):
    return lambda path: path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] + b"\n")


def with_values(change):
    """Change every value of a table, or of each line of one."""

    def damage(path):
        lines = path.read_text("utf-8").splitlines() if path.suffix == ".jsonl" else None
        tables = [json.loads(line) for line in lines or [path.read_text("utf-8")]]
        path.write_text("".join(json.dumps(every(table, change)) + "\n" for table in tables))

    return damage


def every(table, change):
    return {k: every(v, change) if isinstance(v, dict) else change(v) for k, v in table.items()}


def as_folder(path):
    path.unlink()
    path.mkdir()


DAMAGES = {
    "empty": of_text(b""),
    "cut": cut,
    "binary": of_text(np.random.default_rng(0).bytes(500) + b"\xff\n"),
    "UTF-16": lambda path: path.write_text(path.read_text("utf-8"), "utf-16"),
    "null": of_text(b"null\n"),
    "a list": of_text(b"[1, 2]\n"),
    "a text": of_text(b'"text"\n'),
    "a number": of_text(b"3\n"),
    "no keys": of_text(b"{}\n"),
    "nested": of_text(b"[" * 100_000 + b"\n"),
    "texts": with_values(lambda value: "x"),
    "nulls": with_values(lambda value: None),
    "lists": with_values(lambda value: [value]),
    "not finite": with_values(lambda value: float("nan")),
    "a folder": as_folder,
}


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """Finished runs of three seeds per row."""
    directory = tmp_path_factory.mktemp("runs")
    bases = [digits.get_config("seresnet20") for _ in STUDY.rows]
    for run in plan(STUDY, bases, (0, 1, 2), directory):
        finish(run.workdir, run.config, curve=(9.0, 8.0), step=20)
        with lock.held(run.workdir, total_steps=20, steps_per_epoch=2):
            pass
    return directory


@pytest.fixture
def runs(grid, tmp_path, monkeypatch):
    """A copy of the runs, and the first run of the last row; no figures are drawn."""
    monkeypatch.setattr(plot, "draw", lambda *_: b"")
    monkeypatch.setattr(plot, "curves", lambda *_: b"")
    monkeypatch.setattr(page, "load_studies", lambda: [STUDY])
    monkeypatch.setattr(publish, "RESULTS", tmp_path / "published")
    directory = shutil.copytree(grid, tmp_path / "squeeze" / "digits")
    return directory, directory / STUDY.rows[-1].label / "seed0"


def report_of(directory):
    """What the report says at its end, and the number of runs in each row of its table."""
    with pytest.raises(InputError) as caught:
        report.main(["report", STUDY.name, f"--workdir={directory}"])
    text = (directory / "table.md").read_text("utf-8")
    return str(caught.value), [int(n) for n in re.findall(r"\((\d)\) \|", text)]


@pytest.mark.parametrize("name", FILES[:3])
def test_all_other_runs_are_collected(runs, name):
    directory, run = runs
    path, before = run / name, (run / name).read_bytes()
    for damage in DAMAGES.values():
        damage(path)
        collected = collect(STUDY, directory)
        assert str(run) in collected.damaged[0]
        counts = [len(of_row) for of_row in collected.results.values()]
        assert counts == [*ALL[:-1], 3 if name == "metrics.jsonl" else 2]
        assert (collected.unfinished == {}) == (name == "metrics.jsonl")
        restore(path, before)
    assert collect(STUDY, directory).damaged == []


@pytest.mark.parametrize("lost", [(10,), (20,), (10, 20), (30,), (40,), (30, 40)])
def test_a_curve_that_lacks_evaluations_is_named_and_not_drawn_in_other_places(runs, lost):
    """Of a file that was cut short where a line ends, or lost before the run was continued."""
    directory, run = runs
    result = json.loads((run / "result.json").read_text())
    (run / "result.json").write_text(json.dumps(result | {"step": 40, "best_step": 20}))
    lines = [{"step": step, "eval/loss": 1.0, "eval/top1_error": 9.0} for step in (10, 20, 30, 40)]

    def damaged(lines):
        (run / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        return collect(STUDY, directory).damaged

    assert damaged(lines) == []
    (sentence,) = damaged([line for line in lines if line["step"] not in lost])
    assert "lacks evaluations of its run, which ended after step 40" in sentence


def restore(path, content):
    if path.is_dir():
        path.rmdir()
    path.write_bytes(content)


@pytest.mark.parametrize("name", FILES[:3])
def test_the_report_and_the_page_show_the_others(runs, name):
    directory, run = runs
    DAMAGES["cut"](run / name)
    said, counts = report_of(directory)
    assert str(run / name) in said
    assert counts == [*ALL[:-1], 3 if name == "metrics.jsonl" else 2]
    text = (directory / "table.md").read_text("utf-8")
    reason = f"Row {run.parent.name}: seed 0 failed: "
    assert (reason in text) == (name != "metrics.jsonl")
    shown = page.render(directory.parents[1], problems := [])
    assert any(str(run) in problem for problem in problems)
    assert (reason in shown) == (name != "metrics.jsonl")


def closed_places(directory, run):
    """Folders of others at each depth, and files that only the owner may read."""
    return {
        "run": run,
        "row": run.parent,
        "result": run / "result.json",
        "configuration": run / "config.json",
    }


@pytest.mark.parametrize("place", closed_places("", Path()))
def test_what_may_not_be_opened_is_named_and_the_others_are_shown(runs, place):
    directory, run = runs
    path = closed_places(directory, run)[place]
    with closed(path):
        said, counts = report_of(directory)
        shown = page.render(directory.parents[1], problems := [])
        standings = status.find(directory)
    assert str(path) in said
    assert counts == (ALL[:-1] if place == "row" else [*ALL[:-1], 2])
    assert any(str(path) in problem for problem in problems)
    assert STUDY.title in shown
    (damaged,) = [standing for standing in standings if standing.state == "damaged"]
    assert str(path) in damaged.reason
    assert len(standings) == sum(ALL) - (2 if place == "row" else 0)


def test_runs_of_a_dataset_that_may_not_be_opened_are_named(runs):
    directory, _ = runs
    with closed(directory):
        page.render(directory.parents[1], problems := [])
        with pytest.raises(InputError, match=re.escape(f"{directory} cannot be read")):
            report.main(["report", STUDY.name, f"--workdir={directory}"])
        with pytest.raises(InputError, match=re.escape(f"{directory} cannot be read")):
            status.main(["status", "--all", f"--root={directory.parent}"])
    assert any(f"{directory} cannot be read" in problem for problem in problems)


# What nothing that the status shows of a finished run depends on.
HARMLESS = {
    "config.json": {"no keys", "nulls"},
    "metrics.jsonl": {"empty", "no keys", "nulls", "nested"},
    "failed.json": {"no keys", "texts", "nulls", "lists", "not finite"},
}


@pytest.mark.parametrize("name", FILES)
def test_the_status_shows_the_others(runs, name, capsys):
    directory, run = runs
    (run / "failed.json").write_text('{"reason": "it failed"}\n')
    path, before = run / name, (run / name).read_bytes()
    for kind, damage in DAMAGES.items():
        damage(path)
        standings = status.find(directory)
        assert len(standings) == sum(ALL)
        damaged = [standing for standing in standings if standing.state == "damaged"]
        assert [standing.directory for standing in damaged] == (
            [] if kind in HARMLESS.get(name, ()) else [run]
        ), kind
        assert all(str(run) in standing.reason for standing in damaged)
        restore(path, before)
    DAMAGES["binary"](path)
    with pytest.raises(InputError, match=re.escape(str(run))):
        status.main(["status", STUDY.name, f"--workdir={directory}"])
    assert capsys.readouterr().out.count("done") >= sum(ALL) - 1


def keys(path):
    return [*flatten(json.loads(path.read_text("utf-8")))]


def test_every_key_that_is_lost_or_of_another_kind_is_noticed(runs):
    """In config.json all keys; in result.json those that a table needs."""
    directory, run = runs
    config, result = run / "config.json", run / "result.json"
    assert {*CONFIG_KINDS} - {"model.width"} <= {*keys(config)}
    varied = {*ADDED, *(key for row in STUDY.rows for key in row.varied)}
    for path, names in ((config, {*keys(config)} - varied), (result, NEEDED)):
        before = path.read_text("utf-8")
        for name in names:
            for value in ((), {"of another": "kind"}):
                if path == result and value and name not in KINDS:
                    continue  # it is only quoted
                path.write_text(json.dumps(changed(json.loads(before), name, value)))
                collected = collect(STUDY, directory)
                assert len(collected.damaged) == 1, (name, value)
                assert str(run) in collected.damaged[0]
                assert [len(of_row) for of_row in collected.results.values()] == [*ALL[:-1], 2]
        path.write_text(before)
    assert collect(STUDY, directory).damaged == []


def changed(table, name, value):
    """A nested table with another value under a dotted key, or without the key for ()."""
    first, _, rest = name.partition(".")
    if rest and first in table:
        return table | {first: changed(table[first], rest, value)}
    return {k: v for k, v in (table | {name: value}).items() if k != name or value != ()}


def test_what_is_published_is_all_but_the_damaged_run(runs, checkout, monkeypatch):
    directory, run = runs
    (run / "result.json").write_text("{")
    monkeypatch.setattr(plot, "curves", lambda *_: 1 / 0)
    with pytest.raises(InputError) as caught:
        report.main(["report", STUDY.name, f"--workdir={directory}", "--publish"])
    said = str(caught.value).splitlines()
    assert [str(run / "result.json") in said[0], "curves.png cannot be drawn" in said[1]] == [
        True
    ] * 2
    published = checkout / "experiments" / "results" / "squeeze" / "digits"
    assert {path.name for path in published.iterdir()} == {
        "runs.csv",
        "curves.csv",
        "table.md",
        "table.png",
    }
    text = (published / "table.md").read_text("utf-8")
    assert "(table.png)" in text
    assert "(curves.png)" not in text
