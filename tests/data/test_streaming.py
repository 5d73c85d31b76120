"""Streamed images: a function of (seed, epoch), every example once, and crops as they should be."""

import collections
import io
import itertools
import logging

import numpy as np
import pytest
from helpers.photos import BROKEN, COUNT, CROPS, center_crop, encoded, resized
from helpers.quick import one_in
from helpers.runs import photos_config
from PIL import Image

from senet_jax import data
from senet_jax.errors import InputError
from senet_jax.training.loop import train_and_evaluate


def load(split="whole", **crops):
    return data.load_dataset("photos", split, split, **{**CROPS, **crops})


def labels(batches, count):
    return np.concatenate([next(batches)["label"] for _ in range(count)])


@pytest.mark.parametrize(
    ("interpolation", "eval_crop"), [("bilinear", 0.875), ("bicubic", 0.95), ("bilinear", 1.0)]
)
def test_evaluation_is_torchvisions_resize_and_crop(interpolation, eval_crop):
    seen = []
    dataset = load(interpolation=interpolation, eval_crop=eval_crop)
    for batch in dataset.eval.eval_batches(16):
        for image, label, mask in zip(*(batch[k] for k in ("image", "label", "mask")), strict=True):
            if mask == 0:
                continue
            seen.append(int(label))
            original = Image.open(io.BytesIO(encoded(label))).convert("RGB")
            whole = resized(original, 32, eval_crop, interpolation)
            assert np.abs(image - np.asarray(center_crop(whole, 32), int)).max() <= 1, label
    assert sorted(seen) == [index for index in range(COUNT) if index not in BROKEN]


def test_corners_are_torchvisions_and_of_one_pass():
    """Five crops of the resized image, in the order of its TenCrop, without mirror images."""
    seen = []
    for batch in load("with_broken", corners=True, eval_crop=0.8).eval.eval_batches(16):
        assert batch["image"].shape == (16, 5, 32, 32, 3)
        for views, label, mask in zip(*(batch[k] for k in ("image", "label", "mask")), strict=True):
            if mask == 0:
                continue
            seen.append(int(label))
            whole = resized(
                Image.open(io.BytesIO(encoded(label))).convert("RGB"), 32, 0.8, "bilinear"
            )
            right, bottom = whole.width - 32, whole.height - 32
            corners = [(0, 0), (right, 0), (0, bottom), (right, bottom)]
            expected = [whole.crop((x, y, x + 32, y + 32)) for x, y in corners]
            expected = np.stack([*map(np.asarray, expected), np.asarray(center_crop(whole, 32))])
            assert np.abs(views - expected.astype(int)).max() <= 1, label
    assert sorted(seen) == [index for index in range(COUNT) if index not in BROKEN]


def test_a_run_can_continue_at_any_step():
    train = load().train  # 57 images: 7 steps of 8 an epoch
    whole = [batch for batch, _ in zip(train.train_batches(8, seed=3), range(16), strict=False)]
    for start in (7, 12):  # an epoch, and two steps before the end of the next
        resumed = train.train_batches(8, seed=3, start=start)
        for batch in whole[start : start + 3]:
            again = next(resumed)
            np.testing.assert_array_equal(batch["label"], again["label"])
            np.testing.assert_array_equal(batch["image"], again["image"])


def test_an_epoch_has_no_example_twice_and_epochs_and_seeds_differ():
    train = load().train
    batches = train.train_batches(19, seed=3)
    first, second = labels(batches, 3), labels(batches, 3)
    assert sorted(first) == sorted(second) == sorted(set(first))
    assert len(first) == 57
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, labels(train.train_batches(19, seed=4), 3))


def test_crops_of_an_image_differ_between_epochs():
    batches = load().train.train_batches(57, seed=0)
    one, two = (
        {int(y): image for image, y in zip(batch["image"], batch["label"], strict=True)}
        for batch in (next(batches), next(batches))
    )
    assert all((one[y] != two[y]).any() for y in one)


def shares(count, split="whole", **options):
    return [load(split, share=data.Share(index, count), **options) for index in range(count)]


def labels_by_place(batches):
    """The place and the label of every example, in order of the places."""
    return sorted(
        (int(place), int(label))
        for batch in batches
        for place, label, mask in zip(batch["place"], batch["label"], batch["mask"], strict=True)
        if mask
    )


@pytest.mark.parametrize(
    ("split", "count"),
    one_in(2, [("whole[:40%]+whole[20:49]", 2), ("whole", 3)], "three streams more"),
)
def test_processes_share_the_records_without_loss_or_double(split, count):
    together = load(split)
    size, examples = 2 * count, len(together.train)
    steps = examples // size
    processes = shares(count, split)
    epochs = [labels(part.train.train_batches(size, seed=0), steps).tolist() for part in processes]
    assert all(len(epoch) == steps * 2 for epoch in epochs)
    parts = [list(part.eval.eval_batches(size)) for part in processes]
    assert {len(batches) for batches in parts} == {-(-examples // size)}
    seen = [[int(y) for b in part for y in b["label"][b["mask"] == 1]] for part in parts]
    whole = [int(y) for b in together.eval.eval_batches(7) for y in b["label"][b["mask"] == 1]]
    assert sorted(itertools.chain(*seen)) == sorted(whole)
    # Wherever an example is evaluated, its place in the split is the same.
    assert labels_by_place(itertools.chain(*parts)) == list(enumerate(whole))
    for trained, evaluated in zip(epochs, seen, strict=True):
        assert not collections.Counter(trained) - collections.Counter(evaluated)
        assert trained != sorted(trained)


def test_shares_are_shuffled_and_cropped_each_in_its_own_way():
    # Both processes have the same records.
    one, two = (
        next(part.train.train_batches(48, seed=0)) for part in shares(2, "whole[:24]+whole[:24]")
    )
    assert sorted(one["label"]) == sorted(two["label"])
    assert not np.array_equal(one["label"], two["label"])
    for image, label in zip(*one.values(), strict=True):
        (place,) = np.flatnonzero(two["label"] == label)
        assert (image != two["image"][place]).any()


@pytest.mark.slow(reason="reads once more what a single process reads; begins in the same way")
def test_a_process_can_continue_at_any_step():
    train = shares(3)[1].train  # 57 images: 4 steps of 12 an epoch
    whole = list(itertools.islice(train.train_batches(12, seed=3), 9))
    for start in (4, 6):
        again = next(train.train_batches(12, seed=3, start=start))
        for key, expected in whole[start].items():
            np.testing.assert_array_equal(again[key], expected)


def test_a_share_of_nothing_is_padding():
    batches = [list(part.eval.eval_batches(4)) for part in shares(2, "whole[:1]")]
    assert [len(part) for part in batches] == [1] * 2
    assert sorted(int(part[0]["mask"].sum()) for part in batches) == [0, 1]
    assert all(part[0]["image"].shape == (2, 32, 32, 3) for part in batches)


def test_images_that_cannot_be_decoded_are_replaced_in_training_and_masked_in_evaluation(caplog):
    dataset = load("with_broken")
    with caplog.at_level(logging.WARNING):
        epoch = labels(dataset.train.train_batches(60, seed=0), 1)
    assert "3 images of 'photos' so far in this pass cannot be decoded" in caplog.text
    assert not set(BROKEN) & set(epoch.tolist())
    assert len(set(epoch.tolist())) == COUNT - len(BROKEN)
    by_place = labels_by_place(dataset.eval.eval_batches(7))
    assert by_place == labels_by_place(dataset.eval.eval_batches(60))
    assert sorted(label for _, label in by_place) == [y for y in range(COUNT) if y not in BROKEN]
    assert max(place for place, _ in by_place) == COUNT - 1 > len(by_place)


def test_too_many_images_that_cannot_be_decoded_are_an_error():
    dataset = load("with_broken", max_unreadable=2)
    with pytest.raises(InputError, match=r"3 images of 'photos'.*data.max_unreadable is 2"):
        next(dataset.train.train_batches(60, seed=0))
    with pytest.raises(InputError, match="3 images"):
        list(dataset.eval.eval_batches(60))


def test_grey_images_of_one_size_can_be_streamed_too():
    batch = next(
        data.load_dataset("digits", "train", "test", **CROPS).train.train_batches(8, seed=0)
    )
    assert batch["image"].shape == (8, 32, 32, 3)
    assert (batch["image"] == batch["image"][..., :1]).all()


def test_fake_data_has_the_size_of_imagenet():
    fake = data.load_dataset("fake", "train", "test", **CROPS)
    assert len(fake.train) == 1_281_167
    assert next(fake.train.train_batches(4, seed=0))["image"].shape == (4, 32, 32, 3)
    assert sum(batch["mask"].sum() for batch in fake.eval.eval_batches(100)) == len(fake.eval)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"image_size": -1}, "image_size must be at least 0, not -1"),
        ({"eval_crop": 1.5}, "eval_crop must be above 0 and at most 1, not 1.5"),
        ({"crop_area": 0.0}, "crop_area must be above 0 and at most 1, not 0.0"),
        ({"interpolation": "cubic"}, "interpolation must be bilinear or bicubic, not 'cubic'"),
        ({"shuffle_buffer": 0}, "shuffle_buffer must be at least 1, not 0"),
        ({"split": "trian"}, "no examples in split 'trian'"),
    ],
)
def test_bad_values_are_refused_with_a_sentence(fields, sentence):
    with pytest.raises(InputError, match=sentence):
        load(**fields)


def test_images_of_many_sizes_in_memory_are_refused_and_told_how_to_stream():
    with pytest.raises(InputError, match=r"set data.image_size to stream it"):
        data.load_dataset("photos", "whole", "whole")


@pytest.mark.slow(reason="trains on photographs twice; the tests of `evaluate` do so once")
def test_a_network_trains_on_streamed_images(tmp_path):
    results = [train_and_evaluate(photos_config(), tmp_path / str(index)) for index in range(2)]
    assert results[0]["eval/examples"] == COUNT - len(BROKEN)
    assert results[0]["params_sha256"] == results[1]["params_sha256"]
