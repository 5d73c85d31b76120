"""A classifier: a trained network, whatever its source, with all it takes to name what it sees."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from senet_jax.errors import InputError, first_line
from senet_jax.evaluation.scores import best, log_probabilities
from senet_jax.inference import trained_run
from senet_jax.inference.preprocessing import Preprocessing
from senet_jax.layers.network import Network
from senet_jax.models.shapes import takes
from senet_jax.runs.stored import FINAL
from senet_jax.weights import loading, sources


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A trained network, how it is shown images, and what its outputs mean.

    Attributes:
      name: the source that it was asked for by.
      model: the module, normalised images [B, H, W, C] to logits [B, classes].
      variables: `params` and `batch_stats`, as `model.apply` takes them.
      preprocessing: how image files become what the network takes.
      class_names: one name per output.
    """

    name: str
    model: Network
    variables: Any
    preprocessing: Preprocessing
    class_names: tuple[str, ...]

    def seen_at(self, image_size: int | None, eval_crop: float | None) -> "Classifier":
        """The same with images of a different size or crop; None leaves what the weights had.

        Args:
          image_size: height and width in pixels.
          eval_crop: side of the middle that is seen against the shorter side of the image.

        Raises: InputError for a size that the network cannot take, or another crop than there is.
        """
        preprocessing = self.preprocessing.seen_at(image_size, eval_crop)
        if not takes(self.model, self.variables, preprocessing.image_shape):
            height, width, _ = self.preprocessing.image_shape
            raise InputError(
                f"{self.name} cannot take images of {image_size} pixels: it is tied to about the "
                f"{height} x {width} that it was trained on"
            )
        return dataclasses.replace(self, preprocessing=preprocessing)

    def most_probable(self, images: np.ndarray, count: int = 5) -> list[list[tuple[str, float]]]:
        """The most probable classes of each image: (name, probability), most probable first.

        Args:
          images: uint8 [B, H, W, C], as `preprocessing` makes them.
          count: classes per image; all if there are fewer.

        Raises: InputError for anything else, and where the network's answer is not finite.
        """
        if not (isinstance(count, int | np.integer) and count >= 1):
            raise InputError(f"count must be a whole number from 1 on, not {count!r}")
        batch = _as_array(images)
        self.preprocessing.check_batch(batch)
        if not len(batch):
            return []
        normalized = self.preprocessing.normalize(batch)
        logits = jax.jit(self.model.apply)(self.variables, normalized)
        log_probability = log_probabilities(np.asarray(logits)[:, None])
        if np.isnan(log_probability).any():
            raise InputError(f"what {self.name} says of these images is not finite")
        classes = best(log_probability, count)
        return [
            [(self.class_names[number], float(np.exp(of_image[number]))) for number in numbers]
            for of_image, numbers in zip(log_probability, classes, strict=True)
        ]


def _as_array(images: Any) -> jax.Array:
    """Images as an array, which they may be already. Raises: InputError if they are none."""
    if isinstance(images, jax.Array):
        return images
    try:
        array = np.asarray(images)
    except (TypeError, ValueError) as error:  # a list of images that differ in shape, say
        raise InputError(f"images must be one array: {first_line(error)}") from error
    if array.dtype.kind not in "biufc":  # of files, which are not read here
        raise InputError(
            "images must be an array, as np.stack([network.preprocessing(open_image(path)) for "
            f"path in paths]) makes one, not {type(images).__name__}"
        )
    return jnp.asarray(array)


def load_classifier(source: str, weights: str = FINAL, *, unfinished: bool = False) -> Classifier:
    """Load the network that a source stands for.

        network = senet_jax.load_classifier("seresnet50.ra2_in1k")
        image = network.preprocessing(senet_jax.open_image("cat.jpg"))  # [224, 224, 3] uint8
        (classes,) = network.most_probable(image[None])  # [("tabby", 0.71), ...]

    Args:
      source: a name of timm's, with or without the tag of weights; a hub id; a safetensors file
        whose name, or a folder whose config.json, says the network; or a work directory of ours.
      weights: "final", or of a work directory "ema" or "best" as well, see `load_run`.
      unfinished: take a run that has no result yet, at its latest checkpoint.

    Raises: InputError for a source that is none of these or cannot be read.
    """
    path = Path(source).expanduser()
    if sources.is_run(path):
        return _from_run(path, weights, unfinished=unfinished)
    sources.check_only_runs("latest" if unfinished else weights, source)
    loaded = loading.load_pretrained(*sources.by_word(source))
    assert loaded.image_spec is not None
    preprocessing = Preprocessing.of_weights(loaded.image_spec)
    if not takes(loaded.model, loaded.variables, preprocessing.image_shape):
        shape = " x ".join(map(str, preprocessing.image_shape))
        raise InputError(
            f"the weights of {source} are not for images of {shape} (height, width, channels), "
            "which is the input_size that their config.json says or that is usual"
        )
    return Classifier(source, loaded.model, loaded.variables, preprocessing, loaded.class_names)


def _from_run(directory: Path, weights: str, *, unfinished: bool) -> Classifier:
    with trained_run.offering_latest():
        run = trained_run.load_trained_network(directory, weights, unfinished=unfinished)
    section = run.config["data"]
    preprocessing = Preprocessing.of_run(section, run.image_shape, run.mean, run.std)
    return Classifier(str(directory), run.model, run.variables, preprocessing, run.class_names)
