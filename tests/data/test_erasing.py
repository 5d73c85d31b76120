"""Random erasing fills rectangles of the sizes of timm's, as often as it should, with noise."""

import jax
import jax.numpy as jnp
import numpy as np

from senet_jax.data.augment import Augmentation


def rectangles(probability, count, height=40, width=30):
    """The rows and columns of each erased rectangle as spans, and all of the noise."""
    keys = jax.random.split(jax.random.key(0), count)
    images = jnp.full((count, height, width, 2), 9.0)
    erased = np.asarray(jax.jit(Augmentation(erasing=probability).erase)(keys, images))
    spans, noise = [], []
    for image in erased:
        mask = (image != 9.0).all(-1)
        rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        if len(rows):
            assert mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
            assert mask.sum() == len(rows) * len(columns)
            spans.append((rows[0], len(rows), columns[0], len(columns)))
            noise.append(image[mask])
    return np.array(spans), np.concatenate(noise) if noise else None


def test_rectangles_are_as_large_as_frequent_and_as_evenly_placed_as_they_should_be():
    spans, noise = rectangles(0.25, 4000)
    assert abs(len(spans) - 1000) < 5 * np.sqrt(4000 * 0.25 * 0.75)
    top, height, left, width = spans.T
    areas, ratios = height * width / 1200, height / width
    assert 0.012 < areas.min() < 0.03
    assert 0.3 < areas.max() <= 1 / 3 + (40 + 30 + 0.5) / 2 / 1200  # both sides rounded up
    assert 0.2 < ratios.min() < 0.45  # sides are rounded
    assert 2.3 < ratios.max() < 5
    assert (height < 40).all()
    assert (width < 30).all()
    # Evenly from edge to edge; four standard deviations of a mean of 1000.
    for first, side, whole in ((top, height, 40), (left, width, 30)):
        assert abs(np.mean(first / (whole - side)) - 0.5) < 4 / np.sqrt(12 * 1000)
        assert (first == 0).any()
        assert (first + side == whole).any()
    assert abs(noise.mean()) < 0.01
    assert abs(noise.std() - 1) < 0.01


def test_each_channel_has_noise_of_its_own_and_each_example_its_key():
    _, noise = rectangles(1.0, 50)
    assert abs(np.corrcoef(noise.T)[0, 1]) < 0.05
    augment, images = Augmentation(erasing=1.0), jnp.zeros((4, 8, 8, 1))
    keys = jax.random.split(jax.random.key(0), 4)
    erase = jax.jit(augment.erase)
    whole = erase(keys, images)
    np.testing.assert_array_equal(erase(keys[2:], images[2:]), whole[2:])
    assert (whole[0] != whole[1]).any()


def test_it_is_never_with_probability_zero_and_always_with_one():
    assert len(rectangles(0.0, 50)[0]) == 0
    assert len(rectangles(1.0, 50)[0]) == 50


def test_a_rectangle_has_one_colour_or_the_mean_where_asked():
    keys = jax.random.split(jax.random.key(0), 20)
    images = jnp.full((20, 12, 12, 2), 9.0)
    erased = {
        mode: np.asarray(jax.jit(Augmentation(erasing=1.0, erasing_mode=mode).erase)(keys, images))
        for mode in ("pixel", "rand", "const")
    }
    for whole, colour, mean in zip(*erased.values(), strict=True):
        inside = (whole != 9.0).all(-1)
        for filled in (colour, mean):
            assert (filled[~inside] == 9.0).all()
        assert (mean[inside] == 0).all()
        assert (colour[inside] == colour[inside][0]).all()
        assert colour[inside][0, 0] != colour[inside][0, 1]
