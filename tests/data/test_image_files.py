"""Image files of every kind: what is read of them, and the sentence where nothing is."""

import io

import numpy as np
import pytest
from helpers.photos import photo
from PIL import Image

from senet_jax.data.image_files import header, open_image
from senet_jax.errors import InputError

COLOURS = photo(1).convert("RGB")
PIXELS = np.asarray(COLOURS).astype(int)


def seen(path, image=None, **options):
    """Read an image after saving it there."""
    if image is not None:
        image.save(path, **options)
    opened = open_image(path)
    assert opened.mode in ("RGB", "RGBA")
    return np.asarray(opened.convert("RGB")).astype(int)


@pytest.mark.parametrize(
    ("name", "off"), [("x.png", 0), ("x.bmp", 0), ("x.tiff", 0), ("x.webp", 0), ("x.jpg", 12)]
)
def test_formats(tmp_path, name, off):
    options = {"lossless": True} if name == "x.webp" else {"quality": 95}
    pixels = seen(tmp_path / name, COLOURS, **options)
    assert np.abs(pixels - PIXELS).max() <= off


def test_grey_has_three_equal_channels(tmp_path):
    grey = COLOURS.convert("L")
    expected = np.asarray(grey)[..., None].repeat(3, 2)
    np.testing.assert_array_equal(seen(tmp_path / "l.png", grey), expected)
    np.testing.assert_array_equal(seen(tmp_path / "la.png", grey.convert("LA")), expected)
    bits = COLOURS.convert("1")
    assert set(np.unique(seen(tmp_path / "1.png", bits))) == {0, 255}


@pytest.mark.parametrize("name", ["x.png", "x.tiff"])
def test_sixteen_bits_become_eight_without_clipping(tmp_path, name):
    values = np.linspace(0, 65535, 48 * 32).astype(np.uint16).reshape(32, 48)
    pixels = seen(tmp_path / name, Image.fromarray(values))
    assert (pixels[0, 0, 0], pixels[-1, -1, 0]) == (0, 255)
    assert np.abs(pixels - values[..., None] / 257).max() <= 0.5


def test_transparency_is_kept_and_colours_stay(tmp_path):
    see_through = COLOURS.convert("RGBA")
    alpha = np.linspace(0, 255, PIXELS[..., 0].size).astype(np.uint8).reshape(PIXELS.shape[:2])
    see_through.putalpha(Image.fromarray(alpha))
    np.testing.assert_array_equal(seen(tmp_path / "x.png", see_through), PIXELS)
    np.testing.assert_array_equal(open_image(tmp_path / "x.png"), see_through)
    few = see_through.quantize(16)
    expected = np.asarray(few.convert("RGBA"))[..., :3]
    np.testing.assert_array_equal(seen(tmp_path / "p.png", few), expected)


def test_cmyk_is_converted_without_a_profile(tmp_path):
    pixels = seen(tmp_path / "x.tiff", COLOURS.convert("CMYK"))
    assert np.abs(pixels - PIXELS).max() <= 1


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.webp", "x.tiff"])
def test_photographs_are_turned_upright(tmp_path, name, orientation):
    """Cameras write the picture turned, and EXIF says how; 0 and 9 say nothing."""
    turned = {
        2: np.fliplr,
        3: lambda x: np.rot90(x, 2),
        4: np.flipud,
        5: lambda x: np.swapaxes(x, 0, 1),
        6: lambda x: np.rot90(x, 1),
        7: lambda x: np.rot90(np.swapaxes(x, 0, 1), 2),
        8: lambda x: np.rot90(x, -1),
    }.get(orientation, lambda x: x)(np.asarray(COLOURS))
    exif = Image.Exif()
    exif[0x112] = orientation
    options = {"lossless": True} if name == "x.webp" else {"quality": 95}
    Image.fromarray(np.ascontiguousarray(turned)).save(tmp_path / name, exif=exif, **options)
    off = 12 if name == "x.jpg" else 0
    assert np.abs(seen(tmp_path / name) - PIXELS).max() <= off
    if name != "x.tiff":  # which Pillow turns in any case
        stored = np.asarray(open_image(tmp_path / name, upright=False)).astype(int)
        assert np.abs(stored - turned).max() <= off


# What a camera that says 2 to 8 has done to the picture.
TURNS = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE"}
TURNS |= {6: "ROTATE_90", 7: "TRANSVERSE", 8: "ROTATE_270"}


@pytest.mark.parametrize(("orientation", "turn"), TURNS.items())
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "I;16", "RGB", "RGBX", "RGBA", "CMYK"])
def test_pictures_that_pillow_would_map_from_their_file_are_turned(
    tmp_path, mode, orientation, turn
):
    """Of a file with a name it takes rows for as wide as the upright picture, see `_opened`."""
    picture = COLOURS.convert("L") if mode == "I;16" else COLOURS
    upright = picture.convert(mode)
    lying = upright.transpose(Image.Transpose[turn])
    lying.save(tmp_path / "lying.tiff", tiffinfo={0x112: orientation})
    expected = seen(tmp_path / "upright.tiff", upright)
    np.testing.assert_array_equal(seen(tmp_path / "lying.tiff"), expected)
    height, width, _ = header(tmp_path / "lying.tiff")
    assert (height, width) == expected.shape[:2]


@pytest.mark.parametrize(
    ("name", "mode", "channels"),
    [
        ("x.jp2", "L", 1),  # as .j2k Pillow opens it as of 16 bits, and reads it right
        *(
            (name, *of)
            for name in ("x.jp2", "x.j2k")
            for of in (("LA", 2), ("RGB", 3), ("RGBA", 4))
        ),
    ],
)
def test_colours_above_eight_bits_in_jpeg_2000_are_refused(tmp_path, name, mode, channels):
    """Pillow makes black of white there; it writes none, so that a file is told to be one."""
    image = COLOURS.convert(mode)
    assert np.abs(seen(tmp_path / name, image) - np.asarray(image.convert("RGB"))).max() <= 1
    file = bytearray((tmp_path / name).read_bytes())
    depth = file.index(b"\xff\x4f\xff\x51") + 42
    assert [*file[depth : depth + 3 * channels : 3]] == [7] * channels  # bits, less 1
    file[depth + 3 * (channels - 1)] = 8
    (tmp_path / name).write_bytes(file)
    with pytest.raises(InputError, match="its channels have 9 bits, which Pillow misreads"):
        open_image(tmp_path / name)


def test_sixteen_bits_of_grey_in_jpeg_2000_become_eight(tmp_path):
    values = np.linspace(0, 65535, 48 * 32).astype(np.uint16).reshape(32, 48)
    pixels = seen(tmp_path / "x.jp2", Image.fromarray(values))
    assert np.abs(pixels - values[..., None] / 257).max() <= 0.5


def test_damaged_exif_leaves_the_picture(tmp_path):
    pixels = seen(tmp_path / "x.png", COLOURS, exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01")
    np.testing.assert_array_equal(pixels, PIXELS)


@pytest.mark.parametrize(("name", "off"), [("x.gif", 60), ("x.png", 0), ("x.tiff", 0)])
def test_of_an_animation_the_first_frame_counts(tmp_path, name, off):
    later = [COLOURS.rotate(90), COLOURS.rotate(180)]
    pixels = seen(tmp_path / name, COLOURS, save_all=True, append_images=later)
    assert np.abs(pixels - PIXELS).mean() <= off / 10
    assert np.abs(pixels - PIXELS).max() <= off


def test_more_pixels_than_a_decompression_bomb_has_are_refused(tmp_path, monkeypatch):
    COLOURS.save(tmp_path / "x.png")
    count = COLOURS.width * COLOURS.height
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", count // 2 + 1)
    np.testing.assert_array_equal(seen(tmp_path / "x.png"), PIXELS)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", count // 2 - 1)
    with pytest.raises(InputError, match=r"x.png has more than [\d,]+ pixels; make it smaller"):
        open_image(tmp_path / "x.png")


def test_what_cannot_be_read_is_said_in_a_sentence(tmp_path):
    whole = io.BytesIO()
    COLOURS.save(whole, "JPEG")
    deep = io.BytesIO()
    Image.fromarray(np.ones((4, 4), np.float32)).save(deep, "TIFF")
    for content, sentence in (
        (whole.getvalue()[:-20], "cannot be read: image file is truncated"),
        (b"", "no image of a format that can be read"),
        (b"<html>", "no image of a format that can be read"),
        (deep.getvalue(), "cannot be read: its pixels have 32 bits"),
    ):
        (tmp_path / "x.jpg").write_bytes(content)
        with pytest.raises(InputError, match=sentence) as caught:
            open_image(tmp_path / "x.jpg")
        assert str(caught.value).startswith(str(tmp_path / "x.jpg"))
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="No such file"):
        open_image(tmp_path / "nope.jpg")


def test_every_cut_of_a_file_is_read_or_refused(tmp_path):
    """A decoder may raise anything on a damaged file; what is said is a sentence."""
    for kind in ("JPEG", "PNG", "GIF", "TIFF", "WEBP"):
        whole = io.BytesIO()
        COLOURS.save(whole, kind)
        content = whole.getvalue()
        for length in range(1, len(content), max(1, len(content) // 25)):
            (tmp_path / "x").write_bytes(content[:length])
            sentence = ""
            try:
                assert open_image(tmp_path / "x").size == COLOURS.size
            except InputError as error:
                sentence = str(error)
            assert "\n" not in sentence


def test_what_is_no_path_is_refused_and_an_open_file_read(tmp_path):
    for value in (np.zeros((4, 4, 3), np.uint8), COLOURS, None, 3):
        with pytest.raises(
            InputError, match=f"takes the path of a file, not {type(value).__name__}"
        ):
            open_image(value)
    file = io.BytesIO()
    COLOURS.save(file, "PNG")
    np.testing.assert_array_equal(open_image(file), COLOURS)
