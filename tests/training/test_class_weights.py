"""Weights of classes: what each rule gives, how they enter the loss, and what has no effect."""

import json
from dataclasses import fields as fields_of

import jax
import numpy as np
import optax
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from configs import common
from senet_jax import data
from senet_jax.config import flatten
from senet_jax.data.augment import Augmentation, Mixing
from senet_jax.errors import InputError
from senet_jax.training.class_weights import of_classes
from senet_jax.training.prepare import prepare
from senet_jax.training.step import Inputs


@given(st.lists(st.integers(1, 5000), min_size=2, max_size=9).filter(lambda c: len(set(c)) > 1))
def test_rules_are_their_definitions_and_the_mean_over_examples_is_one(counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    balanced = compute_class_weight("balanced", classes=np.arange(len(counts)), y=labels)
    ours = np.array(of_classes("inverse", np.array(counts)))
    np.testing.assert_allclose(ours, balanced, rtol=1e-12)
    effective = np.array(of_classes("effective:0.9999", np.array(counts)))
    for text, weights in (("inverse", ours), ("effective:0.9999", effective)):
        assert weights[labels].mean() == pytest.approx(1), text
    numbers = [sum(0.9999**k for k in range(count)) for count in counts]  # Cui et al., equation 3
    np.testing.assert_allclose(effective * numbers, effective[0] * numbers[0], rtol=1e-6)
    chosen = np.arange(1, 1 + len(counts))
    scaled = np.array(of_classes(",".join(map(str, chosen)), np.array(counts)))
    np.testing.assert_allclose(scaled / scaled[0], chosen, rtol=1e-12)
    assert scaled[labels].mean() == pytest.approx(1)


def test_a_class_without_training_examples_has_no_weight():
    assert of_classes("inverse", np.array([4, 0, 1])) == (0.625, 0, 2.5)
    assert of_classes("", np.array([4, 0, 1])) == ()
    assert of_classes("2 1\t1", np.array([1, 0, 1])) == pytest.approx((4 / 3, 2 / 3, 2 / 3))


@pytest.mark.parametrize(
    ("text", "counts", "sentence"),
    [
        ("inverse", (7, 7, 0), "weights all classes alike, which have 7 training examples"),
        ("effective:0.5", (900, 70), "weights all classes alike, which have 70 to 900 training ex"),
        ("3,3", (9, 7), "'3,3' has no effect: it weights all classes alike"),
        ("1,2,3", (9, 7), "has 3 numbers, but there are 2 classes"),
    ],
)
def test_what_has_no_effect_or_does_not_fit_is_refused(text, counts, sentence):
    with pytest.raises(InputError, match=sentence):
        of_classes(text, np.array(counts))


def inputs(weights, **fields):
    section = flatten(common.get_config().data.to_dict())
    augment = Augmentation(**{field.name: section[field.name] for field in fields_of(Augmentation)})
    return Inputs(augment, lambda images: images, class_weights=weights, **fields)


def keys(count):
    return jax.random.split(jax.random.key(0), count)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_loss_is_that_of_pytorch_before_it_divides_by_the_weights(smoothing):
    """The loss of an example: smoothed targets, each class's part times its weight."""
    rng = np.random.default_rng(0)
    labels, logits = rng.integers(0, 3, 20), rng.standard_normal((20, 3))
    weights = (0.5, 3.0, 1.0)
    batch = {"image": np.zeros((20, 2, 2, 1), np.float32), "label": labels}
    _, targets = inputs(weights, label_smoothing=smoothing)(keys(20), batch, 3)
    losses = optax.softmax_cross_entropy(np.float32(logits), targets)
    log_p = scipy.special.log_softmax(logits, axis=1)
    w = np.array(weights)
    expected = (1 - smoothing) * w[labels] * -log_p[np.arange(20), labels]
    expected += smoothing / 3 * (w * -log_p).sum(1)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


@pytest.mark.parametrize("mixing", [None, Mixing(mixup=1.0, cutmix=0.0)])
def test_mixed_targets_are_weighted_class_by_class_and_images_are_what_they_were(mixing):
    images = np.random.default_rng(0).random((4, 2, 2, 1), np.float32)
    batch = {"image": images, "label": np.arange(4) % 3}
    (plain, targets), (weighted, products) = (
        inputs(weights, mixing=mixing)(keys(4), batch, 3) for weights in ((), (0.5, 3.0, 1.0))
    )
    np.testing.assert_array_equal(plain, weighted)
    np.testing.assert_allclose(products, np.asarray(targets) * np.array([0.5, 3.0, 1.0]), rtol=1e-6)
    assert (targets.max(1) < 1).all() == bool(mixing)


def test_a_run_counts_its_training_split(tiny, one_device):
    tiny.train.class_weights = "inverse"
    run = prepare(tiny, one_device)
    labels = run.dataset.train.label
    np.testing.assert_allclose(
        run.class_weights, len(labels) / 10 / np.bincount(labels, minlength=10)
    )


def test_streamed_labels_are_read_through_and_noise_has_none():
    from helpers.photos import BROKEN, COUNT, CROPS

    split = data.load_dataset("photos", "whole", "whole", **CROPS).train
    assert sorted(split.labels()) == [n for n in range(COUNT) if n not in BROKEN]
    with pytest.raises(InputError, match="'fake' is noise, whose labels cannot be counted"):
        data.load_dataset("fake", "train", "test").train.labels()


def test_the_key_is_text_in_a_configuration(tiny):
    assert json.loads(tiny.to_json())["train"]["class_weights"] == ""
