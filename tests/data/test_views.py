"""Crops are in the image, of the area asked for, and torchvision's to the pixel."""

import numpy as np
import pytest
import tensorflow as tf
from helpers.photos import CROPS
from hypothesis import given
from hypothesis import strategies as st

from senet_jax.data import views
from senet_jax.data.views import CropSpec


@pytest.mark.parametrize(
    ("shorter", "size"), [(256, 224), (352, 299), (320, 299), (320, 320), (384, 320)]
)
def test_evaluation_sees_what_a_resize_of_the_shorter_side_and_a_crop_leave(shorter, size):
    """On an image of which the resize leaves every pixel, so that nothing is rounded."""
    crops = CropSpec(**{**CROPS, "image_size": size, "eval_crop": size / shorter})
    image = np.random.default_rng(0).integers(0, 256, (shorter, shorter + 90, 3), np.uint8)
    top, left = round((shorter - size) / 2), round((shorter + 90 - size) / 2)
    seen = views.middle(crops, tf.io.encode_png(image).numpy(), 0)
    np.testing.assert_array_equal(seen, image[top : top + size, left : left + size])


@given(
    height=st.integers(1, 3000),
    width=st.integers(1, 3000),
    place=st.integers(0, 2**31 - 1),
    area=st.sampled_from([0.08, 0.5, 1.0]),
)
def test_random_windows_lie_in_the_image_and_have_the_area_asked_for(height, width, place, area):
    crops, key = CropSpec(**{**CROPS, "crop_area": area}), np.array([1, 2], np.int32)
    window = views.random_window(crops, key, tf.constant([height, width]), place)
    top, left, rows, columns = window.numpy()
    assert 0 <= top <= top + rows <= height
    assert 0 <= left <= left + columns <= width
    if (rows, columns) == (height, width):
        return  # no window of that shape was found
    around = (rows + 1) * (columns + 1)  # sizes are rounded
    assert around >= area * height * width
    assert (columns + 1) / rows >= 3 / 4
    assert (rows + 1) / columns >= 3 / 4


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
