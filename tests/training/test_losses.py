"""The losses of `train.loss` follow their definitions, written out in NumPy."""

import functools

import jax
import numpy as np
import pytest

from senet_jax.errors import InputError
from senet_jax.system.devices import split_batch
from senet_jax.training.losses import loss_of
from senet_jax.training.prepare import prepare

LOGITS = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
TARGETS = np.float32([[1, 0, 0, 0, 0], [0.3, 0.7, 0, 0, 0], [0.19, 0, 0.81, 0, 0], [0.2] * 5])


def written_out(targets):
    yes = 1 / (1 + np.exp(-LOGITS.astype(np.float64)))
    return -(targets * np.log(yes) + (1 - targets) * np.log(1 - yes)).sum(1) / 5


def test_binary_cross_entropy_is_the_mean_over_classes():
    np.testing.assert_allclose(loss_of("bce")(LOGITS, TARGETS), written_out(TARGETS), rtol=1e-5)


def test_targets_above_the_threshold_are_one_and_the_others_zero():
    binary = [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0] * 5]
    losses = loss_of("bce", np.float32(0.2))(LOGITS, TARGETS)
    np.testing.assert_allclose(losses, written_out(np.asarray(binary)), rtol=1e-5)


def test_large_logits_have_finite_losses_and_gradients():
    logits = LOGITS * 1e4
    loss, gradient = jax.value_and_grad(lambda x: loss_of("bce")(x, TARGETS).sum())(logits)
    assert np.isfinite(loss)
    assert np.isfinite(gradient).all()


def test_training_has_the_loss_that_was_chosen_and_evaluation_always_softmax(tiny, one_device):
    losses = {}
    tiny.data.pad = 0
    for loss in ("softmax", "bce"):
        tiny.train.loss = loss
        run = prepare(tiny, one_device)
        batch = next(run.dataset.train.train_batches(32, 0))
        variables = run.initial_state.variables
        images = run.normalize(batch["image"])
        train = functools.partial(run.model.apply, train=True, mutable=["batch_stats"])
        logits, _ = jax.jit(train)(variables, images)
        expected = loss_of(loss)(logits, jax.nn.one_hot(batch["label"], 10)).sum()
        masked = batch | {"mask": np.ones(32, np.float32), "place": np.arange(32)}
        masked = split_batch(masked, run.devices)
        losses[loss] = float(run.steps.eval(variables, masked)["loss"])
        _, sums = run.steps.train(run.initial_state, split_batch(batch, run.devices))
        np.testing.assert_allclose(sums["loss"], expected, rtol=1e-5)
    assert losses["bce"] == losses["softmax"]


def test_weights_of_classes_are_refused_with_it(tiny, one_device):
    tiny.train.loss = "bce"
    tiny.train.class_weights = "inverse"
    with pytest.raises(InputError, match=r"class_weights='inverse' cannot go with loss='bce'"):
        prepare(tiny, one_device)
