"""The table says what the result files say, and names what a reader must know."""

import csv
import json
import shutil
import statistics
from pathlib import Path

import pytest
from helpers.runs import finish

from configs import digits
from experiments.grid.plan import base_config, plan
from experiments.launch import launch, serial
from experiments.report import main
from experiments.reporting import numbers, plot, table
from experiments.reporting.blocks import pages_with
from experiments.reporting.collect import collect
from experiments.reporting.write import write_report
from experiments.studies import load_study, study_names
from senet_jax.errors import Diverged, InputError
from senet_jax.layers.slot import SEConfig
from senet_jax.runs import workdir

ROOT = Path(__file__).parents[2]
REDUCTION = load_study("reduction")


def fake(directory, label, overrides, seed, error):
    """A finished run with a chosen error."""
    config = digits.get_config()
    config.update_from_flattened_dict({"seed": seed, **overrides})
    result = {"params": 274202, "eval/top1_error": error}
    finish(directory / label / f"seed{seed}", config, **result)


@pytest.fixture
def directory(tmp_path):
    for row in REDUCTION.rows:
        for seed, error in ((0, 1.0), (1, 2.0), (2, 6.0)):
            fake(tmp_path, row.label, row.overrides, seed, error)
    return tmp_path


def test_rows_and_figures_are_those_of_table_10(directory):
    columns = table.text_columns(
        REDUCTION, numbers.number_rows(REDUCTION, collect(REDUCTION, directory).results)
    )
    assert columns["r"] == ["original", "2", "4", "8", "16", "32"]
    # Counted by hand from ResNet-50's shapes, without biases.
    assert columns["parameters"][1:] == [
        "45,676,584",
        "35,616,808",
        "30,586,920",
        "28,071,976",
        "26,814,504",
    ]
    assert columns["parameters"][0] == "25,557,032"
    assert (columns["GMACs"][0], columns["GMACs"][4]) == ("3.858", "3.860")
    # tests/golden/table10_reduction.csv
    assert columns["printed"] == ["25.6M", "45.7M", "35.7M*", "30.7M*", "28.1M", "26.9M*"]
    assert columns["paper 1/5"][4] == "22.28 / 6.03"
    assert columns["CVPR 1/5"][:2] == ["24.80 / 7.48", "-"]
    assert columns["our top-1"][0] == f"3.00 ± {statistics.stdev([1, 2, 6]):.2f} (3)"


def test_the_report_names_network_dataset_and_narrow_blocks(directory):
    text = "\n".join(table.remarks(REDUCTION, collect(REDUCTION, directory).results, {}))
    assert "seresnet20_cifar on digits, not ImageNet" in text
    assert "With r = 32 our network" in text
    assert "no result" not in text
    assert "failed" not in text


def test_values_that_flags_have_changed_are_in_the_caption(directory):
    assert "other values" not in table.caption(REDUCTION, collect(REDUCTION, directory).results)
    changes = {"optim": {"learning_rate": 0.01}, "data": {"eval_split": "train"}}
    changes["model"] = {"width": 32}
    for path in directory.glob("*/seed*/config.json"):
        config = json.loads(path.read_text())
        for section, values in changes.items():
            config[section] |= values
        path.write_text(json.dumps(config))
    assert table.caption(REDUCTION, collect(REDUCTION, directory).results).endswith(
        "With other values than the study's own: data.eval_split (test in the study, train here), "
        "model.width (missing in the study, 32 here), optim.learning_rate (0.1 in the study, 0.01 "
        "here)."
    )


def test_a_study_in_miniature_is_as_declared(tmp_path):
    bases = [base_config(REDUCTION, row, "digits", smoke=True) for row in REDUCTION.rows]
    for run in plan(REDUCTION, bases, (0,), tmp_path):
        finish(run.workdir, run.config)
    assert "other values" not in table.caption(REDUCTION, collect(REDUCTION, tmp_path).results)


def test_runs_of_no_row_are_named(directory):
    (directory / "8").rename(directory / "8-old")
    collected = collect(REDUCTION, directory)
    assert "8" not in collected.results
    (sentence,) = collected.damaged
    assert sentence.startswith(f"{directory / '8-old'} has runs of a row that reduction lacks")


def test_a_table_of_runs_in_different_environments_says_so_once(directory):
    def conditions():
        return table.caption(REDUCTION, collect(REDUCTION, directory).results)

    assert "differ in" not in conditions()
    path = directory / REDUCTION.rows[0].label / "seed0" / "result.json"
    result = json.loads(path.read_text())
    path.write_text(json.dumps(result | {"host_cpus": 1, "settings": "usual"}))
    assert conditions().count("The runs differ in number of processors (1 or 2), and so in") == 1
    elsewhere = {"host_cpus": 2, "settings": "jax_enable_x64=True"}
    path.write_text(json.dumps(result | {"earlier_environments": [elsewhere], "settings": "usual"}))
    assert "settings of JAX and XLA (jax_enable_x64=True or usual)" in conditions()
    path.write_text(json.dumps(result | {"processes": 2, "parallel": "jit"}))  # else left out
    assert "number of processes (1 or 2), backend of the steps (jit or pmap), and" in conditions()


def test_runs_on_other_images_of_one_split_are_named(directory):
    """The dataset was prepared again between them; other splits may be of any size."""

    def named():
        remarks = table.remarks(REDUCTION, collect(REDUCTION, directory).results, {})
        return [line for line in remarks if "measured on" in line]

    assert not named()
    path = directory / "4" / "seed1" / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eval/examples": 1234}))
    (line,) = named()
    assert line.startswith("Runs were measured on 360 or 1,234 images of one split")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[("data.eval_split", "train"), ("data.classes", [0, 5]), ("data.name", "mnist")],
        *[("data.label", "coarse_label"), ("data.image", "mask")],
    ],
)
def test_gains_between_different_test_images_are_named(key, value, directory):
    results = collect(REDUCTION, directory).results
    for run in results["4"]:  # as a sweep of the key has them
        run["config"][key], run["eval/examples"] = value, 180
    remarks = table.remarks(REDUCTION, results, {})
    (line,) = (line for line in remarks if "different splits" in line)
    assert line.startswith("Row 4 and 16 were measured on images of different splits")
    assert "180 or 360 test images" in table.caption(REDUCTION, results)


@pytest.mark.parametrize("name", ["seed0.bak", "seed0-old", "seed3", "seed00", "seeds"])
def test_a_copy_of_a_run_is_no_further_seed(directory, name):
    before = collect(REDUCTION, directory).results
    shutil.copytree(directory / "4" / "seed0", directory / "4" / name)
    collected = collect(REDUCTION, directory)
    assert collected.results == before
    (sentence,) = collected.damaged
    assert f"{name} has the run of seed 0, whose folder is seed0" in sentence


def test_missing_seeds_are_named_and_a_row_without_results_is_shown(directory):
    (directory / "2" / "seed1" / "result.json").unlink()
    for seed in range(3):
        (directory / "4" / f"seed{seed}" / "result.json").unlink()
    results = collect(REDUCTION, directory).results
    columns = table.text_columns(REDUCTION, numbers.number_rows(REDUCTION, results))
    assert columns["our top-1"][1].endswith("(2)")
    assert columns["our top-1"][2] == "-"
    write_report(REDUCTION, results, directory, collect(REDUCTION, directory).unfinished)
    text = (directory / "table.md").read_text("utf-8")
    assert "- Row 2: seed 1 has no result.\n- Row 4: seeds 0, 1, 2 have no result.\n" in text


def test_failed_seeds_are_named_with_their_reason_and_started_ones_are_expected(directory):
    (directory / "4" / "seed2" / "result.json").unlink()
    workdir.fail(directory / "4" / "seed2", "the training loss became nan by step 40")
    workdir.fail(directory / "8" / "seed7", "XlaRuntimeError: out of memory\nand a page more")
    stopped = collect(REDUCTION, directory).unfinished
    text = "\n".join(table.remarks(REDUCTION, collect(REDUCTION, directory).results, stopped))
    assert "Row 4: seed 2 failed: the training loss became nan by step 40.\n" in text
    assert "Row 4: seed 7 has no result.\n" in text
    assert "Row 8: seed 7 failed: XlaRuntimeError: out of memory.\n" in text
    # Started again, and finished: no trace of the failure.
    fake(directory, "4", {"model.se.ratio": 4}, 2, 6.0)
    assert not (directory / "4" / "seed2" / "failed.json").exists()
    assert collect(REDUCTION, directory).unfinished == {
        "8": {7: "XlaRuntimeError: out of memory\nand a page more"}
    }


@pytest.mark.parametrize(
    ("section", "key", "value"), [("train", "epochs", 99.0), ("data", "label", "coarse_label")]
)
def test_runs_of_different_configurations_are_never_mixed(directory, section, key, value):
    path = directory / "2" / "seed1" / "config.json"
    config = json.loads(path.read_text())
    config[section][key] = value
    path.write_text(json.dumps(config))
    with pytest.raises(InputError, match="different configurations"):
        collect(REDUCTION, directory)


def test_files_are_rebuilt_from_the_results_alone(directory):
    found = collect(REDUCTION, directory)
    results = found.results
    write_report(REDUCTION, results, directory, found.unfinished)
    with (directory / "table.csv").open() as file:
        written = list(csv.DictReader(file))
    assert float(written[0]["our_top1_error_mean"]) == 3.0
    with (directory / "runs.csv").open() as file:
        runs = list(csv.DictReader(file))
    assert len(runs) == 18
    assert runs[0]["config.model.name"] == "seresnet20_cifar"
    assert (directory / "table.png").read_bytes().startswith(b"\x89PNG")
    assert not (directory / "curves.png").exists()  # these runs have no metrics.jsonl


def test_every_row_of_a_study_is_a_valid_se_block():
    for row in REDUCTION.rows:
        SEConfig(**{key.removeprefix("model.se."): v for key, v in row.overrides.items()})


@pytest.mark.parametrize(("dataset", "count"), [("digits", 18), ("cifar100_half", 36)])
def test_the_table_in_pages_is_the_one_the_committed_results_give(dataset, count):
    (page,) = pages_with(name := f"reduction_{dataset}")
    text = page.read_text("utf-8").split(f"<!-- {name} -->")[1].split("<!-- end")[0]
    path = ROOT / "experiments" / "results" / "reduction" / dataset / "runs.csv"
    runs = list(csv.DictReader(path.read_text("utf-8").splitlines()))
    assert len(runs) == count
    for row in REDUCTION.rows:
        errors = [float(run["eval/top1_error"]) for run in runs if run["row"] == row.label]
        cell = f"{statistics.fmean(errors):.2f} ± {statistics.stdev(errors):.2f} ({len(errors)})"
        line = next(line for line in text.splitlines() if line.startswith(f"| {row.label} |"))
        assert cell in line
    for commit in {run["git_commit"] for run in runs}:
        assert commit.strip("'") in text  # in quotes where it reads as a number


def test_seeds_of_a_row_with_different_blocks_are_not_averaged(directory):
    path = directory / "2" / "seed1" / "config.json"
    config = json.loads(path.read_text())
    config["model"]["se"]["stages"] = [4]
    path.write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"model\.se\.stages"):
        collect(REDUCTION, directory)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_digit_is_cut_at_any_width(directory, width, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    found = collect(REDUCTION, directory)
    write_report(REDUCTION, found.results, directory, found.unfinished)
    printed = " ".join(capsys.readouterr().out.split())
    assert "28,071,976" in printed
    assert "3.00 ± 2.65 (3)" in printed
    assert "…" not in printed
    assert ("23.29 / 6.62" in printed) == (width == 200)
    assert ("in table.md" in printed) == (width < 200)


def test_a_study_without_any_result_says_why(tmp_path):
    workdir.fail(tmp_path / "8" / "seed0", "the training loss became nan by step 40")
    with pytest.raises(InputError, match="has a result; row 8: seed 0 failed: the training loss"):
        main(["report", "reduction", f"--workdir={tmp_path}"])


def test_a_run_that_failed_leaves_its_reason_until_it_starts_again(tmp_path, monkeypatch):
    def train(config, directory, **_):
        workdir.start(directory, config)
        workdir.forget_failure(directory)
        if config.seed in broken:
            raise broken[config.seed]
        finish(directory, config)

    monkeypatch.setattr("senet_jax.training.loop.train_and_evaluate", train)
    monkeypatch.setattr("senet_jax.system.compilation_cache.enable", lambda: None)
    bases = [base_config(REDUCTION, row, "digits", smoke=True) for row in REDUCTION.rows]
    runs = plan(REDUCTION, bases, (0, 1), tmp_path)
    broken = {1: Diverged("the training loss became nan by step 40")}
    assert set(launch(runs, serial.train).values()) == {str(broken[1])}
    assert len(list(tmp_path.glob("*/seed1/failed.json"))) == 6
    assert not list(tmp_path.glob("*/seed0/failed.json"))
    broken = {1: KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        launch(runs, serial.train)
    assert len(list(tmp_path.glob("*/seed1/failed.json"))) == 5
    broken = {}
    assert launch(runs, serial.train) == {}
    assert not list(tmp_path.glob("*/seed*/failed.json"))


@pytest.mark.parametrize("name", study_names())
def test_no_two_curves_of_a_figure_look_alike(name):
    which = load_study(name)
    looks = plot.looks(which, [row.label for row in which.rows])
    assert len({(look["color"], look["linestyle"]) for look in looks}) == len(which.rows)
