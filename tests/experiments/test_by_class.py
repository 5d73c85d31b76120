"""What a study says by class: the seeds of a row added up, and no row of which some are missing."""

import csv
import io

import numpy as np
from helpers.results import results
from PIL import Image

from experiments.reporting import by_class
from senet_jax.evaluation.tally import Tally
from senet_jax.training import class_errors

NAMES = ("cat", "$dog", "emu")


def written(folder, seed):
    """A run's counts, in its files."""
    rng = np.random.default_rng(seed)
    tally = Tally.of(rng.integers(0, 3, 20), rng.integers(0, 3, 20), rng.random(20), 3)
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
