"""Weights and images that need no file: drawn by generators seeded with a parameter's name."""

import zlib

import jax
import numpy as np


def weight(name, shape):
    """The value of a parameter or statistic, by its path: like a trained network's in size."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    value = random.standard_normal(shape, dtype=np.float32)
    kind = name.rpartition("/")[2]
    if kind == "kernel":
        return value * np.float32(np.prod(shape[:-1])) ** np.float32(-0.5)
    if kind in ("scale", "var"):
        return 1 + 0.2 * np.tanh(value)
    return 0.1 * value


def fill(shapes):
    """`weight` for every leaf of a tree of variables."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: weight("/".join(part.key for part in path), leaf.shape), shapes
    )


def images(size):
    return np.random.default_rng(1).standard_normal((2, size, size, 3), dtype=np.float32)


def digest(array):
    """Some numbers that say much of an array [N, ..., C]: norm, mean and 16 of its values."""
    flat = np.asarray(array, np.float64).reshape(-1)
    picked = np.linspace(0, len(flat) - 1, 16).astype(int)
    return [float(f"{v:.8g}") for v in (np.linalg.norm(flat), flat.mean(), *flat[picked])]
