"""Convolution, batch normalisation and max-pooling: right on a CPU, untouched elsewhere."""

import collections
import itertools
import re

import flax.linen as nn
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

import senet_jax
from senet_jax.errors import InputError
from senet_jax.layers.conv import Conv, convolve
from senet_jax.layers.norm import BatchNorm
from senet_jax.layers.pool import max_pool


def normal(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def distance(value, reference):
    """Relative L2."""
    value, reference = np.asarray(value, "float64"), np.asarray(reference, "float64")
    return np.linalg.norm(value - reference) / max(np.linalg.norm(reference), 1e-30)


def positive(shape, seed=0):
    """Between 0.5 and 1.5: no sum cancels, however few its terms."""
    return np.random.default_rng(seed).random(shape).astype("float32") + np.float32(0.5)


def with_gradients(function, *inputs, cotangent=normal):
    """The value and, for a fixed random cotangent, the gradient of every input."""

    @jax.jit
    def run(*inputs):
        value, back = jax.vjp(function, *inputs)
        return value, *back(jnp.asarray(cotangent(value.shape, seed=9), value.dtype))

    return run(*inputs)


# Convolution


def reference_convolution(x, w, stride, groups, cotangent=normal):
    """Value and gradients in float64, tap by tap."""
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


def check_convolution(n, size, kernel, stride, groups, channels, random=normal):
    x = random((n, *size, channels[0]))
    w = random((*kernel, channels[0] // groups, channels[1]), seed=1)
    padding = tuple((side // 2, side // 2) for side in kernel)

    def function(x, w):
        return convolve(x, w, stride=(stride, stride), padding=padding, groups=groups)

    results = with_gradients(function, x, w, cotangent=random)
    references = reference_convolution(x, w, stride, groups, random)
    for value, reference in zip(results, references, strict=True):
        assert value.shape == reference.shape
        assert distance(value, reference) <= 1e-6


# Every class of convolution in the networks, at widths that keep the tests short.
CLASSES = {
    "stem 7x7": (2, (16, 16), (7, 7), 2, 1, (3, 16)),
    "3x3": (2, (7, 7), (3, 3), 1, 1, (64, 64)),
    "3x3 stride 2": (2, (14, 14), (3, 3), 2, 1, (32, 48)),
    "3x3 stride 2, odd map": (2, (7, 9), (3, 3), 2, 1, (32, 48)),
    "1x1": (2, (7, 7), (1, 1), 1, 1, (64, 256)),
    "1x1 stride 2": (2, (14, 14), (1, 1), 2, 1, (64, 32)),
    "1x1 stride 2, odd map": (2, (7, 5), (1, 1), 2, 1, (64, 32)),
    "grouped, one block": (2, (7, 7), (3, 3), 1, 8, (32, 32)),
    "grouped, blocks of several groups": (2, (7, 7), (3, 3), 1, 32, (128, 128)),
    "grouped, groups wider than a block": (2, (5, 5), (3, 3), 1, 2, (96, 96)),
    "grouped stride 2": (2, (8, 8), (3, 3), 2, 32, (128, 128)),
    "grouped 1x1": (2, (7, 7), (1, 1), 1, 3, (24, 54)),
    "depthwise": (2, (7, 7), (3, 3), 1, 24, (24, 24)),
    "depthwise stride 2": (2, (8, 8), (3, 3), 2, 24, (24, 24)),
    "depthwise stride 2, odd map": (2, (7, 7), (3, 3), 2, 24, (24, 24)),
    "depthwise with a multiplier": (2, (7, 7), (3, 3), 1, 8, (8, 16)),
    "1x7": (2, (9, 9), (1, 7), 1, 1, (16, 24)),
    "5x5": (2, (9, 9), (5, 5), 1, 1, (16, 24)),
    "one image": (1, (7, 7), (3, 3), 1, 1, (16, 16)),
}


@pytest.mark.parametrize("case", CLASSES)
def test_convolutions_and_their_gradients_equal_a_float64_reference(case):
    check_convolution(*CLASSES[case])


@pytest.mark.slow
@hypothesis.settings(deadline=None, max_examples=40, derandomize=True)
@hypothesis.given(
    n=st.integers(1, 3),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    kernel=st.tuples(st.sampled_from([1, 3, 5, 7]), st.sampled_from([1, 3, 5, 7])),
    stride=st.sampled_from([1, 2, 3]),
    groups=st.sampled_from([1, 2, 3, 8, 12]),
    depth=st.integers(1, 5),
    widen=st.sampled_from([1, 2, 3]),
)
def test_random_convolutions_equal_a_float64_reference(
    n, size, kernel, stride, groups, depth, widen
):
    channels = (groups * depth, groups * widen * (1 if groups > 1 else depth))
    check_convolution(n, size, kernel, stride, groups, channels, positive)


@pytest.mark.parametrize(
    "fields",
    [
        {"kernel_size": (3, 3)},
        {"kernel_size": (3, 3), "strides": (2, 2)},  # SAME is not half the kernel on an even map
        {"kernel_size": (3, 3), "padding": "VALID"},
        {"kernel_size": (1, 1), "padding": "VALID", "use_bias": False},
        {"kernel_size": (2, 2)},
        {"kernel_size": (3, 3), "kernel_dilation": (2, 2)},
        {"kernel_size": (3, 3), "padding": 2},
        {"kernel_size": (3, 3), "feature_group_count": 4},
        {"kernel_size": (3, 3), "dtype": jnp.bfloat16},
    ],
    ids=str,
)
def test_conv_is_a_drop_in_for_flax(fields):
    x = normal((2, 8, 8, 8))
    ours, flaxs = Conv(12, **fields), nn.Conv(12, **fields)
    variables = ours.init(jax.random.key(0), x)
    expected = flaxs.init(jax.random.key(0), x)
    assert jax.tree.structure(variables) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(variables), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(a, b)
    got, want = ours.apply(variables, x), flaxs.apply(variables, x)
    assert got.dtype == want.dtype
    assert distance(got, want) < (1e-2 if "dtype" in fields else 1e-6)
    batches = ours.apply(variables, x.reshape(2, 1, 8, 8, 8))
    np.testing.assert_allclose(batches[:, 0], got, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("groups", [1, 8, 32])
def test_bfloat16_gradients_are_as_close_as_bfloat16_is(groups):
    x, w = normal((2, 8, 8, 32)), normal((3, 3, 32 // groups, 32), seed=1)
    results = with_gradients(
        lambda x, w: convolve(x, w, groups=groups),
        jnp.asarray(x, jnp.bfloat16),
        jnp.asarray(w, jnp.bfloat16),
    )
    for value, reference in zip(results, reference_convolution(x, w, 1, groups), strict=True):
        assert value.dtype == jnp.bfloat16
        assert distance(value, reference) < 1e-2


def test_gradients_of_gradients_equal_those_of_the_plain_operation():
    x, w = normal((2, 6, 6, 8)), normal((3, 3, 2, 8), seed=1)

    def penalty(implementation):
        def loss(x, w):
            y = convolve(x, w, stride=(2, 2), padding=1, groups=4, implementation=implementation)
            return jnp.sum(jnp.tanh(y))

        return lambda x, w: sum(jnp.sum(g**2) for g in jax.grad(loss, (0, 1))(x, w))

    for got, want in zip(
        jax.grad(penalty("auto"), (0, 1))(x, w),
        jax.grad(penalty("xla"), (0, 1))(x, w),
        strict=True,
    ):
        assert distance(got, want) < 1e-5


def test_forward_mode_needs_the_plain_operation():
    x, w = normal((1, 4, 4, 3)), normal((3, 3, 3, 4))
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda x: convolve(x, w), (x,), (x,))
    value, tangent = jax.jvp(lambda x: convolve(x, w, implementation="xla"), (x,), (x,))
    np.testing.assert_array_equal(value, tangent)  # linear


def test_convolutions_can_be_mapped_over():
    x, w = normal((3, 2, 6, 6, 8)), normal((3, 3, 8, 8))
    np.testing.assert_allclose(
        jax.vmap(convolve, in_axes=(0, None))(x, w),
        jnp.stack([convolve(one, w) for one in x]),
        rtol=1e-5,
        atol=1e-5,
    )


def test_unknown_implementations_and_groups_are_refused():
    x = normal((1, 4, 4, 6))
    with pytest.raises(ValueError, match="must be one of auto, xla, not 'fast'"):
        Conv(4, (1, 1), implementation="fast").init(jax.random.key(0), x)
    with pytest.raises(ValueError, match=r"4 groups .* 6 input and 8 output channels"):
        Conv(8, (1, 1), feature_group_count=4).init(jax.random.key(0), x)
    with pytest.raises(InputError, match="must be one of auto, xla, not 'cudnn'"):
        senet_jax.create_model("seresnet50", implementation="cudnn")


# Batch normalisation


def normalised(layer, variables, x):
    return layer.apply(variables, x, mutable=["batch_stats"])


@pytest.mark.parametrize("implementation", ["auto", "xla"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_batch_norm_is_a_drop_in_for_flax(implementation, dtype):
    x = jnp.asarray(2 * normal((4, 5, 5, 6)) + 1, dtype)
    fields = {"use_running_average": False, "momentum": 0.9, "epsilon": 1e-5, "dtype": dtype}
    ours, flaxs = BatchNorm(**fields, implementation=implementation), nn.BatchNorm(**fields)
    variables = ours.init(jax.random.key(0), x)
    assert jax.tree.all(jax.tree.map(np.array_equal, variables, flaxs.init(jax.random.key(0), x)))
    variables["params"] = {
        "scale": jnp.asarray(normal((6,), 2)),
        "bias": jnp.asarray(normal((6,), 3)),
    }

    def run(layer):
        def function(x, params):
            return normalised(layer, variables | {"params": params}, x)[0]

        return with_gradients_of_tree(function, x, variables["params"])

    tolerance = 1e-6 if dtype == "float32" else 1e-2
    for got, want in zip(run(ours), run(flaxs), strict=True):
        assert got.dtype == want.dtype
        assert distance(got, want) < tolerance
    for got, want in zip(
        jax.tree.leaves(normalised(ours, variables, x)[1]),
        jax.tree.leaves(normalised(flaxs, variables, x)[1]),
        strict=True,
    ):
        np.testing.assert_allclose(got, want, rtol=1e-6)
    evaluation = dict(fields, use_running_average=True)
    np.testing.assert_allclose(
        BatchNorm(**evaluation, implementation=implementation).apply(variables, x),
        nn.BatchNorm(**evaluation).apply(variables, x),
        rtol=1e-6 if dtype == "float32" else 1e-2,
    )


def with_gradients_of_tree(function, x, tree):
    value, back = jax.vjp(function, x, tree)
    dx, dtree = back(jnp.asarray(normal(value.shape, 9), value.dtype))
    return [value, dx, *jax.tree.leaves(dtree)]


def test_variance_survives_a_mean_a_thousand_times_the_deviation():
    x = normal((8, 7, 7, 5)) + np.float32(1000)
    exact = x.astype("float64")
    layer = BatchNorm(use_running_average=False)
    variables = layer.init(jax.random.key(0), x)
    y, updates = normalised(layer, variables, x)
    var = exact.var((0, 1, 2))
    np.testing.assert_allclose(updates["batch_stats"]["var"], 0.9 + 0.1 * var, rtol=1e-6)
    expected = (exact - exact.mean((0, 1, 2))) / np.sqrt(var + 1e-5)
    assert distance(y, expected) < 1e-4  # the mean itself is known to 1000 * 6e-8
    # The one-pass formula has no digit left, so this test can fail.
    plain = BatchNorm(use_running_average=False, implementation="xla")
    assert distance(normalised(plain, variables, x)[0], expected) > 1e-3


def test_batch_norm_gradients_equal_a_float64_reference():
    x = normal((4, 5, 5, 6)) * 3 + 2
    scale, bias = normal((6,), 2), normal((6,), 3)
    layer = BatchNorm(use_running_average=False)

    def function(x, scale, bias):
        stats = {"mean": jnp.zeros(6), "var": jnp.ones(6)}
        return normalised(
            layer, {"params": {"scale": scale, "bias": bias}, "batch_stats": stats}, x
        )[0]

    _, dx, dscale, dbias = with_gradients(function, x, scale, bias)
    exact, dy = x.astype("float64"), normal(x.shape, seed=9).astype("float64")
    axes = (0, 1, 2)
    inverse = 1 / np.sqrt(exact.var(axes) + 1e-5)
    unit = (exact - exact.mean(axes)) * inverse
    assert distance(dscale, (dy * unit).sum(axes)) < 1e-6
    assert distance(dbias, dy.sum(axes)) < 1e-6
    expected = scale * inverse * (dy - dy.mean(axes) - unit * (dy * unit).mean(axes))
    assert distance(dx, expected) < 1e-6


def test_statistics_over_devices_are_those_of_the_whole_batch():
    x = normal((4, 2, 3, 3, 5)) + np.arange(4, dtype="float32").reshape(4, 1, 1, 1, 1) * 1000
    layer = BatchNorm(use_running_average=False, axis_name="i")
    variables = BatchNorm(use_running_average=False).init(jax.random.key(0), x[0])
    y, updates = jax.vmap(lambda x: normalised(layer, variables, x), axis_name="i")(x)
    exact = x.astype("float64").reshape(-1, 5)
    np.testing.assert_allclose(
        updates["batch_stats"]["var"][0], 0.9 + 0.1 * exact.var(0), rtol=1e-5
    )
    expected = (x.astype("float64") - exact.mean(0)) / np.sqrt(exact.var(0) + 1e-5)
    assert distance(y, expected) < 1e-5


# Max-pooling

POOLS = [
    ((8, 8), (3, 3), (2, 2), ((1, 1), (1, 1))),
    ((7, 9), (3, 3), (2, 2), ((1, 1), (1, 1))),
    ((8, 8), (3, 3), (2, 2), ((0, 1), (0, 1))),  # ceil mode of the authors' networks
    ((6, 6), (2, 2), (2, 2), "VALID"),
    ((7, 7), (3, 3), (2, 2), "VALID"),
    ((5, 5), (3, 3), (1, 1), "SAME"),
]


@pytest.mark.parametrize(("size", "window", "stride", "padding"), POOLS, ids=str)
@pytest.mark.parametrize("ties", [False, True])
def test_pooling_and_its_gradient_equal_xla(size, window, stride, padding, ties):
    x = normal((2, *size, 3))
    x = np.maximum(np.round(x), 0) if ties else x  # after a ReLU most windows hold ties
    got = with_gradients(lambda x: max_pool(x, window, stride, padding), x)
    want = with_gradients(lambda x: nn.max_pool(x, window, stride, padding), x)
    np.testing.assert_array_equal(got[0], want[0])
    np.testing.assert_allclose(got[1], want[1], rtol=1e-6, atol=1e-6)


def test_pooling_hands_on_what_is_not_a_number():
    x = normal((1, 4, 4, 1))
    x[0, 1, 1, 0] = np.nan
    y = jax.jit(lambda x: jax.vjp(lambda x: max_pool(x, (2, 2), (2, 2)), x)[0])(x)
    np.testing.assert_array_equal(y, nn.max_pool(x, (2, 2), (2, 2)))
    assert np.isnan(y[0, 0, 0, 0])


# Whole networks

FAMILIES = {
    "seresnet20_cifar": {"stage_sizes": (1, 1, 1), "width": 8},
    "seresnet50": {"stage_sizes": (1, 1), "width": 8, "se": {"stages": (2, 3)}},
    "seresnext50_32x4d": {"stage_sizes": (1, 1), "width": 64, "se": {"stages": (2, 3)}},
    "semobilenetv1": {"width_multiplier": 0.25},
}


def network_loss(name, implementation, nudge=0.0):
    model = senet_jax.create_model(
        name, implementation=implementation, num_classes=5, **FAMILIES[name]
    )
    x = normal((8, 64, 64, 3))  # large enough for batch statistics that are well conditioned
    x *= np.float32(1) + np.float32(nudge) * np.sign(normal(x.shape, seed=5))

    def loss(params, batch_stats):
        logits, _ = model.apply(
            {"params": params, "batch_stats": batch_stats}, x, train=True, mutable=["batch_stats"]
        )
        return jnp.sum(jax.nn.log_softmax(logits)[:, 0])

    return model, x, loss


@pytest.mark.parametrize("name", FAMILIES)
def test_gradients_of_whole_networks_equal_those_of_plain_layers(name):
    model, x, loss = network_loss(name, "auto")
    variables = jax.jit(model.init)(jax.random.key(0), x)
    arguments = variables["params"], variables["batch_stats"]
    got, want, nudged = (
        np.concatenate(
            [np.ravel(leaf) for leaf in jax.tree.leaves(jax.jit(jax.grad(f))(*arguments))]
        )
        for f in (
            loss,
            network_loss(name, "xla")[2],
            network_loss(name, "xla", nudge=2**-23)[2],
        )
    )
    # A network amplifies the last bit of a layer, some more than others; so the measure is what
    # the last bit of the images does to the plain network.
    assert distance(got, want) < 3 * distance(nudged, want) < 3e-3


OPERATIONS = re.compile(
    r"stablehlo\.(convolution|dot_general|reduce_window|select_and_scatter|while|"
    r"optimization_barrier)\b(.*)"
)


def operations(function, arguments, platform):
    """How often a program for a platform has each costly operation, operands' names left out."""
    text = jax.export.export(jax.jit(function), platforms=[platform])(*arguments).mlir_module()
    return collections.Counter(
        (kind, re.sub(r"%\w+(#\d+)?|loc\(.*?\)", "", rest))
        for kind, rest in OPERATIONS.findall(text)
    )


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize("name", FAMILIES)
def test_programs_for_other_platforms_are_those_of_plain_layers(name, platform):
    model, x, loss = network_loss(name, "auto")
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    arguments = shapes["params"], shapes["batch_stats"]
    plain = network_loss(name, "xla")[2]
    expected = operations(jax.grad(plain), arguments, platform)
    assert any(kind == "convolution" for kind, _ in expected)
    assert operations(jax.grad(loss), arguments, platform) == expected
    # On a CPU they differ, so this test can fail.
    assert operations(jax.grad(loss), arguments, "cpu") != expected
