"""TFDS builder `photographs`: JPEGs that are like ImageNet's, to time programs that read images.

They are parts of the two photographs that scikit-learn ships. In their mean size and number of
bytes they are close to ImageNet's.
"""

import io
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

COUNT = 400
SIZES = (500, 375), (375, 500), (500, 333), (500, 500)


class Photographs(tfds.core.GeneratorBasedBuilder):
    """Random parts of two photographs, resized and mirrored."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description="Parts of the photographs that scikit-learn ships.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "label": tfds.features.ClassLabel(num_classes=2),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Any:
        from PIL import Image
        from sklearn.datasets import load_sample_images

        photographs = [Image.fromarray(image) for image in load_sample_images().images]
        rng = np.random.default_rng(0)
        for index in range(COUNT):
            label, size = index % 2, SIZES[index // 2 % len(SIZES)]
            whole, file = photographs[label], io.BytesIO()
            width, height = (round(side * rng.uniform(0.5, 1)) for side in whole.size)
            left = int(rng.integers(whole.width - width + 1))
            top = int(rng.integers(whole.height - height + 1))
            part = whole.crop((left, top, left + width, top + height))
            part.resize(size, Image.Resampling.BICUBIC).save(file, "JPEG", quality=95)
            file.seek(0)
            yield index, {"image": file, "label": label}
