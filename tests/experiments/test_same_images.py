"""A table names runs whose errors are not of the same images, or of images known before."""

import pytest
from helpers.results import results as made_up

from experiments import power
from experiments.reporting import same_images
from experiments.studies import load_study

REDUCTION = load_study("reduction")


def finished():
    found = made_up(_2={0: 5.0, 1: 6.0}, _4={0: 5.0, 1: 6.0}, _16={0: 5.5, 1: 6.5})
    for run in (run for runs in found.values() for run in runs):
        run["config"] = {"data.train_split": "train", "data.eval_split": "test"}
    return found


CHANGES = {  # what results have of a dataset, and the beginning of the sentence on one that changed
    "labels of the evaluation": ("labels", ["a", "x"], "Runs were measured on images of one split"),
    "number of images": ("examples", [99, 360], "Runs were trained on different numbers of images"),
    "labels of the training": ("labels", ["x", "b"], "Runs were trained on images with different"),
    "pixels": ("mean", [0.31], "Runs were trained on images of different mean"),
    "files of the evaluation": ("files", ["f", "x"], "Runs were measured on images of one split"),
    "files of the training": ("files", ["x", "g"], "Runs were trained on images whose files were"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_dataset_that_changed_between_runs_is_named(change):
    """Labels were corrected, images were added: the errors are not of one dataset."""
    key, value, sentence = CHANGES[change]
    results = finished()
    for run in (run for runs in results.values() for run in runs):
        run |= {"examples": [100, 360], "labels": ["a", "b"], "mean": [0.30000001]}
        run["files"] = ["f", "g"]
    assert same_images.in_words(REDUCTION, results) == []
    later = results["4"][1]
    later |= {"mean": [0.3]}  # as another machine has it
    assert same_images.in_words(REDUCTION, results) == []
    later[key] = value
    (line,) = same_images.in_words(REDUCTION, results)
    assert "the dataset has changed between them" in line
    assert line.startswith(sentence)
    del later[key]  # an earlier version
    assert same_images.in_words(REDUCTION, results) == []
    later[key] = value
    later["config"]["data.train_split"] = later["config"]["data.eval_split"] = "train[:99]"
    later["config"]["data.mean"] = [0.31]
    assert same_images.in_words(REDUCTION, results) == []


def test_a_plan_names_a_dataset_that_changed_between_its_runs(capsys):
    """Their deviation is that of two datasets, and so are the seeds that it asks for."""
    results = finished()
    for run in (run for runs in results.values() for run in runs):
        run |= {"labels": ["a", "b"], "wall_time_seconds": 60.0}
    power.show(REDUCTION, results, 0.5)
    assert "dataset" not in capsys.readouterr().out
    results["4"][1]["labels"] = ["a", "x"]
    power.show(REDUCTION, results, 0.5)
    assert "Runs were measured on images of one split with different labels" in (
        capsys.readouterr().out
    )


def test_rows_whose_origins_know_the_evaluation_images_are_named():
    results = finished()
    results["4"][1]["seen_before"] = 72
    (line,) = same_images.in_words(REDUCTION, results)
    assert line.startswith("Row 4: up to 72 of its 360 evaluation images are among those")


@pytest.mark.parametrize("parts", ["folds", "slices"])
@pytest.mark.parametrize(
    ("after", "what"),
    [
        ([101, "b", "g"], "its number of images changed"),
        ([100, "b", "f"], "its labels changed"),
        ([100, "a", "g"], "its files were edited"),
        ([100, "", "g"], "its files were edited"),
    ],
)
def test_a_split_that_changed_between_runs_on_parts_of_it_is_named(parts, after, what):
    """No two folds have the same images, nor has a slice those of the split; the split has all."""
    results = finished()
    for label, runs in results.items():
        for run in runs:
            run |= {"examples": [80, run["seed"]], "splits": {"train": [100, "a", "f"]}}
            if parts == "folds":
                run["config"] |= {"data.fold": [run["seed"] + 1, 5], "seed": run["seed"]}
            else:
                run["config"]["data.train_split"] = f"train[:{label}]"
                run["config"]["data.eval_split"] = f"train[-{label}:]"
    before = same_images.in_words(REDUCTION, results)
    for label in results if parts == "folds" else ["4"]:
        results[label][1]["splits"] = {"train": after}
    (line,) = [line for line in same_images.in_words(REDUCTION, results) if line not in before]
    assert line.startswith(f"Runs had parts of split 'train' before and after {what}")


@pytest.mark.parametrize(
    ("key", "digest", "sentence"),
    [
        ("model.pretrained", "pretrained_sha256", "Runs had different first weights by one name"),
        ("train.teacher", "teacher_sha256", "Runs had different teachers by one name"),
    ],
)
def test_weights_that_changed_between_the_runs_that_start_from_them_are_named(
    key, digest, sentence
):
    """A work directory was trained again: its path is the same, and its weights are others."""
    results = finished()
    for run in (run for runs in results.values() for run in runs):
        run[digest] = "a"
        run["config"][key] = "/runs/x"
    assert same_images.in_words(REDUCTION, results) == []
    results["4"][1][digest] = "b"
    (line,) = same_images.in_words(REDUCTION, results)
    assert line.startswith(sentence)
    results["4"][1]["config"][key] = "/runs/y"  # a sweep over origins
    assert same_images.in_words(REDUCTION, results) == []


def test_rows_that_did_not_start_from_the_weights_that_are_here_are_named():
    study = load_study("transfer")
    results = made_up(pretraining={0: 5.0, 1: 6.0}, scratch={0: 9.0}, **{"all-layers": {0: 7.0}})
    for label, runs in results.items():
        for run in runs:
            run["config"] = {"model.pretrained": ""} | run.get("config", {})
            run["params_sha256"] = f"{label}{run['seed']}"
    tuned = results["all-layers"][0]
    tuned["pretrained_sha256"] = "pretraining0"
    before = same_images.in_words(study, results)
    tuned["pretrained_sha256"] = "pretraining1"
    (line,) = [line for line in same_images.in_words(study, results) if line not in before]
    assert line.startswith("Row all-layers did not start from the runs of row pretraining")
    tuned["config"]["model.weights"] = "ema"  # whose digest no result has
    assert same_images.in_words(study, results) == before
