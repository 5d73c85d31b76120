"""The table says what the result files say, and names what a reader must know."""

import csv
import json
import statistics
from pathlib import Path

import pytest
from runs import finish

from configs import digits
from experiments import report, study, table
from senet_jax.errors import InputError
from senet_jax.layers.squeeze_excite import SEConfig

ROOT = Path(__file__).parent.parent
REDUCTION = study.load_study("reduction")


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
    columns = table.formatted(
        REDUCTION, table.numbers(REDUCTION, report.collect(REDUCTION, directory))
    )
    assert columns["r"] == ["original", "2", "4", "8", "16", "32"]
    # derived_reduction.csv, without biases
    assert columns["parameters"][1:] == [
        "45,676,584",
        "35,616,808",
        "30,586,920",
        "28,071,976",
        "26,814,504",
    ]
    assert columns["parameters"][0] == "25,557,032"
    assert (columns["GMACs"][0], columns["GMACs"][4]) == ("3.858", "3.860")
    # table10_reduction.csv
    assert columns["printed"] == ["25.6M", "45.7M", "35.7M", "30.7M", "28.1M", "26.9M"]
    assert columns["paper 1/5"][4] == "22.28 / 6.03"
    assert columns["CVPR 1/5"][:2] == ["24.80 / 7.48", "-"]
    assert columns["our top-1"][0] == f"3.00 ± {statistics.stdev([1, 2, 6]):.2f} (3)"


def test_the_report_names_network_dataset_and_narrow_blocks(directory):
    text = "\n".join(table.remarks(REDUCTION, report.collect(REDUCTION, directory)))
    assert "seresnet20_cifar on digits, not ImageNet" in text
    assert "With r = 32 our network" in text
    assert "Incomplete" not in text


def test_missing_seeds_are_named_and_a_row_without_results_is_shown(directory):
    (directory / "2" / "seed1" / "result.json").unlink()
    for seed in range(3):
        (directory / "4" / f"seed{seed}" / "result.json").unlink()
    results = report.collect(REDUCTION, directory)
    columns = table.formatted(REDUCTION, table.numbers(REDUCTION, results))
    assert columns["our top-1"][1].endswith("(2)")
    assert columns["our top-1"][2] == "-"
    assert any(line.startswith("Incomplete") for line in table.remarks(REDUCTION, results))
    report.report(REDUCTION, results, directory)


def test_runs_of_different_configurations_are_never_mixed(directory):
    path = directory / "2" / "seed1" / "config.json"
    config = json.loads(path.read_text())
    config["train"]["epochs"] = 99.0
    path.write_text(json.dumps(config))
    with pytest.raises(InputError, match="different configurations"):
        report.collect(REDUCTION, directory)


def test_files_are_rebuilt_from_the_results_alone(directory):
    results = report.collect(REDUCTION, directory)
    report.report(REDUCTION, results, directory)
    with (directory / "table.csv").open() as file:
        written = list(csv.DictReader(file))
    assert float(written[0]["our_top1_error_mean"]) == 3.0
    with (directory / "runs.csv").open() as file:
        runs = list(csv.DictReader(file))
    assert len(runs) == 18
    assert runs[0]["config.model.name"] == "seresnet20_cifar"
    assert (directory / "table.png").read_bytes().startswith(b"\x89PNG")


def test_every_row_of_a_study_is_a_valid_se_block():
    for row in REDUCTION.rows:
        SEConfig(**{key.removeprefix("model.se."): v for key, v in row.overrides.items()})


def test_the_readme_table_is_the_one_the_committed_results_give():
    readme = (ROOT / "README.md").read_text("utf-8")
    path = ROOT / "experiments" / "results" / "reduction_digits.csv"
    runs = list(csv.DictReader(path.read_text("utf-8").splitlines()))
    assert len(runs) == 18
    for row in REDUCTION.rows:
        errors = [float(run["eval/top1_error"]) for run in runs if run["r"] == row.label]
        cell = f"{statistics.fmean(errors):.2f} ± {statistics.stdev(errors):.2f} ({len(errors)})"
        line = next(line for line in readme.splitlines() if line.startswith(f"| {row.label} |"))
        assert cell in line
    assert {run["git_commit"] for run in runs} == {runs[0]["git_commit"]}
    assert runs[0]["git_commit"] in readme


def test_insert_replaces_only_what_is_marked():
    text = "a\n<!-- t -->\nold\n<!-- end t -->\nb\n"
    assert report.insert(text, "t", "new\n") == "a\n<!-- t -->\nnew\n<!-- end t -->\nb\n"
    with pytest.raises(InputError, match="no place marked"):
        report.insert("nothing", "t", "new\n")


def test_results_on_part_of_the_data_or_of_no_commit_are_not_published(directory):
    path = directory / "2" / "seed1" / "result.json"
    result = json.loads(path.read_text())
    path.write_text(json.dumps(result | {"git_commit": "abc-dirty"}))
    before = (ROOT / "README.md").read_bytes()
    with pytest.raises(InputError, match="uncommitted changes"):
        report.publish(REDUCTION, report.collect(REDUCTION, directory))
    assert (ROOT / "README.md").read_bytes() == before


def test_seeds_of_a_row_with_different_blocks_are_not_averaged(directory):
    path = directory / "2" / "seed1" / "config.json"
    config = json.loads(path.read_text())
    config["model"]["se"]["stages"] = [4]
    path.write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"model\.se\.stages"):
        report.collect(REDUCTION, directory)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_digit_is_cut_at_any_width(directory, width, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    report.report(REDUCTION, report.collect(REDUCTION, directory), directory)
    printed = " ".join(capsys.readouterr().out.split())
    assert "28,071,976" in printed
    assert "3.00 ± 2.65 (3)" in printed
    assert "…" not in printed
    assert ("23.29 / 6.62" in printed) == (width == 200)
    assert ("in table.md" in printed) == (width < 200)
