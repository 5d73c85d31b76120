"""The race of reading: our reader and the other one, in turn, on the same parts of images."""

import csv

import numpy as np
import pytest
from helpers.commands import start
from helpers.photos import torchvisions_window

from experiments.timing import input_race, readers
from senet_jax.errors import InputError


@pytest.mark.slow(reason="three rounds of reading by two readers in processes of their own")
def test_readers_read_in_turn_and_leave_a_row_each(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    path = tmp_path / "rows.csv"
    done = start(
        "experiments.benchmark",
        "--input=photographs",
        "--size=32",
        "--batch=8",
        "--steps=2",
        f"--csv={path}",
    )
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [row["contestant"] for row in rows] == ["ours", "pillow"]
    assert rows[0]["times_ours"] == "1.0"
    for row in rows:
        assert row["images"] == "64"  # two steps of four batches of eight
        assert row["low"] == row["high"] == ""  # one turn has no interval
        assert float(row["images_per_s_core"]) > 0
    assert input_race.markdown_table(rows) in done.stdout
    assert start("experiments.benchmark", f"--markdown={path}").stdout == input_race.markdown_table(
        rows
    )


@pytest.mark.slow(reason="imports TensorFlow")
def test_what_is_not_of_tfds_is_refused_by_name():
    with pytest.raises(InputError, match="races on datasets of TFDS, and 'digits' is none"):
        readers.find("digits")


def test_the_other_reader_crops_as_torchvision_does():
    rng = np.random.default_rng(0)
    boxes = np.array([readers.random_box(500, 375, rng) for _ in range(2000)])
    sides = boxes[:, 2:] - boxes[:, :2]
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] <= (500, 375)).all()
    areas, ratios = sides.prod(1) / (500 * 375), sides[:, 0] / sides[:, 1]
    assert 0.075 < areas.min() < 0.1 < 0.9 < areas.max()
    assert 0.73 < ratios.min() < 0.78 < 1.28 < ratios.max() < 1.36
    assert readers.random_box(1000, 100, rng)[1::2] == (0, 100)  # no attempt fits


@pytest.mark.parametrize(("height", "width"), [(375, 500), (90, 10), (10, 90)])
def test_the_reader_on_pillow_draws_the_parts_that_torchvision_draws(height, width):
    one, two = np.random.default_rng(0), np.random.default_rng(0)
    for _ in range(100):
        left, top, right, bottom = readers.random_box(width, height, one)
        window = torchvisions_window(height, width, two)
        assert window[2:] == (bottom - top, right - left)
        assert sorted(window[:2]) <= [height, width]
        one.bit_generator.state = two.bit_generator.state  # they draw the corner in another order
