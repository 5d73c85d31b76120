"""Mixup and CutMix mix neighbours, pixels and targets in the same shares."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from senet_jax.data.augment import Mixing


def mixed(mixing, count=64, size=16):
    """Images of one colour each and one-hot targets, mixed; both as shares of the own example."""
    keys = jax.random.split(jax.random.key(3), count)
    images = jnp.broadcast_to(jnp.arange(count)[:, None, None, None] % 2, (count, size, size, 3))
    targets = jax.nn.one_hot(jnp.arange(count), count)
    new_images, new_targets = jax.jit(mixing)(keys, images.astype(jnp.float32), targets)
    own = np.diag(new_targets)
    even = np.arange(count) % 2 == 0
    pixels = np.where(even[:, None, None, None], 1 - new_images, new_images)
    np.testing.assert_allclose(new_targets.sum(1), 1, rtol=1e-6)
    partner = np.arange(count) ^ 1
    np.testing.assert_allclose(new_targets[np.arange(count), partner], 1 - own, atol=1e-6)
    return pixels, own


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_mixup_mixes_pixels_in_the_shares_of_the_targets(alpha):
    pixels, own = mixed(Mixing(mixup=alpha))
    np.testing.assert_allclose(
        pixels, np.broadcast_to(own[:, None, None, None], pixels.shape), atol=1e-6
    )
    np.testing.assert_allclose(own[::2], own[1::2], atol=1e-6)
    # Beta(a, a) has the variance 1 / (4 (2 a + 1)).
    assert np.var(own[::2]) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.5)


def test_cutmix_pastes_a_rectangle_of_the_share_of_the_targets():
    pixels, own = mixed(Mixing(cutmix=1.0))
    assert set(np.unique(pixels)) == {0.0, 1.0}
    np.testing.assert_allclose(pixels.mean((1, 2, 3)), own, atol=1e-6)
    assert 0.4 < own.mean() < 0.9  # rectangles at the edge are cut off
    for image in pixels[..., 0]:
        pasted = image == 0
        rows, columns = pasted.any(1), pasted.any(0)
        np.testing.assert_array_equal(pasted, rows[:, None] & columns)
        for line in (rows, columns):
            assert np.sum(np.diff(line.astype(int)) != 0) <= 2


def test_with_both_each_pair_gets_one_of_them():
    pixels, _ = mixed(Mixing(mixup=1.0, cutmix=1.0))
    cut = [bool(np.isin(image, (0, 1)).all()) for image in pixels]
    assert 0.2 < np.mean(cut) < 0.8


def test_a_part_of_the_pairs_is_mixed_and_a_part_of_these_by_rectangles():
    both = {"mixup": 1.0, "cutmix": 1.0, "mix_probability": 0.6, "cutmix_probability": 0.9}
    pixels, own = mixed(Mixing(**both), count=2000, size=8)
    mixes = own[::2] < 1
    assert abs(mixes.mean() - 0.6) < 4 * np.sqrt(0.24 / 1000) + 0.03  # some rectangles are empty
    cut = np.array([bool(np.isin(image, (0, 1)).all()) for image in pixels[::2]])
    assert abs(cut[mixes].mean() - 0.9) < 0.06
    assert (pixels[::2][~mixes] == 1).all()
