"""Sums over gates against NumPy on all gates at once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from senet_jax.inference.gate_statistics import (
    GateSums,
    make_gate_step,
    record,
    summary_of_image,
)
from senet_jax.inference.gated_blocks import GatedBlock, gates_of
from senet_jax.system.devices import AXIS, map_step
from senet_jax.training.prepare import prepare


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def make_sums(gates_of_all, labels, classes, parts=3):
    sums = GateSums.zeros(classes, gates_of_all.shape[1])
    for part in np.array_split(np.arange(len(labels)), parts):
        sums.add(gates_of_all[part], labels[part])
    return sums


@pytest.mark.parametrize("spread", [0.3, 1e-5])
def test_statistics_are_those_of_all_gates(rng, spread):
    """Sums agree with NumPy on all gates at once, also where gates hardly differ."""
    labels = rng.choice([0, 1, 1, 3], 200)  # class 2 has no examples, class 1 more than others
    means = 0.5 + spread * rng.uniform(-1, 1, (4, 7))
    all_gates = np.float32(means[labels] + spread * rng.uniform(-0.6, 0.6, (200, 7)))
    sums = make_sums(all_gates, labels, 4)
    summary, x = sums.summary(), np.float64(all_gates)
    tolerance = {"rtol": 1e-9 if spread > 0.1 else 1e-4}
    np.testing.assert_allclose(summary["mean"], x.mean(), rtol=1e-12)
    np.testing.assert_allclose(summary["std"], x.std(), **tolerance)
    assert summary["high"] == (x > 0.95).mean()
    assert summary["low"] == (x < 0.05).mean()
    group_means = np.stack([x[labels == label].mean(0) for label in labels])
    np.testing.assert_allclose(
        summary["between"], ((group_means - x.mean(0)) ** 2).mean(), **tolerance
    )
    np.testing.assert_allclose(summary["within"], ((x - group_means) ** 2).mean(), **tolerance)
    np.testing.assert_allclose(
        summary["std"] ** 2, summary["between"] + summary["within"] + x.mean(0).var(), **tolerance
    )
    assert np.isnan(sums.class_means[2]).all()
    np.testing.assert_allclose(sums.class_means[1], x[labels == 1].mean(0), rtol=1e-12)


def test_the_share_of_classes_is_one_zero_or_not_a_number(rng):
    labels = np.repeat([0, 1], 50)
    of_class = rng.uniform(size=(2, 5))[labels]
    assert make_sums(of_class, labels, 2).summary()["share"] == pytest.approx(1)
    equal = np.tile(rng.uniform(size=(50, 5)), (2, 1))
    assert make_sums(equal, labels, 2).summary()["share"] == pytest.approx(0, abs=1e-9)
    assert np.isnan(make_sums(np.ones((100, 5)), labels, 2).summary()["share"])


def test_blocks_get_their_own_channels(rng):
    all_gates, labels = rng.uniform(size=(20, 5)), rng.integers(0, 3, 20)
    first, second = GatedBlock("a", 2, 2), GatedBlock("b", 3, 3)
    split = dict(make_sums(all_gates, labels, 3).split((first, second)))
    np.testing.assert_allclose(split[first].mean, all_gates[:, :2].mean(0))
    assert split[second].summary() == pytest.approx(
        make_sums(all_gates[:, 2:], labels, 3).summary()
    )


@pytest.mark.parametrize("count", [1, 4])
def test_every_example_is_recorded_once_and_padding_is_not(tiny, count):
    """Batches of 32 of 50 examples give what one pass over all of them gives."""
    devices = jax.local_devices()[:count]
    run = prepare(tiny, devices)
    step = make_gate_step(run.model, run.normalize, AXIS)
    mapped = map_step(step, devices, donate_state=False)
    sums = record(mapped, run.initial_state.variables, run.dataset.eval, 32, 10, devices)
    variables = jax.tree.map(np.asarray, run.initial_state.variables)
    images = run.normalize(jnp.asarray(run.dataset.eval.image))
    gates = jax.jit(functools.partial(gates_of, run.model))(variables, images)
    direct = np.concatenate([*gates.values()], axis=1, dtype=np.float64)
    labels = run.dataset.eval.label
    np.testing.assert_array_equal(sums.examples, np.bincount(labels, minlength=10))
    np.testing.assert_allclose(sums.mean, direct.mean(0), rtol=1e-5)
    np.testing.assert_allclose(sums.class_means[3], direct[labels == 3].mean(0), rtol=1e-5)
    np.testing.assert_allclose(sums.squares, (direct**2).sum(0), rtol=1e-5)


def test_what_a_block_did_is_summed_up():
    gates = np.array([0.5, 0.99, 0.01, 0.6, 0.97, 0.02, 0.4, 0.51], np.float32)
    summary = summary_of_image(gates, most=2)
    assert summary["channels"] == 8
    assert summary["mean"] == pytest.approx(0.5)
    assert (summary["high"], summary["low"]) == (0.25, 0.25)
    assert [channel for channel, _ in summary["most_open"]] == [1, 4]
    assert [channel for channel, _ in summary["most_shut"]] == [2, 5]
