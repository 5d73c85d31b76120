"""The readers that `python -m experiments.benchmark --input` times: our stream, and one on Pillow.

    python -m experiments.timing.readers WHO DATASET SIZE BATCH

The command is one contestant of experiments/timing/race.py. It answers with seconds of processor
time of all threads, since the clock would also count other programs of a shared machine; batches
that a reader prepares while it waits for its turn count as well. A step
reads four batches of training images as uint8, cropped at random as torchvision does (8 to 100 % of
the area, 3:4 to 4:3), resized with antialiasing and mirrored.

`pillow` is torchvision's RandomResizedCrop and RandomHorizontalFlip, written with Pillow alone. It
uses as many threads as there are processors; Pillow lets them run side by side. Its images are
encoded files in memory, while ours are read, parsed and shuffled; ours are mirrored later, on the
device.
"""

import collections
import io
import itertools
import math
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from PIL import Image

from configs import common
from experiments.timing.answers import serve
from senet_jax import data
from senet_jax.data.sources import lookup, tfds_builder, tfds_source
from senet_jax.errors import InputError
from senet_jax.system import cli, processors

CONTESTANTS = ("ours", "pillow")
BATCHES = 4  # batches per step
MOST = 2000  # the largest number of a dataset's examples that are used
EPOCH = 20_000  # fewest images in an epoch of our stream, so that no turn begins one
AREA = (0.08, 1.0)
ASPECT_RATIOS = (3 / 4, 4 / 3)


def main(argv: list[str]) -> None:
    who, name, *numbers = argv[1:]
    size, batch = map(int, numbers)
    start = time.perf_counter()
    reader = {"ours": ours, "pillow": pillow}[who](name, size, batch)
    assert next(reader).shape == (batch, size, size, 3)

    def steps(count: int) -> None:
        for _ in range(count * BATCHES):
            next(reader)

    serve(steps, time.perf_counter() - start, work=time.process_time)


def find(name: str) -> tuple[tfds_source.TfdsSource, str]:
    """Prepare a dataset of TFDS; returns it with the split to read.

    Raises: InputError if there is none, or it is not one of TFDS.
    """
    tfds_builder.import_tfds()
    import experiments.timing.photographs  # noqa: F401  (registers the builder)

    source = lookup.find(name)
    if not isinstance(source, tfds_source.TfdsSource):
        raise InputError(f"--input races on datasets of TFDS, and {name!r} is none")
    source = tfds_source.prepare(source)
    return source, f"train[:{min(MOST, source.count('train'))}]"


def ours(name: str, size: int, batch: int) -> Iterator[np.ndarray]:
    """Our training batches [batch, size, size, 3] with the settings of configs/common.py."""
    source, split = find(name)
    splits = "+".join([split] * -(-EPOCH // source.count(split)))
    defaults = common.get_config().to_dict()["data"]
    keys = "eval_crop", "crop_area", "interpolation", "shuffle_buffer", "max_unreadable"
    views: dict[str, Any] = {key: defaults[key] for key in keys}
    dataset = data.load_dataset(name, splits, split, image_size=size, **views)
    return (images["image"] for images in dataset.train.train_batches(batch, seed=0))


def pillow(name: str, size: int, batch: int) -> Iterator[np.ndarray]:
    """Random batches [batch, size, size, 3] without end; one is made while another is taken."""
    source, split = find(name)
    images = source.encoded(split)
    encoded = [bytes(example[source.image_key]) for example in images.as_numpy_iterator()]
    pool, rng = ThreadPoolExecutor(len(processors.usable())), np.random.default_rng(0)
    pending: collections.deque[list[Future[np.ndarray]]] = collections.deque()
    for step in itertools.count():
        chosen = rng.integers(len(encoded), size=batch).tolist()
        pending.append(
            [
                pool.submit(view, encoded[index], size, np.random.default_rng((step, place)))
                for place, index in enumerate(chosen)
            ]
        )
        if len(pending) > 1:
            yield np.stack([image.result() for image in pending.popleft()])


def view(encoded: bytes, size: int, rng: np.random.Generator) -> np.ndarray:
    """Decode a random part of an image, resized and perhaps mirrored, as [size, size, 3] uint8."""
    image = Image.open(io.BytesIO(encoded)).convert("RGB")
    box = random_box(image.width, image.height, rng)
    image = image.crop(box).resize((size, size), Image.Resampling.BILINEAR)
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(image)


def random_box(width: int, height: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Draw left, top, right and bottom as torchvision does; the middle after ten attempts."""
    least, most = np.log(ASPECT_RATIOS)
    for _ in range(10):
        area, ratio = width * height * rng.uniform(*AREA), math.exp(rng.uniform(least, most))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = rng.integers(width - w + 1), rng.integers(height - h + 1)
            return int(left), int(top), int(left + w), int(top + h)
    w, h = (
        min(width, round(height * ASPECT_RATIOS[1])),
        min(height, round(width / ASPECT_RATIOS[0])),
    )
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


if __name__ == "__main__":
    cli.run(main, __doc__)
