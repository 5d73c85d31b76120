"""TFDS builder `peculiar`: several images and labels, none of them said to be the ones to use."""

import io

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

CLASSES, COUNT = 4, 32
UNKNOWN = (5, 6, 7, 20)  # examples of the split `some` that are of no class


def picture(index):
    return np.random.default_rng(index).integers(0, 256, (8, 8, 3), np.uint8)


def lying(index):
    """The file of the same picture, lying on its side, with the orientation that says so."""
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x112] = 6
    image = Image.fromarray(np.rot90(picture(index)).copy())
    image.save(file, "PNG", exif=exif)
    return file.getvalue()


class Peculiar(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("2.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 3)),
                    "lying": tfds.features.Image(shape=(8, 8, 3)),
                    "label": tfds.features.ClassLabel(names=["a", "b", "c", "d"]),
                    "coarse_label": tfds.features.ClassLabel(num_classes=2),
                    "number": np.int64,
                    "several": tfds.features.Sequence(tfds.features.ClassLabel(num_classes=4)),
                }
            ),
            supervised_keys=None,
        )

    def _split_generators(self, dl_manager):
        return {
            "train": self._generate_examples(()),
            "some": self._generate_examples(UNKNOWN),
            "cut": self._generate_examples((), bytes_of_file=60),
        }

    def _generate_examples(self, unknown, bytes_of_file=None):
        for index in range(COUNT):
            label = -1 if index in unknown else index % CLASSES
            yield (
                index,
                {
                    "image": picture(index),
                    "lying": io.BytesIO(lying(index)[:bytes_of_file]),
                    "label": label,
                    "coarse_label": index % 2,
                    "number": label,
                    "several": [0, index % CLASSES],
                },
            )
