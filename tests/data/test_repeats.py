"""Repeated augmentation: so many views of an example in a batch, in an order that is a function."""

import itertools

import jax
import numpy as np
import pytest
from helpers.image_folders import write_folder
from helpers.photos import CROPS

from senet_jax import data
from senet_jax.data.in_memory import Images
from senet_jax.data.split import Share, places_of_batch
from senet_jax.errors import InputError

IMAGES = np.arange(60, dtype=np.uint8)[:, None, None, None]


def labels_of(repeats, batch_size=12, start=0, count=5, share=None):
    """The examples of some batches: the label of each is its number."""
    split = Images(IMAGES, np.arange(60), *([share] if share else []), repeats=repeats)
    batches = itertools.islice(split.train_batches(batch_size, 7, start), count)
    return np.stack([batch["label"] for batch in batches])


@pytest.mark.parametrize(("size", "repeats"), [(12, 3), (16, 3), (7, 2), (8, 1)])
def test_places_are_those_of_the_batch_and_views_of_an_example_are_apart(size, repeats):
    for first in (0, size, 5 * size):
        places = places_of_batch(first, size, repeats)
        assert sorted(places) == list(range(first, first + size))
        examples = places // repeats
        assert (np.diff(examples) != 0).all()
        if repeats == 1:
            assert (places == np.arange(first, first + size)).all()


def test_a_batch_has_three_views_of_its_examples_and_an_epoch_a_third_of_all():
    repeated, plain = labels_of(3), labels_of(1)
    for batch in repeated:
        assert {*np.unique(batch, return_counts=True)[1]} == {3}
        assert (np.diff(batch) != 0).all()
    assert len(np.unique(repeated)) == 20  # of an epoch of five batches
    np.testing.assert_array_equal(repeated[0, :4], plain[0, :4])  # in the order of the epoch
    assert len(np.unique(labels_of(3, start=5))) == 20
    assert {*np.unique(labels_of(3, start=5))} != {*np.unique(repeated)}


def test_it_continues_at_any_step_and_processes_share_the_batches_of_one():
    whole = labels_of(3, count=12)
    for start in (1, 4, 5, 7):
        np.testing.assert_array_equal(labels_of(3, start=start, count=3), whole[start : start + 3])
    parts = [labels_of(3, share=Share(index, 2), count=12) for index in range(2)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)


def streamed(repeats, name="photos", **fields):
    return data.load_dataset(name, "whole", "whole", repeats=repeats, **CROPS | fields).train


def test_streamed_views_are_crops_of_their_own_and_go_on_at_any_step():
    split = streamed(3, max_unreadable=0)
    batches = [*itertools.islice(split.train_batches(6, 0), 4)]
    views = {}
    for batch in batches:
        labels, counts = np.unique(batch["label"], return_counts=True)
        assert (counts == 3).all()
        for label in labels:
            images = batch["image"][batch["label"] == label]
            views.setdefault(label, []).extend(images)
    different = [len({image.tobytes() for image in images}) for images in views.values()]
    assert max(different) >= 3
    (again,) = itertools.islice(split.train_batches(6, 0, 2), 1)
    for key, values in again.items():
        np.testing.assert_array_equal(values, batches[2][key])


@pytest.mark.parametrize(("way", "met"), [("tfds", 2), ("files", 8)])
def test_an_image_that_cannot_be_read_counts_once(way, met, tmp_path):
    """At most `met` of them are in the third of all examples that an epoch sees, three times."""
    name, split = "photos", "with_broken"
    if way == "files":
        name, split = f"folder:{write_folder(tmp_path / 'photos')}", "train+test"
        for path in sorted((tmp_path / "photos").rglob("*.png"))[::8]:
            path.write_bytes(path.read_bytes()[:200])

    def read_epoch(most):
        fields = CROPS | {"max_unreadable": most}
        images = data.load_dataset(name, split, split, repeats=3, **fields).train
        steps = len(images) // 12
        return sum(1 for _ in itertools.islice(images.train_batches(12, 1), steps)) == steps

    assert read_epoch(met)
    with pytest.raises(InputError, match=r"^1 image of .* data\.max_unreadable is 0"):
        read_epoch(0)


@pytest.mark.parametrize(("name", "repeats"), [("digits", 0), ("digits", True), ("fake", 2)])
def test_what_cannot_be_repeated_is_refused(name, repeats):
    with pytest.raises(InputError, match=r"data\.repeats"):
        data.load_dataset(name, "train", "test", repeats=repeats)


def test_statistics_and_sizes_are_those_of_the_split():
    plain, repeated = (data.load_dataset("digits", "train", "test", repeats=n) for n in (1, 3))
    assert plain.mean == repeated.mean
    assert len(plain.train) == len(repeated.train)
    assert (plain.eval.repeats, repeated.eval.repeats) == (1, 1)


def test_files_have_views_as_well(tmp_path):
    write_folder(tmp_path / "photos")
    split = data.load_dataset(
        f"folder:{tmp_path / 'photos'}", "train", "test", repeats=2, **CROPS
    ).train
    batch = next(split.train_batches(4, 0))
    assert batch["image"].shape[0] == 4
    assert (batch["label"][:2] == batch["label"][2:]).all()
    assert (batch["image"][:2] != batch["image"][2:]).any()
    assert jax.numpy.isfinite(batch["image"].astype(np.float32)).all()
