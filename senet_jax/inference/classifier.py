"""A trained network with all that it takes to say what is in an image file, whatever its source."""

import dataclasses
from pathlib import Path
from typing import Any

import flax.errors
import jax
import jax.numpy as jnp
import numpy as np

from senet_jax.errors import InputError, did_you_mean
from senet_jax.evaluation.scores import best, log_probabilities
from senet_jax.inference import preprocessing, trained
from senet_jax.inference.preprocessing import Preprocessing
from senet_jax.layers.network import Network
from senet_jax.runs import workdir
from senet_jax.system import files
from senet_jax.weights import class_names, loading, timm
from senet_jax.weights import files as weight_files


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A trained network.

    Attributes:
      name: what it was asked for by.
      variables: `params` and `batch_stats`.
      shown: how image files become what it takes.
      class_names: of each of its outputs.
    """

    name: str
    model: Network
    variables: Any
    shown: Preprocessing
    class_names: tuple[str, ...]

    def seen_at(self, image_size: int | None, eval_crop: float | None) -> "Classifier":
        """The same with images of another size or crop; None leaves what the weights had.

        Raises: InputError for a size that the network cannot take.
        """
        shown = self.shown.seen_at(image_size, eval_crop)
        image = jax.ShapeDtypeStruct((1, *shown.image_shape), np.float32)
        try:
            jax.eval_shape(self.model.apply, self.variables, image)
        except (flax.errors.FlaxError, TypeError, ValueError, ZeroDivisionError) as error:
            height, width, _ = self.shown.image_shape
            raise InputError(
                f"{self.name} cannot take images of {image_size} pixels: it is tied to about the "
                f"{height} x {width} that it was trained on"
            ) from error
        return dataclasses.replace(self, shown=shown)

    def most_probable(self, images: np.ndarray, count: int = 5) -> list[list[tuple[str, float]]]:
        """Of each image the most probable classes, by name, with their probabilities.

        Args:
          images: uint8 [B, H, W, C], as `shown` makes them.
          count: classes of an image, or as many as there are.
        """
        normalized = self.shown.normalize(jnp.asarray(images))
        logits = jax.jit(self.model.apply)(self.variables, normalized)
        said = log_probabilities(np.asarray(logits)[:, None])
        places = best(said, count)
        return [
            [(self.class_names[number], float(np.exp(row[number]))) for number in numbers]
            for row, numbers in zip(said, places, strict=True)
        ]


def load_classifier(source: str, weights: str = "final", *, unfinished: bool = False) -> Classifier:
    """The network that a source stands for.

    Args:
      source: a name of timm's, with or without the tag of weights; a hub id; a safetensors file
        whose name, or a folder whose config.json, says the network; or a work directory of ours.
      weights, unfinished: of a work directory, see finished.load.

    Raises: InputError for what is none of these or cannot be read.
    """
    path = Path(source).expanduser()
    if loading.is_run(path):
        return _of_run(path, weights, unfinished=unfinished)
    if weights != "final" or unfinished:
        raise InputError(
            f"only runs have other weights than their final ones, and {source} is none"
        )
    network = source.partition(".")[0]
    if network in timm.NETWORKS and not path.exists():
        found = loading.load_pretrained(source)
    else:
        found = loading.load_pretrained(*_named(source))
    assert found.image_spec is not None
    shown = preprocessing.of_weights(found.image_spec)
    return Classifier(source, found.model, found.variables, shown, found.class_names)


def _of_run(directory: Path, weights: str, *, unfinished: bool) -> Classifier:
    with trained.offering_latest():
        done = trained.load_run(directory, weights, unfinished=unfinished)
    dataset, section = done.run.dataset, workdir.load_config(directory).to_dict()["data"]
    shown = preprocessing.of_run(section, done.image_shape, dataset.mean, dataset.std)
    names = class_names.readable(dataset.class_names)
    # One copy, not one on each device.
    variables = jax.tree.map(jnp.asarray, jax.device_get(done.state.variables))
    return Classifier(str(directory), done.run.model, variables, shown, names)


def _named(source: str) -> tuple[str, Path]:
    """The network's name in timm, with a tag if it is known, and the file or folder of weights."""
    if "/" not in source and not Path(source).exists() and not source.endswith(".safetensors"):
        near = did_you_mean(source, [*timm.NETWORKS, *timm.weights()])
        raise InputError(
            f"{source!r} is no network of timm's that is here, no file or folder, and no hub id, "
            f"which looks like timm/seresnet50.ra2_in1k{near}"
        )
    path = weight_files.locate(source)
    file = weight_files.find(path)
    config = files.read_json(file.with_name(weight_files.CONFIG_JSON))
    if isinstance(config, dict) and "architecture" in config:
        return str(config["architecture"]), path
    name = path.name if path.is_dir() else path.stem
    if name.partition(".")[0] not in timm.NETWORKS:
        raise InputError(
            f"nothing says which network {path} has weights of: give it a config.json that names "
            "the `architecture`, or a name such as seresnet50.safetensors"
        )
    return (name if name in timm.weights() else name.partition(".")[0]), path
