"""TFDS builder `squares`: small coloured squares of four classes, in memory, in several files."""

import numpy as np
import tensorflow_datasets as tfds

CLASSES, SIDE = 4, 8
COUNTS = {"train": 150, "test": 70}


def square(index):
    """A noisy square of the colour of its class, uint8 [8, 8, 3]."""
    rng = np.random.default_rng(index)
    colour = np.array([60 * (index % CLASSES), 90, 200 - 50 * (index % CLASSES)])
    return np.clip(colour + rng.normal(0, 25, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)


class Squares(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(SIDE, SIDE, 3)),
                    "label": tfds.features.ClassLabel(names=["a", "b", "c", "d"]),
                    "number": np.int64,
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager):
        return {
            "train": self._generate_examples(0, COUNTS["train"]),
            "test": self._generate_examples(1000, 1000 + COUNTS["test"]),
        }

    def _generate_examples(self, start, stop):
        for index in range(start, stop):
            label = index % CLASSES
            yield index, {"image": square(index), "label": label, "number": 2 * label}


def prepare():
    """Prepare it in five files a split, as TFDS would a larger one."""
    config = tfds.download.DownloadConfig(num_shards=5)
    tfds.builder("squares").download_and_prepare(download_config=config)
