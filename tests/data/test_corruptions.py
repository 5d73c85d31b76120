"""Corruptions are those of the paper's definitions, and always the same."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from senet_jax.data import corruptions
from senet_jax.data.corruptions import KINDS, MAIN, SEVERITIES, corrupt
from senet_jax.errors import InputError

BLURS = ("gaussian_blur", "glass_blur", "defocus_blur", "motion_blur", "zoom_blur", "pixelate")
WITHOUT_CHANCE = (
    *("gaussian_blur", "defocus_blur", "zoom_blur", "brightness", "contrast", "saturate"),
    *("pixelate", "jpeg_compression"),
)
# Of `picture()`: the sums of all pixels at the five severities, which a change of definitions alone
# changes, and no processor. JPEG is left out: its coder may differ.
SUMS = {
    "gaussian_noise": (371592, 372462, 371370, 374589, 370938),
    "shot_noise": (371993, 371356, 370211, 370923, 370757),
    "impulse_noise": (373683, 376116, 372068, 370563, 374729),
    "defocus_blur": (373518, 373529, 373520, 373396, 373565),
    "glass_blur": (369996, 369171, 370449, 368554, 367002),
    "motion_blur": (374720, 377390, 379579, 379538, 380245),
    "zoom_blur": (372076, 373957, 375067, 376931, 378890),
    "snow": (402040, 438666, 441854, 455823, 497565),
    "frost": (468891, 503933, 520748, 503813, 508955),
    "fog": (364530, 381913, 360516, 415510, 407739),
    "brightness": (397172, 421154, 442132, 458000, 486121),
    "contrast": (372033, 372438, 372249, 372244, 372218),
    "elastic_transform": (380765, 384807, 380379, 377547, 372403),
    "pixelate": (373740, 373804, 373836, 373932, 374060),
    "speckle_noise": (371827, 371505, 371625, 368557, 366416),
    "gaussian_blur": (373386, 373376, 373236, 373240, 373092),
    "spatter": (374906, 378415, 374996, 367024, 362273),
    "saturate": (514070, 554438, 329045, 302023, 292922),
}


def picture():
    """An image with edges, a gradient and colours."""
    down, across = np.mgrid[:32, :32]
    disk = (down - 12) ** 2 + (across - 18) ** 2 < 64
    red = np.where(disk, 220, 4 * down)
    return np.stack([red, 6 * across, 255 - 5 * down], -1).astype(np.uint8)


@pytest.mark.parametrize("kind", SUMS)
def test_the_sums_of_a_picture_are_always_the_same(kind):
    sums = tuple(int(corrupt(picture(), kind, severity, 7).sum()) for severity in SEVERITIES)
    assert sums == SUMS[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_no_bit_depends_on_how_a_processor_rounds(kind, monkeypatch):
    """What is whole in exact arithmetic comes out a little more or less, with the processor."""
    exact = [corrupt(picture(), kind, severity, 7) for severity in SEVERITIES]

    def rounded(original, by):
        return lambda x, *arguments, **named: original(np.asarray(x) * by, *arguments, **named)

    for by in (1 - 1e-13, 1 + 1e-13):
        with monkeypatch.context() as patched:
            patched.setattr(corruptions, "in_bytes", rounded(corruptions.in_bytes, by))
            patched.setattr(ndimage, "uniform_filter", rounded(ndimage.uniform_filter, by))
            for severity, image in zip(SEVERITIES, exact, strict=True):
                np.testing.assert_array_equal(corrupt(picture(), kind, severity, 7), image)


def test_there_are_fifteen_kinds_and_four_more():
    assert len(MAIN) == 15
    assert KINDS.keys() == MAIN.keys() | {"speckle_noise", "gaussian_blur", "spatter", "saturate"}
    assert {*SUMS, "jpeg_compression"} == {*KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_corrupted_by_its_place_alone(kind):
    image = picture()
    one, again, other = (corrupt(image, kind, 3, place) for place in (1, 1, 2))
    assert one.shape == image.shape
    assert one.dtype == np.uint8
    np.testing.assert_array_equal(one, again)
    assert (kind in WITHOUT_CHANCE) == np.array_equal(one, other)
    np.testing.assert_array_equal(image, picture())


@pytest.mark.parametrize("kind", BLURS)
@pytest.mark.parametrize("severity", SEVERITIES)
def test_a_blur_leaves_one_colour_alone(kind, severity):
    image = np.full((32, 32, 3), (200, 100, 30), np.uint8)
    np.testing.assert_array_equal(corrupt(image, kind, severity, 0), image)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_noise_has_its_published_size(severity):
    grey = np.full((32, 32, 3), 128, np.uint8)
    many = {
        kind: np.stack([corrupt(grey, kind, severity, place) for place in range(20)]) / 255
        for kind in ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise")
    }
    level, x = severity - 1, 128 / 255
    sizes = {
        "gaussian_noise": (0.04, 0.06, 0.08, 0.09, 0.10)[level],
        "shot_noise": np.sqrt(x / (500, 250, 100, 75, 50)[level]),
        "speckle_noise": x * (0.06, 0.1, 0.12, 0.16, 0.2)[level],
    }
    for kind, size in sizes.items():
        assert many[kind].std() == pytest.approx(size, rel=0.03)
    hit = np.isin(many["impulse_noise"], (0, 1)).mean()
    assert hit == pytest.approx((0.01, 0.02, 0.03, 0.05, 0.07)[level], rel=0.1)


def test_pixels_of_a_codec_and_of_a_filter_are_pillows():
    file = io.BytesIO()
    Image.fromarray(picture()).save(file, "JPEG", quality=58)
    expected = np.asarray(Image.open(file))
    assert np.abs(corrupt(picture(), "jpeg_compression", 3, 0).astype(int) - expected).max() <= 1
    small = Image.fromarray(picture()).resize((20, 20), Image.Resampling.BOX)
    expected = np.asarray(small.resize((32, 32), Image.Resampling.BOX))
    assert np.abs(corrupt(picture(), "pixelate", 5, 0).astype(int) - expected).max() <= 1


def test_a_point_is_blurred_along_a_line():
    x = np.zeros((32, 32, 1))
    x[16, 16] = 1
    smeared = corruptions.moved(x, 6, 2.0, 0)[..., 0]
    assert smeared.sum() == pytest.approx(1)
    assert np.count_nonzero(smeared.sum(1)) == 1  # one row
    # The pixel itself weighs most, and those before it see it less and less.
    assert (np.diff(smeared[16, 4:17]) > 0).all()


@pytest.mark.parametrize(
    "image",
    [np.zeros((32, 32, 1), np.uint8), np.zeros((32, 32, 3)), np.zeros((28, 28, 3), np.uint8)],
)
def test_other_images_are_refused(image):
    with pytest.raises(InputError, match=r"uint8 images \[32, 32, 3\], not"):
        corrupt(image, "fog", 1, 0)
