"""Grey images above eight bits: a file says which value is white, or is refused."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from senet_jax import InputError
from senet_jax.data.image_files import open_image
from senet_jax.inference.preprocessing import Preprocessing

SHORT, LONG = 3, 4  # types of TIFF's tags
BLACK_IS_ZERO, WHITE_IS_ZERO = 1, 0
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
NETWORK = Preprocessing((8, 8, 1), 1.0, "bicubic", (0.0,), (1.0,))
RAMP = np.linspace(0, 1, 64).reshape(8, 8)
EIGHT_BITS = np.rint(RAMP * 255).astype(np.uint8)


def tiff(pixels, bits, photometric=BLACK_IS_ZERO, sample_format=UNSIGNED, order="<"):
    """A file of one strip, by the specification of TIFF 6.0."""
    height, width = pixels.shape
    if bits == 12:  # two pixels in three bytes, the highest bits first
        flat = pixels.reshape(-1, 2).astype(np.uint32)
        both = flat[:, 0] << 12 | flat[:, 1]
        strip = np.stack([both >> 16, both >> 8 & 255, both & 255], -1).astype(np.uint8).tobytes()
    else:
        kind = {UNSIGNED: "u", SIGNED: "i", FLOAT: "f"}[sample_format]
        strip = pixels.astype(f"{order}{kind}{bits // 8}").tobytes()
    tags = {
        256: (LONG, width),
        257: (LONG, height),
        258: (SHORT, bits),
        259: (SHORT, 1),
        262: (SHORT, photometric),
        273: (LONG, 8),
        277: (SHORT, 1),
        278: (LONG, height),
        279: (LONG, len(strip)),
        339: (SHORT, sample_format),
    }
    head = b"II*\0" if order == "<" else b"MM\0*"
    entries = b"".join(
        struct.pack(f"{order}HHI", tag, kind, 1)
        + (
            struct.pack(f"{order}HH", value, 0)
            if kind == SHORT
            else struct.pack(f"{order}I", value)
        )
        for tag, (kind, value) in tags.items()
    )
    where = struct.pack(f"{order}I", 8 + len(strip))
    return head + where + strip + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)


def pgm(most):
    values = np.rint(RAMP * most).astype(">u2")
    return f"P5 8 8 {most}\n".encode() + values.tobytes()


def saved(image, kind):
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


DEEP = Image.fromarray(np.rint(RAMP * 65535).astype(np.uint16))
OF_KNOWN_WHITE = {
    "16 bits": tiff(RAMP * 65535, 16),
    "16 bits, the higher byte first": tiff(RAMP * 65535, 16, order=">"),
    "16 bits, white is zero": tiff((1 - RAMP) * 65535, 16, WHITE_IS_ZERO),
    "12 bits": tiff(np.rint(RAMP * 4095), 12),
    "8 bits, white is zero": tiff(np.rint((1 - RAMP) * 255), 8, WHITE_IS_ZERO),
    "a png of 16 bits": saved(DEEP, "PNG"),
    "a pgm of 16 bits": pgm(65535),
    "a pgm of 10 bits": pgm(1023),
    "a jpeg 2000 of 16 bits": saved(DEEP, "JPEG2000"),
}
OF_UNKNOWN_WHITE = {
    "32 bits": tiff(RAMP * 4e9, 32),
    "32 bits, of which 16 are used": tiff(RAMP * 65535, 32),
    "32 bits, of which 8 are used": tiff(RAMP * 255, 32),
    "32 bits, the higher bytes first": tiff(RAMP * 65535, 32, sample_format=SIGNED, order=">"),
    "16 bits and a sign": tiff(RAMP * 32767, 16, sample_format=SIGNED),
    "16 bits and a sign, the higher byte first": tiff(RAMP * 32767, 16, 1, SIGNED, ">"),
    "8 bits and a sign": tiff(RAMP * 127, 8, sample_format=SIGNED),
    "a fraction": tiff(RAMP, 32, sample_format=FLOAT),
}


@pytest.mark.parametrize("name", OF_KNOWN_WHITE)
def test_a_ramp_from_black_to_white_is_one_in_eight_bits(name):
    encoded = OF_KNOWN_WHITE[name]
    read = np.asarray(open_image(io.BytesIO(encoded)))
    # Values were cut to whole numbers of the file before, at most a step of 8 bits.
    assert np.abs(read[..., 0].astype(int) - EIGHT_BITS).max() <= 1
    assert (read.min(), read.max()) == (0, 255)
    opened = Image.open(io.BytesIO(encoded))
    assert np.abs(NETWORK(opened)[..., 0].astype(int) - EIGHT_BITS).max() <= 1


@pytest.mark.parametrize("name", OF_UNKNOWN_WHITE)
def test_what_does_not_say_which_value_is_white_is_refused(name):
    encoded = OF_UNKNOWN_WHITE[name]
    with pytest.raises(InputError, match="nothing says which is white"):
        open_image(io.BytesIO(encoded))
    with pytest.raises(InputError, match="nothing says which is white"):
        NETWORK(Image.open(io.BytesIO(encoded)))


def test_pixels_in_memory_have_sixteen_bits_or_are_refused():
    assert np.abs(NETWORK(DEEP)[..., 0].astype(int) - EIGHT_BITS).max() <= 1
    with pytest.raises(InputError, match="nothing says which is white"):
        NETWORK(Image.fromarray(np.rint(RAMP * 65535).astype(np.int32)))
