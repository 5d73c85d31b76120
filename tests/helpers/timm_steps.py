"""The weights, batches and learning rates of ten steps, which timm and this package both take."""

import zlib

import numpy as np

STEPS, BATCH, SIZE, CLASSES = 10, 8, 32, 5
SHARE = 0.7  # of an image in its mixture with another
# Of the greatest learning rate: a warm-up and a descent.
RATES = np.float32([0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 0.9, 0.7, 0.4, 0.1])


def tensor(name, shape):
    """A tensor of the network, by its name and shape in PyTorch."""
    noise = np.random.default_rng(zlib.crc32(name.encode())).normal(size=shape)
    if name.endswith("running_mean"):
        noise = np.zeros(shape)
    elif name.endswith("running_var"):
        noise = np.ones(shape)
    elif len(shape) == 1:
        noise = 0.1 * noise + ("bn" in name or "downsample" in name) * name.endswith("weight")
    else:
        noise *= np.sqrt(2 / np.prod(shape[1:]))
    return noise.astype(np.float32)


def batch(step):
    """Images [B, H, W, 3], normalised, and labels [B]."""
    rng = np.random.default_rng(step)
    images = rng.normal(size=(BATCH, SIZE, SIZE, 3)).astype(np.float32)
    labels = rng.integers(0, CLASSES, BATCH)
    return images + labels[:, None, None, None].astype(np.float32) / CLASSES, labels


def soft_targets(labels, smoothing, mixes):
    """Targets [B, classes], of each label and, if mixed, the one at the same place from the end."""
    targets = np.eye(CLASSES)[labels] * (1 - smoothing) + smoothing / CLASSES
    mixed = SHARE * targets + (1 - SHARE) * targets[::-1] if mixes else targets
    return mixed.astype(np.float32)


def summary(name, values):
    """Two numbers that know a tensor: its norm, and its product with a random one."""
    values = np.asarray(values, np.float64)
    direction = np.random.default_rng(zlib.crc32(name.encode()) + 1).normal(size=values.shape)
    return [float(np.linalg.norm(values)), float(np.sum(values * direction))]
