"""What is published reads back as it was, and the docs say what is published."""

import json
import re

import numpy as np
import pytest
from helpers.quick import one_in
from helpers.runs import contents, finish

from experiments import report
from experiments.grid.plan import base_config, plan
from experiments.reporting import blocks, headline, publish, table
from experiments.reporting.collect import collect, dataset_of
from experiments.reporting.csv_files import read_results, runs_csv
from experiments.studies import load_study, study_names
from senet_jax.errors import InputError
from senet_jax.evaluation.loop import pack
from senet_jax.runs import workdir

REDUCTION = load_study("reduction")
CIFAR = load_study("cifar")
COMMITS = ("31bb4c72c15c", "123456789012", "1234e5678901")  # some of which look like numbers


def grid(which, directory, dataset="digits", **result):
    """Finished runs of two seeds, with curves; one of them failed."""
    bases = [base_config(which, row, dataset, smoke=False) for row in which.rows]
    for number, run in enumerate(plan(which, bases, (0, 1), directory)):
        error = 1 + number / 7
        commit = COMMITS[number % len(COMMITS)]
        more = {"eval/top1_error": error, "images_per_second": None, "jax_version": "0.10"}
        more["git_commit"] = commit
        finish(run.workdir, run.config, (90.0, 0.0, error), **more | result)
    last = run.workdir / "result.json"
    last.unlink()
    workdir.fail(last.parent, 'RuntimeError: "no", it said,\nand more')
    return directory


@pytest.mark.parametrize(
    "which",
    one_in(2, [REDUCTION, CIFAR], "counts the networks of a larger study"),
    ids=lambda which: which.name,
)
def test_published_results_read_back_as_they_were(which, tmp_path, checkout):
    directory = grid(which, tmp_path / "runs")
    found = collect(which, directory)
    results, unfinished = found.results, found.unfinished
    publish.publish(which, results, unfinished)
    place = publish.RESULTS / which.name / "digits"
    again = read_results(place)
    assert again == (results, unfinished)
    files = contents(publish.RESULTS)
    assert sorted(files) == sorted(
        place / name for name in ("runs.csv", "curves.csv", "table.md", "table.png", "curves.png")
    )
    publish.publish(which, *again)
    assert contents(publish.RESULTS) == files


def test_a_variant_of_a_dataset_is_published_under_its_name(tmp_path, checkout):
    right = pack(np.arange(360) % 3)
    directory = grid(REDUCTION, tmp_path / "runs", "cifar100_half", **{"eval/right": right})
    results = collect(REDUCTION, directory).results
    assert dataset_of(results) == "cifar100_half"
    publish.publish(REDUCTION, results, {})
    place = publish.RESULTS / "reduction" / "cifar100_half"
    again, _ = read_results(place)
    assert again == results
    assert right in (place / "right.csv").read_text()
    assert right not in (place / "runs.csv").read_text()
    caption = table.caption(REDUCTION, again)
    assert "train[:50%] of cifar100 in training, train[50%:]+test in evaluation" in caption
    for runs in results.values():  # another part of the data has no name
        for run in runs:
            run["config"]["data.train_split"] = "train[:40%]"
    assert dataset_of(results) == "cifar100"
    with pytest.raises(InputError, match="a part of the data"):
        publish.publish(REDUCTION, results, {})


def test_curves_have_an_epoch_and_the_training_loss_of_the_same_step(tmp_path):
    run = collect(REDUCTION, grid(REDUCTION, tmp_path)).results["16"][0]
    assert run["config"]["train.epochs"] == 15
    assert run["curve"][0] == {
        "step": 10,
        "epoch": 5.0,
        "eval/top1_error": 90.0,
        "eval/loss": 2.0,
        "train/loss": 1.0,
    }
    assert [point["epoch"] for point in run["curve"]] == [5, 10, 15]


def test_curves_of_other_runs_do_not_stay(tmp_path, checkout):
    directory = grid(REDUCTION, tmp_path / "runs")
    publish.publish(REDUCTION, collect(REDUCTION, directory).results, {})
    for path in directory.rglob("metrics.jsonl"):
        path.unlink()
    publish.publish(REDUCTION, collect(REDUCTION, directory).results, {})
    assert not list(publish.RESULTS.rglob("*curves*"))
    assert "curves" not in (publish.RESULTS / "reduction" / "digits" / "table.md").read_text()


def test_readme_gets_the_list_always_and_a_table_where_it_has_a_place(tmp_path, checkout):
    results = collect(REDUCTION, grid(REDUCTION, tmp_path / "runs")).results
    publish.publish(REDUCTION, results, {})
    text = (checkout / "README.md").read_text("utf-8")
    assert "[digits, n = 1 to 2](experiments/results/reduction/digits/table.md): " in text
    assert "**Table 10" not in text
    assert text.count("not run yet") == len(study_names()) - 1
    (checkout / "README.md").write_text(
        f"{text}<!-- reduction_digits -->\nold\n<!-- end reduction_digits -->\n"
    )
    publish.publish(REDUCTION, results, {})
    text = (checkout / "README.md").read_text("utf-8")
    assert "**Table 10" in text
    assert "old" not in text


def test_blocks_are_found_in_any_page_and_link_from_there(tmp_path, checkout):
    page = checkout / "docs" / "tables" / "all.md"
    page.parent.mkdir(parents=True)
    marks = ("studies", "reduction_digits")
    page.write_text("".join(f"<!-- {mark} -->\n<!-- end {mark} -->\n" for mark in marks))
    publish.publish(REDUCTION, collect(REDUCTION, grid(REDUCTION, tmp_path / "runs")).results, {})
    text = page.read_text("utf-8")
    assert "[Table 10](../../experiments/studies/reduction.py)" in text
    assert "(../../experiments/results/reduction/digits/table.md): " in text
    assert "**Table 10" in text
    assert "**Table 10" not in (checkout / "README.md").read_text("utf-8")
    assert blocks.pages_with("studies") == [checkout / "README.md", page]
    assert blocks.pages_with("nothing") == []


def test_without_a_place_for_the_list_it_is_a_sentence(checkout):
    (checkout / "README.md").write_text("# Us\n")
    with pytest.raises(InputError, match="no page has a place marked <!-- studies -->"):
        publish.write_index()
    (checkout / "README.md").write_text("# Us\n<!-- studies -->\n")
    with pytest.raises(InputError, match=r"no place marked <!-- studies --> \.\.\. <!-- end st"):
        publish.write_index()


def test_pages_list_every_study_with_what_is_published():
    """If not: `python -m experiments.report --index`."""
    pages = blocks.pages_with("studies")
    assert pages
    for page in pages:
        text = page.read_text("utf-8")
        assert blocks.insert(text, "studies", publish.index(page)) == text
        for name in study_names():
            assert f"`python -m experiments.run {name}`" in text


def test_results_are_found_by_their_place_alone(checkout):
    for place in ("cifar/digits", "cifar/a/b", "cifar_role/digits", "timing"):
        (publish.RESULTS / place).mkdir(parents=True)
        (publish.RESULTS / place / "runs.csv").touch()
    assert publish.published_datasets(CIFAR) == ["a/b", "digits"]
    assert publish.directory_of(CIFAR, "a/b") == publish.RESULTS / "cifar" / "a" / "b"
    assert publish.published_datasets(REDUCTION) == []


def test_every_committed_file_of_runs_can_be_read():
    """Its table is the one of today. If not: `python -m experiments.report STUDY --publish`."""
    for name in study_names():
        which = load_study(name)
        for dataset in publish.published_datasets(which):
            place = publish.directory_of(which, dataset)
            results, unfinished = read_results(place)
            assert runs_csv(results, unfinished) == (place / "runs.csv").read_bytes()
            assert dataset_of(results) == dataset
            text = (place / "table.md").read_text("utf-8")
            assert text.startswith(table.markdown(which, results, unfinished))
            pictures = re.findall(r"\]\((.*png)\)", text)
            assert pictures == ["table.png", "curves.png"]
            assert all((place / picture).is_file() for picture in pictures)


def test_insert_replaces_only_what_is_marked():
    text = "a\n<!-- t -->\nold\n<!-- end t -->\nb\n"
    assert blocks.insert(text, "t", "new\n") == "a\n<!-- t -->\nnew\n<!-- end t -->\nb\n"
    with pytest.raises(InputError, match="no place marked"):
        blocks.insert("nothing", "t", "new\n")


@pytest.mark.parametrize(
    ("file", "change", "sentence"),
    [
        ("result.json", {"git_commit": "abc-dirty"}, "uncommitted changes"),
        ("result.json", {"git_commit": "unknown"}, "uncommitted changes"),
        (
            "result.json",
            {"earlier_environments": [{"git_commit": "abc-dirty"}]},
            "uncommitted changes",
        ),
        ("config.json", {"data": {"train_split": "train[:64]"}}, "part of the data"),
    ],
)
def test_what_cannot_be_repeated_is_not_published(file, change, sentence, tmp_path, checkout):
    directory = grid(REDUCTION, tmp_path / "runs")
    for path in directory.glob(f"*/seed*/{file}"):
        values = json.loads(path.read_text())
        for key, value in change.items():
            values[key] = values[key] | value if isinstance(value, dict) else value
        path.write_text(json.dumps(values))
    before = (checkout / "README.md").read_bytes()
    with pytest.raises(InputError, match=sentence):
        publish.publish(REDUCTION, collect(REDUCTION, directory).results, {})
    assert (checkout / "README.md").read_bytes() == before
    assert not publish.RESULTS.exists()


def test_a_published_row_that_the_study_lacks_is_refused(tmp_path, checkout):
    results = collect(REDUCTION, grid(REDUCTION, tmp_path / "runs")).results
    place = publish.directory_of(REDUCTION, "digits")
    place.mkdir(parents=True)
    results["sixteen"] = results.pop("16")
    (place / "runs.csv").write_bytes(runs_csv(results, {}))
    with pytest.raises(InputError, match="has a row 'sixteen', which reduction lacks"):
        publish.read(REDUCTION, "digits")


@pytest.mark.parametrize("left", [("16", "2"), ("2",), ("16",)])
@pytest.mark.parametrize("seeds", [1, 2])
def test_half_a_study_has_its_place_in_the_readme(left, seeds, tmp_path):
    results = collect(REDUCTION, grid(REDUCTION, tmp_path / "runs")).results
    rows = headline.rows(REDUCTION, {label: results[label][:seeds] for label in left})
    assert [row[0] for row in rows] == [f"r = {row.label}" for row in REDUCTION.rows]
    by_row = {row[0].removeprefix("r = "): row[1:] for row in rows}
    assert by_row["16"][-1] == "the reference"
    assert by_row["32"] == ("-", "-", "-", "no result")
    assert ("16" in left) == (by_row["16"][0] != "-")
    assert not any("nan" in cell for row in rows for cell in row)


def test_a_file_of_something_else_is_a_sentence(tmp_path):
    path = tmp_path / "runs.csv"
    for text, sentence in (
        ("", "no columns"),
        ("a,b\n1,2\n", "no columns"),
        ("row,seed\n2,0\n", "lacks"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=sentence):
            read_results(tmp_path)


def test_without_runs_the_report_is_of_the_published_ones(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    report.main(["report", "reduction"])
    printed = capsys.readouterr().out
    assert "those in experiments/results/reduction/digits." in printed
    assert "28,071,976" in printed
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="there are no results"):
        report.main(["report", "reduction", "--dataset=svhn_cropped"])
