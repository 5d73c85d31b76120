"""Time and memory grow no faster than what there is more of."""

import json

import pytest

from experiments.reporting import collect, many_runs
from experiments.studies import load_study
from experiments.timing import growth
from senet_jax.errors import InputError
from senet_jax.system import files


@pytest.mark.parametrize("count", [12, 60])
def test_runs_are_compared_row_by_row_and_not_pair_by_pair(count, tmp_path, monkeypatch):
    many_runs.reports(count, tmp_path)
    calls, compare = [], collect.differences

    def counted(*arguments, **keywords):
        calls.append(arguments)
        return compare(*arguments, **keywords)

    monkeypatch.setattr(collect, "differences", counted)
    collected = collect.collect(load_study("reduction"), tmp_path)
    assert sum(map(len, collected.results.values())) == count
    assert len(calls) <= 3  # the plain row with itself no time, with the others, and these


@pytest.mark.parametrize("seed", [0, 2])
@pytest.mark.parametrize(
    ("label", "key", "value"),
    [("8", "optim.momentum", 0.5), ("original", "train.epochs", 3.0), ("4", "model.se.ratio", 2)],
)
def test_one_different_run_of_many_is_found(tmp_path, seed, label, key, value):
    many_runs.reports(18, tmp_path)
    place = tmp_path / label / f"seed{seed}" / "config.json"
    config = json.loads(place.read_text("utf-8"))
    *sections, last = key.split(".")
    section = config
    for name in sections:
        section = section[name]
    section[last] = value
    files.write_json(place, config)
    with pytest.raises(InputError, match=f"different configurations: {key}"):
        collect.collect(load_study("reduction"), tmp_path)


def test_kinds_of_growth_are_tasks_or_networks(tmp_path):
    for unit, contestants in growth.KINDS.values():
        assert unit
        assert list(contestants) == sorted(contestants)
    with pytest.raises(InputError, match="--only has no 'repot'; did you mean 'report'"):
        growth.main(["", "--only=repot"])


def test_the_table_says_how_much_slower_more_is():
    row = {"kind": "order", "unit": "examples", "low_s": "1", "high_s": "2", "peak_gb": "0.5"}
    row |= {"machine": "m", "commit": "c"}
    few = {"low_s": "", "high_s": ""}  # turns have no interval
    rows = [row | few | {"count": "10", "median_s": "1"}, row | {"count": "100", "median_s": "9"}]
    text = growth.markdown(rows)
    assert "| order of an epoch | 10 examples | 1 | - | 0.50 |" in text
    assert "| order of an epoch | 100 examples | 9 (1 to 2) | x10: x9.00 | 0.50 |" in text
    assert text.endswith("\n\nOrder of an epoch: m, commit c.\n")


@pytest.mark.parametrize("task", ["order", "evaluation"])
def test_tasks_do_what_they_are_asked_for(task):
    growth.TASKS[task](2000)(2)


@pytest.mark.slow(reason="reports a thousand runs, several times")
def test_growth_is_measured_and_a_report_is_linear(tmp_path):
    path = tmp_path / "growth.csv"
    growth.main(["", "--only=report", "--steps=2", f"--csv={path}"])
    ten, hundred, thousand = (float(row["median_s"]) for row in growth.read(str(path)))
    assert thousand - hundred < 20 * (hundred - ten) + 5
