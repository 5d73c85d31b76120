"""Folds: equal in sizes and classes, together all of a split, and what a run on one is."""

import dataclasses
import itertools

import numpy as np
import pytest
from helpers.runs import finish_untrained, tiny_config
from hypothesis import assume, given
from hypothesis import strategies as st

from senet_jax import data
from senet_jax.data.folds import Fold
from senet_jax.data.in_memory import Images
from senet_jax.errors import InputError
from senet_jax.inference.ensemble_views import TestViews, load_feeds, split_of
from senet_jax.inference.trained_run import load_trained_network
from senet_jax.training.prepare import prepare


def images_with(labels):
    """Images whose one pixel is their place."""
    places = np.arange(len(labels), dtype=np.uint8)
    return Images(places.reshape(-1, 1, 1, 1), np.array(labels, np.int32))


def pixels_of(split):
    """The pixel of each image."""
    return np.asarray(split.image).ravel().tolist()


@given(st.lists(st.integers(0, 4), min_size=2, max_size=80), st.data())
def test_folds_are_stratified_and_together_are_the_split(labels, draw):
    count = draw.draw(st.integers(2, min(7, len(labels))))
    seed, split = draw.draw(st.integers(0, 3)), images_with(labels)
    parts = [Fold(number, count, seed).divide(split) for number in range(1, count + 1)]
    evaluated = [pixels_of(part) for _, part in parts]
    assert sorted(itertools.chain(*evaluated)) == [*range(len(labels))]
    for train, part in parts:
        assert sorted([*pixels_of(train), *pixels_of(part)]) == [*range(len(labels))]
        assert (split.label[pixels_of(part)] == part.label).all()
        assert (np.diff(pixels_of(part)) > 0).all()  # in the order of the split
    sizes = [len(part) for _, part in parts]
    assert max(sizes) - min(sizes) <= 1
    for label in range(5):
        counts = [(part.label == label).sum() for _, part in parts]
        assert max(counts) - min(counts) <= 1
    again = Fold(1, count, seed).divide(split)[1]
    assert pixels_of(again) == evaluated[0]


@given(st.lists(st.integers(0, 2), min_size=4, max_size=40), st.data())
def test_no_fold_has_what_stands_in_for_an_unreadable_image(labels, draw):
    """It may be an image of another fold, and training would see images of the evaluation.

    All images are where they are in a stream, which does not know what cannot be read.
    """
    split = images_with(labels)
    bad = draw.draw(st.sets(st.integers(0, len(labels) - 1), max_size=3))
    stand_in = split.label.copy()
    stand_in[[*bad]] = (stand_in[[*bad]] + 1) % 3  # of what stands there
    of_bad = {place: labels[place] for place in bad}
    known = dataclasses.replace(split, label=stand_in, unreadable=of_bad)
    for fold in (Fold(1, 2), Fold(2, 2)):
        expected = fold.divide(split)
        assume(all(set(pixels_of(part)) - bad for part in expected))
        train, evaluation = fold.divide(known)
        assert pixels_of(train) == [pixel for pixel in pixels_of(expected[0]) if pixel not in bad]
        assert not train.unreadable
        assert pixels_of(evaluation) == pixels_of(expected[1])
        masked = {pixels_of(evaluation)[place] for place in evaluation.unreadable}
        assert masked == bad & {*pixels_of(evaluation)}


@pytest.mark.parametrize(("number", "part"), [(1, "evaluated"), (2, "trained")])
def test_a_part_of_which_nothing_can_be_read_is_refused(number, part):
    split = images_with(labels := [0, 0, 1, 1])
    bad = {place: labels[place] for place in pixels_of(Fold(1, 2).divide(split)[1])}
    with pytest.raises(InputError, match=f"fold {number} of 2 has no image to be {part} on"):
        Fold(number, 2).divide(dataclasses.replace(split, unreadable=bad))


def test_examples_are_taken_with_what_is_said_of_them():
    split = dataclasses.replace(images_with([0, 1, 2, 3]), unreadable={1: 2, 3: 0})
    part = split.take(np.array([3, 0, 1])).take(np.array([2, 0]))
    assert pixels_of(part) == [1, 3]
    assert (part.label.tolist(), part.unreadable) == ([1, 3], {0: 2, 1: 0})
    assert isinstance(split.take(np.array([1, 2])).image, np.ndarray)  # a part of the same memory


def test_another_seed_draws_other_folds():
    split = images_with([0, 1] * 50)
    drawn = {(*pixels_of(Fold(1, 5, seed).divide(split)[1]),) for seed in range(5)}
    assert len(drawn) == 5


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ((1,), r"such as \(1, 5\), not \(1,\)"),
        ((0, 5), r"such as \(1, 5\) or \(1, 5, 0\), not \(0, 5, 0\)"),
        ((6, 5), r"not \(6, 5, 0\)"),
        ((1, 1), r"not \(1, 1, 0\)"),
        ((1, 5, -1), r"not \(1, 5, -1\)"),
        ((1.0, 5), r"not \(1\.0, 5\)"),
        ((True, 5), r"not \(True, 5\)"),
        (5, "not 5"),
    ],
)
def test_what_is_no_fold_is_refused(values, sentence):
    with pytest.raises(InputError, match=f"^data.fold must be .*{sentence}"):
        Fold.of(values)


def test_images_that_cannot_be_divided_are_refused():
    import helpers.photos  # (registers the builder)

    assert Fold.of(()) is None
    with pytest.raises(InputError, match="asks for 3 folds of 2 training examples"):
        Fold(1, 3).divide(images_with([0, 1]))
    with pytest.raises(InputError, match=r"data\.fold has no effect on 'fake'"):
        data.load_dataset("fake", "train", "test", fold=(1, 5))
    with pytest.raises(InputError, match=r"data\.fold is for images that are kept in memory"):
        data.load_dataset("photos", "whole", "whole", fold=(1, 5), **helpers.photos.CROPS)


def test_a_run_on_a_fold_is_evaluated_on_it(tmp_path, one_device):
    """By itself, and by the command, unless that is asked for another split."""
    config = tiny_config()
    config.data.update({"fold": (2, 4), "eval_split": "test"})
    run = prepare(config, one_device)
    whole = data.load_dataset("digits", "train[:128]", "test").train
    assert (len(run.dataset.train), len(run.dataset.eval)) == (96, 32)
    assert run.dataset.mean != data.load_dataset("digits", "train[:128]", "test").mean
    train, evaluation = Fold(2, 4).divide(whole)
    np.testing.assert_array_equal(run.dataset.train.image, train.image)
    np.testing.assert_array_equal(run.dataset.eval.image, evaluation.image)
    finish_untrained(tmp_path / "2", config)
    member = load_trained_network(tmp_path / "2")
    assert split_of([member], None) == ("train[:128]", (2, 4))
    assert split_of([member], "test") == ("test", ())
    (feed,) = load_feeds([member], "digits", "train[:128]", TestViews(), (2, 4))
    np.testing.assert_array_equal(feed.split.image, evaluation.image)
    section = member.config["data"] | {"fold": (1, 4)}
    other = dataclasses.replace(member, config=member.config | {"data": section})
    with pytest.raises(InputError, match="each was trained on images of the others"):
        split_of([member, other], None)
    assert split_of([member, other], "test") == ("test", ())
