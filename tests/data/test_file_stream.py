"""Streams of files: a function of (seed, epoch), every readable image once, as predict sees it."""

import shutil

import numpy as np
import pytest
from helpers.image_folders import write_folder
from helpers.photos import BROKEN, CROPS, encoded, torchvisions_window

from senet_jax import data
from senet_jax.data import file_stream, image_files, pillow_crops
from senet_jax.data.crops import CropSpec
from senet_jax.data.sources import lookup
from senet_jax.data.split import Share
from senet_jax.errors import InputError


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """60 photographs of many sizes in two classes, three of them cut short."""
    root = tmp_path_factory.mktemp("photographs")
    for index in range(60):
        place = root / "train" / "ab"[index % 2] / f"{index}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(encoded(index))
    shutil.copytree(root / "train", root / "val")
    return root


def load(photographs, **options):
    return data.load_dataset(f"folder:{photographs}", "train", "validation", **{**CROPS, **options})


def batches(split, count, size=8, **options):
    found = split.train_batches(size, **{"seed": 3, **options})
    return [next(found) for _ in range(count)]


def test_a_stream_can_continue_at_any_step_and_epochs_differ(photographs, caplog):
    train = load(photographs).train
    whole = batches(train, 16)  # 7 steps an epoch
    for start in (0, 1, 6, 7, 12):
        for one, other in zip(batches(train, 2, start=start), whole[start:], strict=False):
            for key in one:
                np.testing.assert_array_equal(one[key], other[key])
    assert any((a["label"] != b["label"]).any() for a, b in zip(whole[:7], whole[7:], strict=False))
    other = batches(train, 1, seed=4)[0]
    assert (other["image"] != whole[0]["image"]).any()
    assert "cannot be read" in caplog.text
    assert "3 images of 'folder:" in caplog.text


def test_processes_together_have_the_batches_of_one(photographs):
    one = load(photographs)
    parts = [load(photographs, share=Share(index, 2)) for index in range(2)]
    for step in (0, 9):
        (whole,) = batches(one.train, 1, start=step)
        halves = [batches(part.train, 1, start=step)[0] for part in parts]
        together = np.concatenate([half["label"] for half in halves])
        assert (together == whole["label"]).mean() > 0.8  # but what stands in for unreadable ones
    seen = [list(part.eval.eval_batches(8)) for part in parts]
    for number, whole in enumerate(one.eval.eval_batches(8)):
        for key, values in whole.items():
            halves = np.concatenate([part[number][key] for part in seen])
            np.testing.assert_array_equal(halves, values)


def test_evaluation_sees_every_readable_image_once_as_predict_does(photographs):
    from senet_jax.inference.preprocessing import Preprocessing

    dataset = load(photographs)
    source = lookup.find(f"folder:{photographs}")
    spec = (32, 32, 3), CROPS["eval_crop"], CROPS["interpolation"], (0.0,) * 3, (1.0,) * 3
    predict, places = Preprocessing(*spec), []
    for batch in dataset.eval.eval_batches(7):
        for image, place, mask in zip(batch["image"], batch["place"], batch["mask"], strict=True):
            if mask:
                places.append(int(place))
                file = source.examples["val"].files[place]
                np.testing.assert_array_equal(image, predict(image_files.open_image(file)))
    assert len(places) == len(set(places)) == 60 - len(BROKEN)


def test_corners_are_of_the_resized_image(photographs):
    five = load(photographs, corners=True).eval
    middle = load(photographs).eval
    batch, other = (next(split.eval_batches(16)) for split in (five, middle))
    assert batch["image"].shape == (16, 5, 32, 32, 3)
    np.testing.assert_array_equal(batch["image"][:, 4], other["image"])


def test_too_many_unreadable_images_are_an_error(photographs):
    with pytest.raises(InputError, match=r"3 images of .*max_unreadable is 2 \(last: .*cannot be"):
        list(load(photographs, max_unreadable=2).eval.eval_batches(30))


def test_random_windows_are_distributed_as_torchvisions():
    spec = CropSpec(**CROPS)
    ours, theirs = [], []
    for number in range(3000):
        left, top, right, bottom = pillow_crops.random_window(
            spec, (90, 60), np.random.default_rng(number)
        )
        assert 0 <= left < right <= 90
        assert 0 <= top < bottom <= 60
        ours.append((top, left, bottom - top, right - left))
        theirs.append(torchvisions_window(60, 90, np.random.default_rng([number, 1])))
    from scipy.stats import ks_2samp

    for one, other in zip(np.array(ours).T, np.array(theirs).T, strict=True):
        assert ks_2samp(one, other).pvalue > 1e-3
    assert pillow_crops.random_window(spec, (1000, 1), np.random.default_rng(0)) == (499, 0, 500, 1)


def test_an_epoch_of_a_stream_has_the_order_of_one_in_memory(tmp_path):
    root = write_folder(tmp_path)
    crops = {**CROPS, "image_size": 8}
    streamed = data.load_dataset(f"folder:{root}", "train", "test", **crops)
    kept = data.load_dataset(f"folder:{root}", "train", "test")
    assert isinstance(streamed.train, file_stream.FileStream)
    for one, other in zip(batches(streamed.train, 5), batches(kept.train, 5), strict=True):
        np.testing.assert_array_equal(one["label"], other["label"])
