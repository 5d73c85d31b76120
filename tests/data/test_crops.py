"""Crops are in the image, of the area asked for, and torchvision's to the pixel."""

import math

import numpy as np
import pytest
import tensorflow as tf
from helpers.photos import CROPS, torchvisions_window
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from senet_jax.data.crops import CropSpec, middle, random_window


@pytest.mark.parametrize(
    ("shorter", "size"), [(256, 224), (352, 299), (320, 299), (320, 320), (384, 320)]
)
def test_evaluation_sees_what_a_resize_of_the_shorter_side_and_a_crop_leave(shorter, size):
    """On an image of which the resize leaves every pixel, so that nothing is rounded."""
    crops = CropSpec(**{**CROPS, "image_size": size, "eval_crop": size / shorter})
    image = np.random.default_rng(0).integers(0, 256, (shorter, shorter + 90, 3), np.uint8)
    top, left = round((shorter - size) / 2), round((shorter + 90 - size) / 2)
    seen = middle(crops, tf.io.encode_png(image).numpy(), 0)
    np.testing.assert_array_equal(seen, image[top : top + size, left : left + size])


@tf.function(input_signature=[tf.TensorSpec(2, tf.int32), tf.TensorSpec((), tf.int32)])
def windows(size, count):
    """Random windows [count, 4] of an image."""
    crops, key = CropSpec(**CROPS), np.array([1, 2], np.int32)
    places = tf.range(count)
    return tf.map_fn(lambda place: random_window(crops, key, size, place), places)


@pytest.mark.parametrize(
    ("height", "width", "area"),
    [
        (375, 500, 0.434),  # the mean share of the area, of a million draws
        (500, 375, 0.434),
        (500, 500, 0.475),
        (900, 100, None),  # some draws end in the middle,
        (20, 900, None),  # and here all do
        (3, 7, None),
        (1, 40, None),
    ],
)
def test_random_windows_are_drawn_as_torchvision_draws_them(height, width, area):
    count, rng = 2000, np.random.default_rng(0)
    ours = windows([height, width], count).numpy()
    theirs = np.array([torchvisions_window(height, width, rng) for _ in range(count)])
    for drawn in (ours, theirs):
        assert (drawn >= 0).all()
        assert (drawn[:, :2] + drawn[:, 2:] <= (height, width)).all()
    shares = ours[:, 2] * ours[:, 3] / (height * width)
    if area:
        assert abs(shares.mean() - area) < 5 * shares.std() / math.sqrt(count)
        assert abs(shares.mean() - 0.371) > 0.04  # what TensorFlow's own operation draws
    # Top, left, height, width, area and ratio: the same distributions (Kolmogorov and Smirnov).
    for values in (*"0123", "area", "ratio"):
        one, two = (
            {"area": w[:, 2] * w[:, 3], "ratio": w[:, 3] / w[:, 2]}.get(values)
            if len(values) > 1
            else w[:, int(values)]
            for w in (ours, theirs)
        )
        assert stats.ks_2samp(one, two).pvalue > 1e-4, values


@given(
    height=st.integers(1, 3000),
    width=st.integers(1, 3000),
    place=st.integers(0, 2**31 - 1),
    area=st.sampled_from([0.08, 0.5, 1.0]),
)
def test_random_windows_lie_in_the_image_and_have_the_area_asked_for(height, width, place, area):
    crops, key = CropSpec(**{**CROPS, "crop_area": area}), np.array([1, 2], np.int32)
    window = random_window(crops, key, tf.constant([height, width]), place)
    top, left, rows, columns = window.numpy()
    assert 0 <= top < top + rows <= height
    assert 0 <= left < left + columns <= width
    assert (columns + 1) / rows >= 3 / 4
    assert (rows + 1) / columns >= 3 / 4
    centred = [(height - rows) // 2, (width - columns) // 2]
    if [top, left] != centred or (rows != height and columns != width):  # not the last resort
        assert (rows + 1) * (columns + 1) >= area * height * width  # sizes are rounded


@pytest.mark.parametrize(
    ("field", "sentence"),
    [
        ({"image_size": -1}, "image_size must be at least 0, not -1"),
        ({"eval_crop": 1.5}, "eval_crop must be above 0 and at most 1, not 1.5"),
        ({"crop_area": 0.0}, "crop_area must be above 0 and at most 1, not 0.0"),
        ({"interpolation": "cubic"}, "interpolation must be bilinear or bicubic, not 'cubic'"),
        ({"shuffle_buffer": 0}, "shuffle_buffer must be at least 1, not 0"),
        ({"max_unreadable": -1}, "max_unreadable must be at least 0, not -1"),
    ],
)
def test_values_outside_their_limits_are_refused_with_a_sentence(field, sentence):
    with pytest.raises(ValueError, match=sentence):
        CropSpec(**{**CROPS, **field})
