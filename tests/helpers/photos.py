"""TFDS builder `photos`: coloured images of many sizes, JPEG and PNG, some of them broken."""

import io
import math

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

COUNT = 60
BROKEN = (7, 8, 41)
# Fields of CropSpec that suit them.
CROPS = {
    "image_size": 32,
    "eval_crop": 0.875,
    "crop_area": 0.08,
    "interpolation": "bilinear",
    "shuffle_buffer": 20,
    "max_unreadable": 5,
}


def photo(index):
    """A smooth image whose label is its index; every fifth is grey."""
    rng = np.random.default_rng(index)
    size = rng.integers(40, 90, 2).tolist()
    mode, channels = ("L", 1) if index % 5 == 0 else ("RGB", 3)
    coarse = rng.integers(0, 256, (4, 4, channels), np.uint8)
    return Image.fromarray(coarse.squeeze(), mode).resize(size, Image.Resampling.BICUBIC)


def encoded(index):
    """The bytes of its file: a PNG for every third image, else a JPEG; a broken one ends early."""
    file = io.BytesIO()
    photo(index).save(file, "PNG" if index % 3 == 0 else "JPEG", quality=95)
    content = file.getvalue()
    return content[: len(content) // 3] if index in BROKEN else content


def resized(image, size, crop, interpolation):
    """torchvision.transforms.functional.resize, to the size that timm crops `size` pixels from."""
    shorter = math.floor(size / crop)
    sides = [int(shorter * side / min(image.size)) for side in image.size]
    return image.resize(sides, Image.Resampling[interpolation.upper()])


def center_crop(image, size):
    """torchvision.transforms.functional.center_crop."""
    left, top = (round((side - size) / 2.0) for side in image.size)
    return image.crop((left, top, left + size, top + size))


def torchvisions_window(height, width, rng):
    """RandomResizedCrop.get_params of torchvision 0.24, with NumPy's random numbers."""
    for _ in range(10):
        area = height * width * rng.uniform(CROPS["crop_area"], 1)
        ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return rng.integers(height - h + 1), rng.integers(width - w + 1), h, w
    w, h = width, height
    if width / height < 3 / 4:
        h = round(width / (3 / 4))
    elif width / height > 4 / 3:
        w = round(height * (4 / 3))
    return (height - h) // 2, (width - w) // 2, h, w


class Photos(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "label": tfds.features.ClassLabel(num_classes=COUNT),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager):
        whole = [index for index in range(COUNT) if index not in BROKEN]
        return {
            "whole": self._generate_examples(whole),
            "with_broken": self._generate_examples(range(COUNT)),
        }

    def _generate_examples(self, indices):
        for index in indices:
            yield index, {"image": io.BytesIO(encoded(index)), "label": index}
