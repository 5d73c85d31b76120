"""Weights and images that need no file: drawn by generators that a parameter's name seeds."""

import math
import re
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
    value, kind = drawn(name, shape), name.rpartition("/")[2]
    if kind == "kernel":
        return value / np.sqrt(np.float32(math.prod(shape[:-1])))
    return 1 + 0.2 * np.tanh(value) if kind in ("scale", "var") else 0.1 * value


def fill(shapes):
    """A tree of variables whose leaves are drawn by `weight`."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: weight("/".join(part.key for part in path), leaf.shape), shapes
    )


def tensor(key, shape):
    """The value of a tensor in timm's network, by its key there and in PyTorch's layout.

    Together they reach every bend of a network: maps pass 6, gates come near 0 and 1, scales have
    both signs, and variances are from 1e-7, where only epsilon is seen, to 1. Branches are halved
    at each norm, so that maps of the deepest networks do not grow until biases vanish beside them.
    """
    value, (norm, _, kind) = drawn(key, shape), key.rpartition(".")
    if len(shape) > 1:
        gain = 4 if re.search(r"se(_module)?\.fc[12]\.", key) else 2
        return value * np.float32(gain / math.prod(shape[1:])) ** np.float32(0.5)
    if kind == "running_var":
        return np.float32(10) ** (3.5 * np.tanh(value) - 3.5)
    if kind == "weight":
        size = (0.5 if key.startswith("layer") else 1) * (0.9 + 0.4 * np.tanh(value))
        sign = np.sign(drawn(f"sign of {key}", shape) + np.float32(0.5))
        return sign * size * np.sqrt(tensor(f"{norm}.running_var", shape) + np.float32(1e-5))
    return value if kind == "bias" else 0.5 * value


def state_dict(name, **fields):
    """The state_dict of a network in timm but for counters, under the keys that we have for it."""
    model = models.construct(name, NETWORKS[name], **fields)
    x = jax.ShapeDtypeStruct((1, 107, 107, 3), np.float32)
    shapes = flatten_dict(jax.eval_shape(model.init, jax.random.key(0), x))
    shapes = {path: leaf.shape for path, leaf in shapes.items()}
    places = torch_names.tensors(model, shapes, legacy=name.startswith("legacy"))
    return {key: tensor(key, place.shape) for key, place in places.items()}


def drawn(name, shape):
    """Standard normal numbers of a generator that the name seeds."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    return random.standard_normal(shape, dtype=np.float32)


def images(height, width=None):
    """Two images [2, H, W, 3], the second of three times the contrast."""
    shape = (2, height, width or height, 3)
    noise = np.random.default_rng(1).standard_normal(shape, dtype=np.float32)
    return noise * np.array([1, 3], np.float32)[:, None, None, None]


def digest(array):
    """Projections of an array to its mean and to 16 random directions.

    The distance of the latter from those of another array is, but for a factor near 1, that of the
    arrays: what differs anywhere is seen. All are in the unit of the array's norm.
    """
    flat = np.asarray(array, np.float64).reshape(-1)
    random = np.random.default_rng(len(flat))
    signs = (random.choice(np.array([-1, 1], np.int8), len(flat)) for _ in range(16))
    projections = (flat.sum() / len(flat) ** 0.5, *(flat @ sign / 4 for sign in signs))
    return [float(f"{value:.10g}") for value in projections]


def equal(one, other):
    """Whether two trees of variables have the same paths and values."""
    one, other = flatten_dict(one), flatten_dict(other)
    assert one.keys() == other.keys()
    return all(np.array_equal(one[path], other[path]) for path in one)
