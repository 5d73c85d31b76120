"""Whether processes that train one network have the same images, weights and settings of JAX.

Each reads them for itself, perhaps from disks of its own; a share of other images, or a network
that starts from other weights, would go unnoticed.
"""

import json
from collections.abc import Mapping
from typing import Any

import jax

from senet_jax.data.split import OF_SPLITS
from senet_jax.errors import InputError
from senet_jax.runs import provenance
from senet_jax.system import processes

# What a dataset is known by, apart from what is computed of its images and perhaps rounded.
OF_DATASETS = ("image_shape", "class_names", *OF_SPLITS)
IN_WORDS = {
    "image_shape": "sizes of images",
    "class_names": "names of classes",
    "examples": "numbers of images",
    "labels": "labels",
    "files": "image files",
    "pretrained_sha256": "weights to start from",
    "teacher_sha256": "weights of the teacher",
    "settings": "settings of JAX and XLA",
    "jax_version": "versions of JAX",
}


def check(dataset: Mapping[str, Any], weights: Mapping[str, Any]) -> None:
    """Compare what this process has with what the first one has; each of them calls it.

    Args:
      dataset: the `identity` of the dataset.
      weights: what the result of the run says of the weights that it starts or learns from.

    Raises: InputError, in all processes, for the first thing of which one has another.
    """
    if processes.count() == 1:
        return
    mine = {key: dataset[key] for key in OF_DATASETS} | {**weights}
    mine |= {"settings": provenance.settings(), "jax_version": jax.__version__}
    for key in processes.on_first(lambda: sorted(mine)):
        if not processes.same(json.dumps(mine.get(key), sort_keys=True)):
            raise InputError(
                f"the processes that train together have different {IN_WORDS.get(key, key)}"
            )
