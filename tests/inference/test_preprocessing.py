"""What a network is shown of an image file: as timm shows it, and as a run's evaluation does."""

import dataclasses
import io
import math

import numpy as np
import pytest
from helpers.photos import center_crop, encoded, photo, resized
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from senet_jax import data
from senet_jax.data import center_crop as middle
from senet_jax.data.image_files import open_image
from senet_jax.errors import InputError
from senet_jax.inference.preprocessing import Preprocessing
from senet_jax.weights.image_spec import ImageSpec, data_fields
from senet_jax.weights.timm import NETWORKS, weights

SIDES = st.integers(1, 5000)
IN_MEMORY = {"image_size": 0, "eval_crop": 0.5, "interpolation": "bicubic"}


@given(SIDES, SIDES, st.integers(1, 600), st.floats(0.05, 1))
def test_the_middle_is_torchvisions(height, width, size, crop):
    shorter = middle.shorter_side(size, crop)
    assert shorter in (math.floor(size / crop), round(size / crop))
    sides = np.array([height, width])
    resized_to = middle.resized(sides, sides.min(), shorter)
    expected = [int(shorter * side / min(height, width)) for side in sides.tolist()]
    assert resized_to.tolist() == expected
    begin = middle.begin(resized_to, size)
    assert begin.tolist() == [round((side - size) / 2.0) for side in resized_to.tolist()]


@pytest.mark.parametrize("name", NETWORKS)
def test_published_weights_get_the_sizes_that_timm_gives_them(name):
    for config in [config for key, config in weights().items() if key.partition(".")[0] == name]:
        preprocess = Preprocessing.of_weights(config)
        side = config.input_size[1]
        assert preprocess.image_shape == (side, side, 3)
        assert middle.shorter_side(side, preprocess.eval_crop) == math.floor(side / config.crop_pct)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("crop", [0.875, 0.95, 1.0])
@pytest.mark.parametrize("size", [24, 96])
def test_images_are_shown_as_timm_shows_them(interpolation, crop, size):
    config = ImageSpec((3, size, size), crop, interpolation)
    preprocess = Preprocessing.of_weights(config)
    for index in range(12):
        image = photo(index).convert("RGB")
        expected = np.asarray(center_crop(resized(image, size, crop, interpolation), size))
        np.testing.assert_array_equal(preprocess(image), expected)


def test_images_are_normalised_as_timm_does():
    config = ImageSpec(mean=(0.5, 0.4, 0.3), std=(0.5, 0.2, 0.1))
    pixels = np.random.default_rng(0).integers(0, 256, (1, 4, 4, 3), np.uint8)
    expected = (pixels / 255 - config.mean) / config.std
    normalized = Preprocessing.of_weights(config).normalize(pixels)
    np.testing.assert_allclose(normalized, expected, rtol=1e-5, atol=1e-5)


def test_a_configuration_of_the_weights_shows_and_normalises_the_same(tmp_path):
    """Training and evaluation read TensorFlow's records, prediction reads files."""
    config = ImageSpec((3, 32, 32), 0.9, "bicubic", (0.5, 0.4, 0.3), (0.5, 0.2, 0.1))
    fields = data_fields(config)
    rest = {"crop_area": 0.08, "shuffle_buffer": 20, "max_unreadable": 5}
    dataset = data.load_dataset("photos", "whole", "whole", **fields, **rest)
    preprocess = Preprocessing.of_weights(config)
    assert (dataset.mean, dataset.std) == (preprocess.mean, preprocess.std)
    assert Preprocessing.of_run(fields, (32, 32, 3), dataset.mean, dataset.std) == preprocess
    (batch,) = dataset.eval.eval_batches(57)
    for image, label in zip(batch["image"], batch["label"], strict=True):
        (tmp_path / "image").write_bytes(encoded(label))
        from_file = preprocess(open_image(tmp_path / "image"))
        assert np.abs(image - from_file.astype(int)).max() <= 1, label


def test_images_as_a_dataset_in_memory_has_them_are_left_as_they_are():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    preprocess = Preprocessing.of_run(IN_MEMORY, (8, 8, 3), (0.0,) * 3, (1.0,) * 3)
    np.testing.assert_array_equal(preprocess(Image.fromarray(pixels)), pixels)
    grey = Preprocessing.of_run(IN_MEMORY, (8, 8, 1), (0.0,), (1.0,))
    same = Image.fromarray(pixels[..., 0]).convert("RGB")
    np.testing.assert_array_equal(grey(same), pixels[..., :1])
    oblong = Preprocessing.of_run(IN_MEMORY, (4, 6, 3), (0.0,) * 3, (1.0,) * 3)
    assert oblong(Image.fromarray(pixels)).shape == (4, 6, 3)


def files_of_all_kinds():
    """PNG files with and without transparency, by the kind of their pixels."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (16, 16, 4), np.uint8)
    image = Image.fromarray(pixels)
    colours, few = image.convert("RGB"), image.convert("RGB").quantize(16)
    kinds = {
        "RGBA": (image, {}),
        "RGB": (colours, {}),
        "LA": (image.convert("LA"), {}),
        "L": (colours.convert("L"), {}),
        "1": (colours.convert("1"), {}),
        "P": (few, {}),
        "P with a clear colour": (few, {"transparency": 3}),
        "P with alpha": (few, {"transparency": bytes(range(0, 256, 16))}),
        "RGB with a clear colour": (colours, {"transparency": tuple(pixels[0, 0, :3].tolist())}),
        "L with a clear grey": (colours.convert("L"), {"transparency": 77}),
    }
    for kind, (kind_of_image, options) in kinds.items():
        file = io.BytesIO()
        kind_of_image.save(file, "PNG", **options)
        yield kind, file


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_network_of_any_channels_sees_of_a_file_what_tfds_decodes_to_as_many(channels):
    """Grey is the luminance, which TensorFlow rounds down; transparency is kept for four alone."""
    import tensorflow as tf

    zeros, ones = (0.0,) * channels, (1.0,) * channels
    preprocess = Preprocessing.of_run(IN_MEMORY, (16, 16, channels), zeros, ones)
    for kind, file in files_of_all_kinds():
        expected = tf.io.decode_image(file.getvalue(), channels=channels).numpy()
        if channels == 4 and kind in ("1", "P"):
            # TensorFlow's alpha of what has fewer than eight bits is 1 or 15; both mean opaque.
            expected[..., 3] = 255
        seen = preprocess(open_image(file)).astype(int)
        assert np.abs(seen - expected).max() <= (channels == 1), kind
    stored = Image.fromarray(np.full((32, 32, 4), (200, 100, 50, 0), np.uint8))
    assert (preprocess(stored)[..., :3] == preprocess(stored.convert("RGB"))[..., :3]).all()


def test_images_of_any_mode_are_shown_without_their_file():
    preprocess = Preprocessing.of_run(IN_MEMORY, (16, 16, 3), (0.0,) * 3, (1.0,) * 3)
    deep = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    grey = ((deep.astype(int) + 128) // 257)[..., None].repeat(3, 2)
    np.testing.assert_array_equal(preprocess(Image.fromarray(deep)), grey)
    colours = photo(1).convert("RGBA").resize((16, 16))
    for mode in ("P", "PA", "LA", "La", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "1", "L"):
        source = {"La": "LA", "RGBa": "RGBA", "PA": "P"}.get(mode, "RGB")
        assert preprocess(colours.convert(source).convert(mode)).shape == (16, 16, 3), mode
    for wrong, sentence in (
        (
            Image.fromarray(np.ones((4, 4), np.float32)),
            "an image of mode F cannot be read: ",
        ),
        (photo(1).convert("L").convert("I"), "an image of mode I cannot be read: "),
        (np.zeros((16, 16, 3), np.uint8), "takes an image, as of open_image.* not ndarray"),
        ("cat.jpg", "takes an image, as of open_image.* not str"),
    ):
        with pytest.raises(InputError, match=sentence):
            preprocess(wrong)


def timm_crop(image, size, crop, mode, mean):
    """timm's transforms_imagenet_eval of the other two crop modes, with Pillow."""
    scale = math.floor(size / crop)
    if mode == "squash":
        return center_crop(image.resize((scale, scale), Image.Resampling.BICUBIC), size)
    ratio = max(side / scale for side in image.size)
    image = image.resize([round(side / ratio) for side in image.size], Image.Resampling.BICUBIC)
    border = [max(0, size - side) for side in image.size]
    fill = tuple(round(255 * value) for value in mean)
    sides = [side + more for side, more in zip(image.size, border, strict=True)]
    padded = Image.new("RGB", sides, fill)
    padded.paste(image, [more // 2 for more in border])
    return center_crop(padded, size)


def test_a_shape_that_is_no_square_is_stated_as_the_whole_image():
    whole = Preprocessing((5, 9, 3), 1.0, "bilinear", (0.0,) * 3, (1.0,) * 3)
    assert whole.as_image_spec().crop_mode == "squash"
    assert dataclasses.replace(whole, image_shape=(9, 9, 3)).as_image_spec().crop_mode == "center"
    image = photo(0).convert("RGB")
    np.testing.assert_array_equal(whole(image), image.resize((9, 5), Image.Resampling.BILINEAR))


@pytest.mark.parametrize("mode", ["squash", "border"])
@pytest.mark.parametrize("crop", [0.6, 0.875, 1.0])
def test_the_other_crop_modes_are_timms(mode, crop):
    mean = (0.5, 0.4, 0.301)
    spec = ImageSpec((3, 33, 33), crop, mean=mean, crop_mode=mode)
    preprocess = Preprocessing.of_weights(spec)
    assert preprocess.as_image_spec().crop_mode == mode
    for image in (*map(photo, range(8)), Image.new("RGB", (200, 4), "red")):
        image = image.convert("RGB")
        expected = np.asarray(timm_crop(image, 33, crop, mode, mean))
        np.testing.assert_array_equal(preprocess(image), expected)


def test_an_image_of_any_shape_is_cheap_to_show():
    """A line of pixels: resized as a whole, it would take 6 GB."""
    preprocess = Preprocessing.of_weights(ImageSpec(interpolation="bilinear"))
    line = np.zeros((1, 30_001, 3), np.uint8)
    line[:, 15_000] = 255
    seen = preprocess(Image.fromarray(line))
    assert seen.shape == (224, 224, 3)
    assert (seen == seen[0]).all()
    assert np.abs(seen - seen[:, ::-1].astype(int)).max() <= 1 < seen.max()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"input_size": (3, 224, 192)}, "images of 224 x 192 pixels .input_size., not square"),
        ({"input_size": (1, 224, 224)}, "images of 1 channel, but mean and std are"),
        ({"interpolation": "lanczos"}, "'lanczos'; known are bilinear and bicubic"),
    ],
)
def test_weights_for_other_images_are_refused(change, sentence):
    with pytest.raises(InputError, match=sentence):
        Preprocessing.of_weights(dataclasses.replace(ImageSpec(), **change))


def test_a_run_on_images_as_no_file_has_is_refused():
    for channels in (2, 5):
        with pytest.raises(InputError, match=f"images of {channels} channels, as no file has"):
            Preprocessing.of_run(IN_MEMORY, (8, 8, channels), (0.0,) * channels, (1.0,) * channels)


def test_sizes_and_crops_that_cannot_be_are_refused():
    preprocess = Preprocessing.of_weights(ImageSpec())
    for size, crop, sentence in (
        (0, None, "from 1 to 8192 pixels, not 0 x 0"),
        (-3, None, "from 1 to 8192 pixels, not -3 x -3"),
        (10**6, None, "from 1 to 8192 pixels, not 1000000 x 1000000"),
        (None, 0.0, "eval_crop must be above 0 and at most 1, not 0.0"),
        (None, 1.5, "eval_crop must be above 0 and at most 1, not 1.5"),
    ):
        with pytest.raises(InputError, match=sentence):
            preprocess.seen_at(size, crop)
    assert preprocess.seen_at(None, None) == preprocess
