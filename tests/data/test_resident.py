"""Images that are put on the devices once: the same bits as from the host, wherever they fit."""

import signal

import jax
import numpy as np
import pytest
from helpers.quick import one_in
from helpers.runs import interrupted, logged, same

from senet_jax import data
from senet_jax.data import resident
from senet_jax.data.resident import Resident
from senet_jax.system import device_memory
from senet_jax.training.loop import train_and_evaluate
from senet_jax.training.prepare import prepare

IMAGE = 8 * 8  # bytes of a digit


@pytest.fixture
def room(monkeypatch):
    """A function that gives each device so many free bytes."""
    return lambda size: monkeypatch.setattr(device_memory, "free_memory", lambda _: size)


@pytest.mark.parametrize(
    "steps_per_call", one_in(2, [1000, 1], "trains three times more, a step a call")
)
def test_a_run_ends_with_the_bits_of_one_that_is_fed_by_the_host(
    tiny, room, tmp_path, monkeypatch, steps_per_call
):
    """Whole epochs a call as well, also if it was begun where there was no room."""
    devices = jax.local_devices()[:2]
    tiny.train.update(steps_per_call=steps_per_call, log_every_steps=3, ema_decay=0.9)
    train_and_evaluate(tiny, tmp_path / "fed", devices)
    with pytest.raises(KeyboardInterrupt):
        interrupted(tiny, tmp_path / "cut", devices, monkeypatch, signal.SIGINT, ("evaluate", 1))
    room(10**9)
    run = prepare(tiny, devices)
    assert isinstance(run.dataset.train, Resident)
    assert isinstance(run.dataset.eval, Resident)
    assert set(next(run.dataset.train.train_batches(32, 0))) == {"index", "label"}
    assert set(next(run.dataset.eval.eval_batches(32))) == {"index", "place", "label", "mask"}
    train_and_evaluate(tiny, tmp_path / "resident", devices)
    train_and_evaluate(tiny, tmp_path / "cut", devices)
    same(tmp_path / "fed", tmp_path / "resident")
    same(tmp_path / "fed", tmp_path / "cut")
    lines = [step for step, name in logged(tmp_path / "fed") if name == "train/loss"]
    assert lines == [3, 4, 6, 8]  # whatever the calls: every third step, and before evaluations


def test_batches_have_the_index_of_each_image(room):
    split = data.load_dataset("digits", "train[:50]", "test[:20]")
    room(10**9)
    placed = resident.place(split, jax.local_devices()[:2])
    for here, there in (
        (split.train.train_batches(16, 3, 2), placed.train.train_batches(16, 3, 2)),
        (split.eval.eval_batches(16), placed.eval.eval_batches(16)),
    ):
        for _, one, other in zip(range(4), here, there, strict=False):
            images = np.asarray(resident.images(placed.eval if "mask" in one else placed.train))
            shown = one.get("mask", np.ones(16)) > 0
            np.testing.assert_array_equal(images[other["index"]][shown], one["image"][shown])
            for name in set(one) - {"image"}:
                np.testing.assert_array_equal(one[name], other[name])
    assert len(placed.train) == 50
    assert placed.train.image_shape == (8, 8, 1)
    assert placed.train.labels().tolist() == split.train.labels().tolist()


@pytest.mark.parametrize(
    ("images", "which"), [(0, ""), (49, "eval"), (50, "train"), (69, "train"), (70, "train eval")]
)
def test_what_fits_a_share_of_the_free_memory_is_placed(room, images, which):
    room(images * IMAGE / resident.MOST)
    split = data.load_dataset("digits", "train[:50]", "test[:20]")
    placed = resident.place(split, jax.local_devices()[:1])
    assert [name for name in ("train", "eval") if isinstance(getattr(placed, name), Resident)] == (
        which.split()
    )


def test_streams_and_noise_are_not_placed_nor_anything_on_a_cpu(room, one_device):
    digits = data.load_dataset("digits", "train[:50]", "test[:20]")
    assert resident.place(digits, one_device) == digits
    room(10**15)
    noise = data.load_dataset("fake", "train", "test")
    assert resident.place(noise, one_device) == noise
