"""Random arrays, distances, gradients, and the layers of a block in float64, for tests."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from helpers.weights import fill


def normal(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def distance(value, reference):
    """Relative L2 distance."""
    value, reference = np.asarray(value, "float64"), np.asarray(reference, "float64")
    return np.linalg.norm(value - reference) / max(np.linalg.norm(reference), 1e-30)


def positive(shape, seed=0):
    """Random numbers between 0.5 and 1.5: no sum cancels, however few its terms."""
    return np.random.default_rng(seed).random(shape).astype("float32") + np.float32(0.5)


def with_gradients(function, *inputs, cotangent=normal):
    """The value, and the gradient of every input for a fixed random cotangent."""

    @jax.jit
    def run(*inputs):
        value, back = jax.vjp(function, *inputs)
        return value, *back(jnp.asarray(cotangent(value.shape, seed=9), value.dtype))

    return run(*inputs)


def reference_convolution(x, w, stride, groups, cotangent=normal):
    """Value and gradients of a convolution in float64, tap by tap."""
    x, w = x.astype("float64"), w.astype("float64")
    (rows, columns, _, outputs), (n, height, width, _) = w.shape, x.shape
    pads = ((0, 0), (rows // 2,) * 2, (columns // 2,) * 2, (0, 0))
    padded = np.pad(x, pads).reshape(n, height + rows - 1, width + columns - 1, groups, -1)
    w = w.reshape(rows, columns, -1, groups, outputs // groups)
    down, across = -(-height // stride), -(-width // stride)

    def seen(array, i, j):
        return array[:, i : i + stride * (down - 1) + 1 : stride][
            :, :, j : j + stride * (across - 1) + 1 : stride
        ]

    taps = list(itertools.product(range(rows), range(columns)))
    y = sum(np.einsum("nhwgc,cgo->nhwgo", seen(padded, i, j), w[i, j]) for i, j in taps)
    dy = cotangent((n, down, across, outputs), seed=9).astype("float64").reshape(y.shape)
    dx, dw = np.zeros_like(padded), np.zeros_like(w)
    for i, j in taps:
        seen(dx, i, j)[...] += np.einsum("nhwgo,cgo->nhwgc", dy, w[i, j])
        dw[i, j] = np.einsum("nhwgc,nhwgo->cgo", seen(padded, i, j), dy)
    dx = dx[:, rows // 2 : rows // 2 + height, columns // 2 : columns // 2 + width]
    return (
        y.reshape(n, down, across, outputs),
        dx.reshape(x.shape),
        dw.reshape(rows, columns, -1, outputs),
    )


def relu(x):
    return np.maximum(x, 0)


class Weights:
    """Parameters and statistics of a block in float64, with its layers in evaluation, by name."""

    def __init__(self, variables):
        self.params, self.stats = (
            jax.tree.map(lambda leaf: np.asarray(leaf, "float64"), variables.get(kind, {}))
            for kind in ("params", "batch_stats")
        )

    def conv(self, x, *names, stride=1, groups=1):
        kernel = functools.reduce(dict.get, names, self.params)["kernel"]
        return reference_convolution(x, kernel, stride, groups)[0]

    def bn(self, x, *names):
        params, stats = (functools.reduce(dict.get, names, t) for t in (self.params, self.stats))
        scale = params["scale"] / np.sqrt(stats["var"] + 1e-5)
        return (x - stats["mean"]) * scale + params["bias"]

    def fc(self, z, name):
        layer = self.params[name]
        return z @ layer["kernel"] + layer.get("bias", 0.0)

    def mlp(self, z):
        return self.fc(relu(self.fc(z, "reduce")), "expand")

    def conv_bn(self, x, *names, **how):
        return self.bn(self.conv(x, *names, "conv", **how), *names, "bn")

    def se(self, u, name="se", source=None):
        """The SE block without biases; the gate comes from `source`, if there is one."""
        z = (u if source is None else source).mean((1, 2)) @ self.params[name]["reduce"]["kernel"]
        gate = 1 / (1 + np.exp(-relu(z) @ self.params[name]["expand"]["kernel"]))
        return u * gate[:, None, None]


def check_block(block, channels, reference):
    """Check a block in evaluation against a function of its Weights and a map, in float64."""
    x = normal((2, 8, 8, channels))
    variables = fill(jax.eval_shape(lambda x: block.init(jax.random.key(0), x, False), x))
    got = jax.jit(lambda v, x: block.apply(v, x, False))(variables, x)
    want = reference(Weights(variables), x.astype("float64"))
    assert got.shape == want.shape
    assert distance(got, want) < 1e-5
