"""The TFDS builder `digits`: the 1,797 real hand-written digits that scikit-learn ships.

It makes the first command work offline, on the same path as every other dataset.
"""

from typing import Any

import numpy as np
import tensorflow_datasets as tfds


class Digits(tfds.core.GeneratorBasedBuilder):
    """8x8 grey images of digits, from the UCI set by Alpaydin and Kaynak (1998)."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description="Images of hand-written digits, 8x8, shipped with scikit-learn.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1), dtype=np.uint8),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://archive.ics.uci.edu/dataset/80",
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager
        # The source lists writer after writer, so a cut in one place tests mostly on hands not seen
        # in training: harder, and therefore more telling, than a shuffled split.
        return {
            "train": self._generate_examples(0, 1437),
            "test": self._generate_examples(1437, 1797),
        }

    def _generate_examples(self, start: int, stop: int) -> Any:
        from sklearn.datasets import load_digits

        digits: Any = load_digits()
        # Intensities are whole numbers from 0 to 16; 15 times that is exact and fills a byte.
        images = (digits.images * 15).astype(np.uint8)[..., None]
        for index in range(start, stop):
            yield index, {"image": images[index], "label": int(digits.target[index])}
