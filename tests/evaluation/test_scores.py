"""Scores in float64 against the evaluation step's and SciPy's."""

import jax
import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st

from senet_jax.evaluation.loop import pack, unpack
from senet_jax.evaluation.scores import log_probabilities, sums
from senet_jax.evaluation.steps import classification_sums


@pytest.fixture
def scored():
    """Logits [B, V, K], some of them equal or not finite, labels, and a mask."""
    rng = np.random.default_rng(0)
    logits = np.float32(rng.integers(-3, 4, (40, 1, 7)) * 300)
    logits[3, 0, 2] = np.nan
    logits[5, 0, 0] = np.inf
    return logits, rng.integers(0, 7, 40).astype(np.int32), np.float32(rng.random(40) < 0.8)


def test_scores_are_those_of_the_evaluation_step(scored):
    logits, label, mask = scored
    mask[[3, 5]] = 1
    losses = jax.numpy.zeros(40)
    expected = classification_sums(losses, jax.numpy.asarray(logits[:, 0]), label, mask)
    counted = sums(log_probabilities(logits), label, mask)
    for name in ("top1", "top5", "examples"):
        assert counted[name] == expected[name], name
    assert np.isnan(counted["loss"])
    mask[[3, 5]] = 0
    counted = sums(log_probabilities(logits), label, mask)
    real = np.flatnonzero(mask)
    expected = scipy.special.log_softmax(np.float64(logits[real, 0]), axis=-1)
    of_label = expected[np.arange(len(real)), label[real]]
    assert of_label.min() < -1000  # a probability of this logarithm is 0, and its loss is finite
    assert counted["loss"] == pytest.approx(-of_label.sum(), rel=1e-12)
    assert counted["probability"] == pytest.approx(np.exp(of_label).sum(), rel=1e-12)


@given(right=st.lists(st.integers(0, 1), min_size=1, max_size=70))
def test_right_and_wrong_are_kept_at_a_bit_each(right):
    text = pack(np.array(right))
    assert unpack(text, len(right)).tolist() == right
    with pytest.raises(ValueError, match=f"cannot be those of {len(right) + 8} examples"):
        unpack(text, len(right) + 8)


def test_log_probabilities_are_those_of_the_mean(scored):
    views = np.concatenate([scored[0][6:], scored[0][6:, :, ::-1] / 2], axis=1) / 50
    expected = np.log(scipy.special.softmax(np.float64(views), axis=-1).mean(axis=1))
    np.testing.assert_allclose(log_probabilities(views), expected, rtol=1e-12)
