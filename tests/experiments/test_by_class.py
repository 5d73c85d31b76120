"""What a study says by class: the seeds of a row added up, and no row of which some are missing."""

import csv
import io

import numpy as np
from helpers.results import results
from helpers.runs import finish
from PIL import Image

from experiments.grid.plan import base_config, plan
from experiments.reporting import by_class, write
from experiments.reporting.collect import collect
from experiments.studies import load_study
from senet_jax.evaluation.tally import Tally
from senet_jax.training import class_errors

NAMES = ("cat", "$dog", "emu")


def of_three_classes(seed):
    rng = np.random.default_rng(seed)
    return Tally.of(rng.integers(0, 3, 20), rng.integers(0, 3, 20), rng.random(20), 3)


def written(folder, seed):
    """A run's counts, in its files."""
    tally = of_three_classes(seed)
    folder.mkdir(parents=True)
    class_errors.write(folder, tally, NAMES)
    return tally


def test_seeds_add_up_and_rows_that_lack_or_damage_one_are_left_out(tmp_path):
    found = results(_a={0: 1.0, 1: 2.0}, _b={0: 1.0, 1: 1.0}, _c={0: 1.0})
    one, two = (written(tmp_path / "a" / f"seed{seed}", seed) for seed in (0, 1))
    written(tmp_path / "b" / "seed0", 0)  # seed 1 is of an earlier version
    written(tmp_path / "c" / "seed0", 0)
    (tmp_path / "c" / "seed0" / "calibration.csv").write_text("above,to\n1,2\n")
    tallies, damaged = by_class.read(found, tmp_path)
    assert [*tallies] == ["a"]
    np.testing.assert_array_equal(tallies["a"][0].confusion, (one + two).confusion)
    (sentence,) = damaged
    assert "c/seed0 has a damaged" in sentence
    lines = [*csv.DictReader(io.StringIO(by_class.classes_csv(tallies).decode()))]
    assert [(line["row"], line["name"]) for line in lines] == [("a", name) for name in NAMES]
    assert sum(int(line["examples"]) for line in lines) == 40
    for draw in (by_class.confusion, by_class.calibration):
        assert min(Image.open(io.BytesIO(draw(tallies, "caption"))).size) > 400


def test_the_remark_is_of_means_and_only_where_all_runs_have_them():
    found = results(_a={0: 1.0, 1: 2.0}, _b={0: 1.0})
    assert by_class.in_words(found) == []
    for number, run in enumerate([*found["a"], *found["b"]]):
        run |= {"eval/balanced_error": 10.0 * number, "eval/calibration_error": 1.0}
    found["b"][0]["eval/calibration_error"] = None
    assert by_class.in_words(found)[0].endswith("a: 5.00 and 1.00; b: 20.00 and not finite.")


def test_a_report_leaves_nothing_of_an_earlier_one_of_other_runs(tmp_path):
    """Such as a picture by class, where the same rows now have published runs."""
    study, directory, other = load_study("bias"), tmp_path / "runs", tmp_path / "other"
    bases = [base_config(study, row, "digits", smoke=True) for row in study.rows]
    runs = plan(study, bases, (0,), directory)
    for run in runs:
        finish(run.workdir, run.config, (50.0, 40.0))
        class_errors.write(run.workdir, of_three_classes(0), NAMES)
    (directory / "notes.txt").write_text("not of a report")
    found = collect(study, directory).results
    assert write.write_report(study, found, directory, {}) == []
    assert files_in(directory) == {*write.REPORT, "notes.txt"} - {"right.csv"}
    for run in runs:
        (run.workdir / "classes.csv").unlink()
        del found[run.row.label][0]["curve"]
    assert write.write_report(study, found, other, {}) == []
    assert write.write_report(study, found, directory, {}) == []
    assert files_in(directory) == {*files_in(other), "notes.txt"}
    assert {"curves.csv", "confusion.png"}.isdisjoint(files_in(other))


def test_nor_does_the_evaluation_of_more_classes_than_a_matrix_takes(tmp_path, monkeypatch):
    for most, matrix in ((3, {"confusion.csv", "confusion.png"}), (2, set())):
        monkeypatch.setattr("senet_jax.evaluation.tally.MOST_CLASSES", most)
        assert class_errors.write_all(tmp_path, of_three_classes(0), NAMES, "caption") == []
        assert files_in(tmp_path) == {"classes.csv", "calibration.csv", "calibration.png"} | matrix


def files_in(directory):
    return {path.name for path in directory.iterdir() if path.is_file()}
