"""Fifteen kinds of file: training, evaluation and predict read the same pixels, by every road."""

import io

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from senet_jax import data
from senet_jax.data import crops
from senet_jax.data.image_files import open_image

Y, X = np.mgrid[0:48, 0:48]
PHOTO = np.stack([X * 5, Y * 5, (X + Y) * 2], -1).astype(np.uint8)
RGB = Image.fromarray(PHOTO)
ALPHA = Image.fromarray(np.dstack([PHOTO, (X * 5).astype(np.uint8)]))
DEEP = Image.fromarray(PHOTO[..., 0].astype(np.uint16) * 257)
LYING = Image.Exif()
LYING[0x112] = 6
KINDS = {
    "rgb.png": (RGB, "PNG", {}),
    "rgb.jpg": (RGB, "JPEG", {"quality": 95}),
    "exif6.jpg": (RGB, "JPEG", {"exif": LYING.tobytes()}),
    "cmyk.jpg": (RGB.convert("CMYK"), "JPEG", {}),
    "grey.jpg": (RGB.convert("L"), "JPEG", {}),
    "grey16.png": (DEEP, "PNG", {}),
    "rgba.png": (ALPHA, "PNG", {}),
    "la.png": (ALPHA.convert("LA"), "PNG", {}),
    "palette.png": (RGB.quantize(32), "PNG", {}),
    "palette_clear.png": (RGB.quantize(32), "PNG", {"transparency": 3}),
    "frames.gif": (RGB.quantize(64), "GIF", {}),
    "rgb.bmp": (RGB, "BMP", {}),
    "rgb.webp": (RGB, "WEBP", {"lossless": True}),
    "png_named.jpg": (RGB, "PNG", {}),
    "progressive.jpg": (RGB, "JPEG", {"progressive": True}),
}


def encoded(name):
    image, kind, options = KINDS[name]
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


class KindsOfFiles(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(48, 48, 3)),
            "label": tfds.features.ClassLabel(num_classes=15),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager):
        return {"test": self._generate_examples()}

    def _generate_examples(self):
        for label, name in enumerate(KINDS):
            yield name, {"image": io.BytesIO(encoded(name)), "label": label}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("kinds")
    for name in KINDS:
        (root / name.replace(".", "_")).mkdir()
        (root / name.replace(".", "_") / name).write_bytes(encoded(name))
    return root


def by_class(split, names):
    """Images by the names of their classes."""
    return {
        names[label]: image
        for batch in split.eval_batches(4)
        for image, label, mask in zip(batch["image"], batch["label"], batch["mask"], strict=True)
        if mask
    }


CROPS = {"crop_area": 1.0, "interpolation": "bilinear", "shuffle_buffer": 9, "max_unreadable": 0}
STREAMED = {**CROPS, "image_size": 48, "eval_crop": 1.0}


@pytest.mark.parametrize("options", [{}, STREAMED], ids=["in memory", "streamed"])
def test_pixels_are_those_that_predict_reads(folder, options):
    found = by_class(*data.load_split(f"folder:{folder}", "all", **options))
    of_tfds, _ = data.load_split("kinds_of_files", "test", **options)
    of_tfds = by_class(of_tfds, [name.replace(".", "_") for name in KINDS])
    assert len(found) == len(of_tfds) == 15
    for name in KINDS:
        expected = np.asarray(open_image(io.BytesIO(encoded(name))).convert("RGB")).astype(int)
        title = name.replace(".", "_")
        np.testing.assert_array_equal(found[title], expected, name)
        # tf.data, which reads streams of TFDS, cuts the lower half of 16 bits off.
        off = np.abs(of_tfds[title] - expected).max()
        assert off <= (1 if options and name == "grey16.png" else 0), name


@pytest.mark.parametrize("name", KINDS)
def test_training_by_tf_data_sees_the_same_pixels(name):
    file = tf.constant(encoded(name))
    pixels, _ = crops._decode(file, lambda size: tf.concat([[0, 0], size], 0))
    expected = np.asarray(open_image(io.BytesIO(encoded(name))).convert("RGB")).astype(int)
    assert np.abs(pixels.numpy() - expected).max() <= (name == "grey16.png")
