"""One picture in any of the eight EXIF orientations: training, evaluation and predict see it so."""

import io
import struct

import numpy as np
import pytest
import tensorflow as tf
from helpers.photos import CROPS
from PIL import Image, ImageOps

from senet_jax.data import orientation
from senet_jax.data.crops import CropSpec, corners_and_middle, middle, random_part
from senet_jax.data.image_files import open_image
from senet_jax.inference.preprocessing import Preprocessing

# What is lossless but for JPEG, whose colours are kept at full resolution.
KINDS = {"PNG": {}, "WEBP": {"lossless": True}, "JPEG": {"quality": 95, "subsampling": 0}}
KEY = np.array([3, 4], np.int32)
CORNERS = {**CROPS, "corners": True}


def picture(height=52, width=70):
    coarse = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def exif_of(number, order="<"):
    """EXIF data with an orientation, of either order of bytes, as cameras write them."""
    mark = {"<": b"II*\0", ">": b"MM\0*"}[order]
    return b"Exif\0\0" + mark + struct.pack(order + "IHHHIHHI", 8, 1, 0x112, 3, 1, number, 0, 0)


def encoded(kind, **options):
    file = io.BytesIO()
    picture().save(file, kind, **KINDS[kind], **options)
    return file.getvalue()


def as_png(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def seen():
    """What a training, an evaluation and one of five crops see of a file, compiled once."""
    train, test, five = CropSpec(**CROPS), CropSpec(**CROPS), CropSpec(**CORNERS)

    @tf.function(input_signature=[tf.TensorSpec((), tf.string)])
    def all_views(file):
        return (
            random_part(train, KEY, file, 5),
            middle(test, file, 5),
            corners_and_middle(five, file, 5),
        )

    return lambda file: [view.numpy().astype(int) for view in all_views(file)]


@pytest.mark.parametrize("kind", KINDS)
def test_training_evaluation_and_predict_see_the_picture_that_pillow_turns(kind, seen, tmp_path):
    spec = (32, 32, 3), CROPS["eval_crop"], CROPS["interpolation"], (0.0,) * 3, (1.0,) * 3
    shown = set()
    for number in range(1, 9):
        file = encoded(kind, exif=exif_of(number, "<>"[number % 2]))
        turned = ImageOps.exif_transpose(Image.open(io.BytesIO(file)))
        upright = seen(as_png(turned))
        for ours, expected in zip(seen(file), upright, strict=True):
            assert np.abs(ours - expected).max() <= 1, (kind, number)
        path = tmp_path / f"{number}.{kind.lower()}"
        path.write_bytes(file)
        predicted = Preprocessing(*spec)(open_image(path)).astype(int)
        assert np.abs(upright[1] - predicted).max() <= 1, (kind, number)
        shown.add(predicted.tobytes())
    assert len(shown) == 8


def segment(marker, content):
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


XMP = b'http://ns.adobe.com/xap/1.0/\0<x:xmpmeta tiff:Orientation="6"></x:xmpmeta>'
ICC = b"ICC_PROFILE\0\1\1" + bytes(range(256)) * 12
JFIF = segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0")


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # of damaged data
@pytest.mark.parametrize(
    ("before", "number"),
    [
        ([], 1),
        ([JFIF], 1),
        ([segment(0xE1, exif_of(6))], 6),
        ([JFIF, segment(0xE1, exif_of(8, ">"))], 8),
        ([JFIF, segment(0xE2, ICC), segment(0xFE, b"hello"), segment(0xE1, exif_of(5))], 5),
        ([segment(0xE0, b"JFXX\0\x13\1\1" + bytes(3)), segment(0xE1, exif_of(3))], 3),
        ([segment(0xE1, XMP)], 6),
        ([segment(0xE1, exif_of(0))], 1),
        ([segment(0xE1, exif_of(9))], 1),
        ([segment(0xE1, exif_of(6)[:-9])], 1),
        ([segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01")], 1),
        ([segment(0xE1, b"Exif\0\0")], 1),
    ],
)
def test_the_orientation_is_found_wherever_pillow_finds_it(before, number):
    tables = encoded("JPEG")[2 + len(JFIF) :]
    file = b"\xff\xd8" + b"".join(before) + tables
    pillows = orientation.upright(Image.open(io.BytesIO(file)))
    assert pillows.size == (picture().size[::-1] if number >= 5 else picture().size)
    assert orientation.orientation_of(file) == number
    assert int(orientation.orientation(tf.constant(file))) == number


@pytest.mark.parametrize("file", [b"", b"\xff\xd8\xff", b"\x89PNG\r\n", b"RIFF", b"eXIf" * 9])
def test_what_is_no_image_is_left_to_the_decoder(file):
    assert int(orientation.orientation(tf.constant(file))) == 1


def test_a_jpeg_without_metadata_is_not_looked_at_in_python(monkeypatch):
    """Python has one thread at a time, and images are decoded in many."""
    monkeypatch.setattr(orientation, "orientation_of", None)
    assert int(orientation.orientation(tf.constant(encoded("JPEG")))) == 1
    assert int(orientation.orientation(tf.constant(encoded("JPEG", progressive=True)))) == 1
