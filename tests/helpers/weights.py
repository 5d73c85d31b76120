"""Weights and images that need no file: drawn by generators that a parameter's name seeds."""

import math
import zlib

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from senet_jax import models
from senet_jax.weights import torch_names
from senet_jax.weights.timm import NETWORKS

# A small network in timm, a set of weights for it, and the fields of the narrowest one in tests.
SMALL = "mobilenetv1_100"
TAG = "mobilenetv1_100.ra4_e3600_r224_in1k"
THREE = {"num_classes": 3}


def weight(name, shape):
    """The value of a parameter or statistic, by its path, in the size of a trained network's."""
    kind = name.rpartition("/")[2]
    return drawn(name, shape, kind == "kernel" and math.prod(shape[:-1]), kind in ("scale", "var"))


def fill(shapes):
    """A tree of variables whose leaves are drawn by `weight`."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: weight("/".join(part.key for part in path), leaf.shape), shapes
    )


def tensor(key, shape):
    """The value of a tensor in timm's network, by its key there and in PyTorch's layout."""
    is_scale = len(shape) == 1 and key.endswith((".weight", ".running_var"))
    return drawn(key, shape, len(shape) > 1 and math.prod(shape[1:]), is_scale)


def state_dict(name, **fields):
    """The state_dict of a network in timm but for counters, under the keys that we have for it."""
    model = models.construct(name, NETWORKS[name], **fields)
    x = jax.ShapeDtypeStruct((1, 107, 107, 3), np.float32)
    shapes = flatten_dict(jax.eval_shape(model.init, jax.random.key(0), x))
    shapes = {path: leaf.shape for path, leaf in shapes.items()}
    places = torch_names.tensors(model, shapes, legacy=name.startswith("legacy"))
    return {key: tensor(key, place.shape) for key, place in places.items()}


def drawn(name, shape, inputs, is_scale):
    """Draw a value.

    Args:
      inputs: number of inputs per output of a kernel; 0 for what is no kernel.
      is_scale: whether it is positive and near 1.
    """
    random = np.random.default_rng(zlib.crc32(name.encode()))
    value = random.standard_normal(shape, dtype=np.float32)
    if inputs:
        return value * np.float32(inputs) ** np.float32(-0.5)
    return 1 + 0.2 * np.tanh(value) if is_scale else 0.1 * value


def images(size):
    return np.random.default_rng(1).standard_normal((2, size, size, 3), dtype=np.float32)


def digest(array):
    """Some numbers that say much of an array [N, ..., C]: norm, mean and 16 of its values."""
    flat = np.asarray(array, np.float64).reshape(-1)
    picked = np.linspace(0, len(flat) - 1, 16).astype(int)
    return [float(f"{v:.8g}") for v in (np.linalg.norm(flat), flat.mean(), *flat[picked])]


def equal(one, other):
    """Whether two trees of variables have the same paths and values."""
    one, other = flatten_dict(one), flatten_dict(other)
    assert one.keys() == other.keys()
    return all(np.array_equal(one[path], other[path]) for path in one)
