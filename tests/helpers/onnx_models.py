"""Networks with weights that are drawn, and what ONNX Runtime says of them when exported."""

import dataclasses

import jax
import numpy as np
from helpers.weights import drawn

from senet_jax.inference.classifier import Classifier
from senet_jax.inference.preprocessing import Preprocessing
from senet_jax.models import create_model
from senet_jax.weights.image_spec import ImageSpec


def made(name, side, **fields):
    """A network whose logits differ from image to image, however deep it is."""
    model = create_model(name, **fields)
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, side, side, 3)))
    variables = jax.tree_util.tree_map_with_path(_weight, shapes)
    preprocessing = Preprocessing.of_weights(ImageSpec((3, side, side), 0.9, "bilinear"))
    names = tuple(map(str, range(model.num_classes)))
    return Classifier(name, model, variables, preprocessing, names)


def _weight(path, leaf):
    name = "/".join(part.key for part in path)
    value = drawn(name, leaf.shape)
    if len(leaf.shape) > 1:
        return value * np.float32(2 / np.prod(leaf.shape[:-1])) ** np.float32(0.5)
    if name.endswith(("scale", "var")):
        return (1 if name.endswith("scale") else 0.6) * (1 + 0.5 * np.tanh(value))
    return 0.3 * value


def at_ease(network):
    """The network with the batch statistics of its own maps, and small branches, as a trained one.

    Otherwise the maps of a hundred layers grow or vanish, and with them any rounding: two orders of
    summing then differ by more than 1e-5.
    """
    model, images = network.model.clone(implementation="xla"), images_for(network, 8)
    start = jax.tree.map(np.zeros_like, network.variables["batch_stats"])
    params = jax.tree_util.tree_map_with_path(
        lambda path, leaf: 0.2 * leaf if path[-1].key == "scale" else leaf,
        network.variables["params"],
    )
    variables = {"params": params, "batch_stats": start}

    @jax.jit
    def statistics(variables, images):
        rngs = {"dropout": jax.random.key(0)}
        _, updated = model.apply(variables, images, train=True, mutable=["batch_stats"], rngs=rngs)
        return updated["batch_stats"]

    # One step moves them by a tenth, from zero.
    stats = statistics(variables, network.preprocessing.normalize(images))
    stats = jax.tree_util.tree_map_with_path(
        # What hardly varies is not blown up, or rounding would be.
        lambda path, value: np.maximum(10 * value, 0.002 if path[-1].key == "var" else -np.inf),
        stats,
    )
    return dataclasses.replace(network, variables=variables | {"batch_stats": stats})


def images_for(network, count=3):
    """Images with shapes and brightness of their own, which no network averages away."""
    height, width, channels = network.preprocessing.image_shape
    rng = np.random.default_rng(0)
    coarse = rng.random((count, 8, 8, channels)) * np.linspace(0.5, 1, count)[:, None, None, None]
    rows, columns = (np.arange(side) * 8 // side for side in (height, width))
    return (255 * coarse[:, rows][:, :, columns]).astype(np.uint8)


def logits_of(network, images):
    """What the network itself says, with plain layers, as exported ones are."""
    model = network.model.clone(implementation="xla")
    normalized = network.preprocessing.normalize(images)
    return np.asarray(jax.jit(model.apply)(network.variables, normalized))


def run_onnx(program, images):
    import onnxruntime

    (logits,) = onnxruntime.InferenceSession(program).run(None, {"images": images})
    return logits
