"""TIFF files whose channels lie one after the other, as scientific software writes them.

tifffile does so by default with an array [3, H, W].
"""

import io
import struct

import numpy as np
import pytest
from PIL import TiffImagePlugin

from senet_jax.data.image_files import header, open_image

WIDTH, HEIGHT = 56, 40
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, CMYK = 0, 1, 2, 5


def tiff(planes, photometric, *, apart, order="<"):
    """An uncompressed TIFF of an array [C, H, W] of unsigned integers, whole planes or pixels."""
    channels, height, width = planes.shape
    bits = 8 * planes.dtype.itemsize
    pixels = planes if apart else np.moveaxis(planes, 0, -1)
    data = pixels.astype(planes.dtype.newbyteorder(order)).tobytes()
    strips = channels if apart else 1
    tags = {
        256: [width],
        257: [height],
        258: [bits] * channels,
        259: [1],  # uncompressed
        262: [photometric],
        273: [8 + place * (len(data) // strips) for place in range(strips)],
        277: [channels],
        278: [height],
        279: [len(data) // strips] * strips,
        284: [2 if apart else 1],
    }
    if channels == 4 and photometric == RGB:
        tags[338] = [2]  # the fourth is transparency, not multiplied in
    if len(data) % 2:
        data += b"\0"
    begin = 8 + len(data)
    entries, beyond = b"", b""
    after = begin + 2 + 12 * len(tags) + 4
    for tag, values in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(values)}I", *values)
        if len(packed) > 4:
            beyond, packed = beyond + packed, struct.pack(f"{order}I", after + len(beyond))
        entries += struct.pack(f"{order}HHI", tag, 4, len(values)) + packed
    mark = b"II" if order == "<" else b"MM"
    head = mark + struct.pack(f"{order}HI", 42, begin)
    count = struct.pack(f"{order}H", len(tags))
    return head + data + count + entries + struct.pack(f"{order}I", 0) + beyond


CASES = [
    (*of, kind, order)
    for of in ((1, BLACK_IS_ZERO), (1, WHITE_IS_ZERO), (3, RGB), (4, RGB), (4, CMYK))
    for kind in (np.uint8, np.uint16)
    for order in "<>"
]
CASES.remove((1, WHITE_IS_ZERO, np.uint16, ">"))  # of which Pillow knows no pixels either


@pytest.mark.parametrize(("channels", "photometric", "kind", "order"), CASES)
def test_planes_are_read_as_pixels_are(tmp_path, channels, photometric, kind, order):
    most = np.iinfo(kind).max
    shape = (channels, HEIGHT, WIDTH)
    planes = np.random.default_rng(0).integers(0, most, shape, kind, endpoint=True)
    (tmp_path / "x.tif").write_bytes(tiff(planes, photometric, apart=True, order=order))
    ours = np.asarray(open_image(tmp_path / "x.tif"))
    by_pixel = tiff(planes, photometric, apart=False, order=order)
    np.testing.assert_array_equal(ours, np.asarray(open_image(io.BytesIO(by_pixel))))
    assert header(tmp_path / "x.tif") == (HEIGHT, WIDTH, channels == 1)
    if photometric == CMYK:
        return
    high = np.moveaxis(planes >> (8 * (planes.dtype.itemsize - 1)), 0, -1).astype(int)
    high = 255 - high if photometric == WHITE_IS_ZERO else high
    assert np.abs(ours - high).max() <= 1  # grey is rounded, colours are cut


def test_pillows_own_setting_stays():
    planes = np.zeros((3, HEIGHT, WIDTH), np.uint16)
    open_image(io.BytesIO(tiff(planes, RGB, apart=True)))
    assert TiffImagePlugin.READ_LIBTIFF is False
