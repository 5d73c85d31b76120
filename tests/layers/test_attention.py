"""The successors of the SE block agree with NumPy in float64, and with their papers.

The file is long, like the one that it tests: a reference per kind, then what all kinds share.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.numeric import Weights, distance, normal, relu
from helpers.quick import one_in
from helpers.weights import fill

from experiments.grid.narrow import NARROW
from senet_jax import create_model
from senet_jax.layers.attention import COLUMNS, ROWS, dct, eca_kernel_size
from senet_jax.layers.network import Layers
from senet_jax.layers.slot import KINDS, SEConfig, attend, fields_of
from senet_jax.models.counts import summarize

CHANNELS, RATIO = 32, 4
SHAPE = (3, 7, 6, CHANNELS)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def mean(u):
    return u.mean((1, 2), keepdims=True)


def eca(w, u):
    kernel, z = w.params["conv"]["kernel"].ravel(), mean(u)
    reach = len(kernel) // 2
    padded = np.pad(z, ((0, 0), (0, 0), (0, 0), (reach, reach)))
    s = sum(k * padded[..., i : i + u.shape[-1]] for i, k in enumerate(kernel))
    return u * sigmoid(s)


def ese(w, u):
    return u * sigmoid(w.fc(mean(u), "fc"))


def cbam_channel(w, u):
    return u * sigmoid(w.mlp(mean(u)) + w.mlp(u.max((1, 2), keepdims=True)))


def cbam(w, u):
    u = cbam_channel(w, u)
    pooled = np.stack([u.mean(-1), u.max(-1)], -1)
    return u * sigmoid(w.bn(w.conv(pooled, "spatial", "conv"), "spatial", "bn"))


def dilated(x, kernel, step):
    """A 3x3 whose taps lie `step` apart, by shifting the map."""
    padded = np.pad(x, ((0, 0), (step, step), (step, step), (0, 0)))
    height, width = x.shape[1:3]
    return sum(
        padded[:, step * i : step * i + height, step * j : step * j + width] @ kernel[i, j]
        for i in range(3)
        for j in range(3)
    )


def bam(w, u):
    channel = w.fc(relu(w.bn(w.fc(mean(u), "reduce"), "bn")), "expand")
    x = relu(w.bn(w.conv(u, "spatial_reduce", "conv"), "spatial_reduce", "bn"))
    for index in (1, 2):
        kernel = w.params[f"spatial_conv{index}"]["kernel"]
        x = relu(w.bn(dilated(x, kernel, 4), f"spatial_bn{index}"))
    return u * (1 + sigmoid(channel + w.conv(x, "spatial_expand")))


def gathered(w, u):
    kernel = w.params["gather"]["kernel"][:, :, 0]
    return w.bn(np.einsum("nhwc,hwc->nc", u, kernel)[:, None, None], "bn")


def ge_theta(w, u):
    return u * sigmoid(gathered(w, u))


def ge_theta_plus(w, u):
    return u * sigmoid(w.mlp(gathered(w, u)))


def gc(w, u):
    flat = u.reshape(len(u), -1, u.shape[-1])
    e = np.exp(flat @ w.params["attention"]["kernel"][:, 0])
    context = np.einsum("np,npc->nc", e / e.sum(1, keepdims=True), flat)
    h = w.fc(context, "reduce")
    h = (h - h.mean(-1, keepdims=True)) / np.sqrt(h.var(-1, keepdims=True) + 1e-5)
    h = relu(h * w.params["ln"]["scale"] + w.params["ln"]["bias"])
    return u + w.fc(h, "expand")[:, None, None]


def srm(w, u):
    std = np.sqrt(u.var((1, 2), keepdims=True) + 1e-5)
    return u * sigmoid(w.bn(w.params["mean"] * mean(u) + w.params["std"] * std, "bn"))


def gct(w, u):
    alpha, gamma, beta = (w.params[name] for name in ("alpha", "gamma", "beta"))
    s = alpha * np.sqrt((u**2).sum((1, 2)) + 1e-5)
    s = s / np.sqrt((s**2).mean(-1, keepdims=True) + 1e-5)
    return u * (1 + np.tanh(gamma * s + beta))[:, None, None]


def simam(w, u):
    variance = u.var((1, 2), ddof=1, keepdims=True)
    return u * sigmoid((u - mean(u)) ** 2 / (4 * (variance + 1e-4)) + 0.5)


# The authors' get_freq_indices("top16"), their mapper_x and mapper_y in pairs, best first.
FREQUENCIES = (
    *((0, 0), (0, 1), (6, 0), (0, 5), (0, 2), (1, 0), (1, 2), (4, 0)),
    *((5, 0), (1, 6), (3, 0), (0, 4), (0, 6), (0, 3), (3, 5), (2, 2)),
)


def fca(w, u):
    _, height, width, channels = u.shape
    z = np.zeros((len(u), channels))
    for c in range(channels):
        row, column = FREQUENCIES[c * 16 // channels]
        for i in range(height):
            for j in range(width):
                z[:, c] += u[:, i, j, c] * cosine(i, row, height) * cosine(j, column, width)
    return u * sigmoid(w.mlp(z))[:, None, None]


def cosine(position, frequency, size):
    frequency = frequency * size // 7
    return math.cos(math.pi * frequency * (position + 0.5) / size) * math.sqrt(
        (2 if frequency else 1) / size
    )


def conv(w, u):
    return w.bn(w.conv(u, "conv", groups=8), "bn")


REFERENCES = {
    "eca": eca,
    "ese": ese,
    "cbam_channel": cbam_channel,
    "cbam": cbam,
    "bam": bam,
    "ge_theta": ge_theta,
    "ge_theta_plus": ge_theta_plus,
    "gc": gc,
    "srm": srm,
    "gct": gct,
    "simam": simam,
    "fca": fca,
    "conv": conv,
}


class Block(nn.Module):
    config: SEConfig
    layers: Layers = Layers()

    @nn.compact
    def __call__(self, u, train=False):
        return attend(self.config, self.layers, u, train)


def block(kind, **fields):
    if "ratio" in fields_of(kind):
        fields.setdefault("ratio", RATIO)
    if kind == "conv":
        fields.setdefault("groups", 24)  # of 32 channels: 8 in common
    if kind == "bam":
        fields.setdefault("placement", "between_stages")
    return Block(SEConfig(kind=kind, **fields))


def shapes_of(layer, shape=SHAPE):
    u = jax.ShapeDtypeStruct(shape, jnp.float32)
    return jax.eval_shape(layer.init, jax.random.key(0), u)


def filled(layer, shape=SHAPE):
    return fill(shapes_of(layer, shape))


def within(variables):
    """The variables of the block alone, without the module around it."""
    return {kind: tree.get("se", {}) for kind, tree in variables.items()}


def test_every_kind_is_built_and_has_a_reference():
    assert set(KINDS) - {"se"} == set(REFERENCES)


@pytest.mark.parametrize("kind", REFERENCES)
def test_forward_and_gradient_agree_with_numpy(kind):
    """Gradients along random directions agree with central differences of the reference."""
    layer, u, dy = block(kind), normal(SHAPE), normal(SHAPE, 1)
    variables = filled(layer)
    reference = REFERENCES[kind]

    @jax.jit
    def run(variables, u):
        apply = lambda params, u: layer.apply(variables | {"params": params}, u)
        y, back = jax.vjp(apply, variables.get("params", {}), u)
        return y, *back(jnp.asarray(dy))

    y, dparams, du = run(variables, u)
    exact = within(jax.tree.map(lambda leaf: np.asarray(leaf, "float64"), variables))
    assert distance(y, reference(Weights(exact), u.astype("float64"))) < 1e-6

    def slope(params_direction, u_direction, step=1e-5):
        def total(sign):
            moved = exact | {
                "params": jax.tree.map(
                    lambda p, d: p + sign * step * d, exact.get("params", {}), params_direction
                )
            }
            return np.sum(dy * reference(Weights(moved), u + sign * step * u_direction))

        return (total(1) - total(-1)) / (2 * step)

    params = exact.get("params", {})
    zeros = jax.tree.map(np.zeros_like, params)
    direction = normal(SHAPE, 2).astype("float64")
    assert np.sum(du * direction) == pytest.approx(slope(zeros, direction), rel=1e-4, abs=1e-3)
    gradients = dict(jax.tree.leaves_with_path(within({"params": dparams})["params"]))
    for path, leaf in jax.tree.leaves_with_path(params):
        along = np.asarray(normal(leaf.shape, 3), "float64")
        one = jax.tree.map_with_path(
            lambda p, zero, path=path, along=along: along if p == path else zero, zeros
        )
        want = slope(one, np.zeros(SHAPE))
        assert np.sum(gradients[path] * along) == pytest.approx(want, rel=1e-3, abs=2e-3), path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(16,), (2, 16)])
def test_what_is_no_map_is_refused(kind, shape):
    sentence = r"takes maps \[\.\.\., H, W, C\], not an array of \[.*16\]"
    with pytest.raises(ValueError, match=sentence):
        KINDS[kind]().init(jax.random.key(0), jnp.ones(shape), False)


@pytest.mark.parametrize("kind", KINDS)
def test_each_map_has_its_own_block_whatever_axes_come_before(kind):
    """Of one map alone, and of the frames of videos."""
    layer, u = block(kind), normal((4, *SHAPE[1:]))
    variables = filled(layer)
    y = layer.apply(variables, u)
    np.testing.assert_allclose(layer.apply(variables, u[1]), y[1], atol=1e-5)
    frames = layer.apply(variables, u.reshape(2, 2, *u.shape[1:]))
    np.testing.assert_allclose(frames.reshape(u.shape), y, atol=1e-5)


@pytest.mark.parametrize("kind", REFERENCES)
def test_maps_keep_their_type_and_all_else_is_float32(kind):
    layer = block(kind).clone(layers=Layers(dtype=jnp.bfloat16))
    u = jax.ShapeDtypeStruct(SHAPE, jnp.bfloat16)
    variables = jax.eval_shape(layer.init, jax.random.key(0), u)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} <= {jnp.dtype("float32")}
    y, _ = jax.eval_shape(
        lambda v, u: layer.apply(v, u, True, mutable=["batch_stats"]), variables, u
    )
    assert (y.shape, y.dtype) == (SHAPE, jnp.bfloat16)


@pytest.mark.parametrize(
    "kind", ["eca", "ese", "cbam_channel", "ge_theta", "ge_theta_plus", "srm", "gct", "fca"]
)
def test_a_gate_by_channel_is_recorded_for_callers_that_ask(kind):
    layer, u = block(kind), normal(SHAPE)
    variables = filled(layer)
    y, sown = layer.apply(variables, u, mutable=["gates"])
    (gate,) = sown["gates"]["se"]["gate"]
    assert gate.shape == (len(u), 1, 1, CHANNELS)
    np.testing.assert_allclose(y, u * gate, rtol=1e-6)
    assert set(shapes_of(layer)) <= {"params", "batch_stats"}


# Parameters by the papers of the blocks, with those of batch and layer norm; h = C / r.
FORMULAS = {
    "eca": lambda c, h, hw: 3,
    "ese": lambda c, h, hw: c * c + c,
    "cbam_channel": lambda c, h, hw: 2 * c * h,
    "cbam": lambda c, h, hw: 2 * c * h + 98 + 2,
    "bam": lambda c, h, hw: 2 * c * h + 2 * h + c + c * h + 18 * h * h + 6 * h + h,
    "ge_theta": lambda c, h, hw: hw * c + 2 * c,
    "ge_theta_plus": lambda c, h, hw: hw * c + 2 * c + 2 * c * h,
    "gc": lambda c, h, hw: 2 * c * h + c + 2 * h,
    "srm": lambda c, h, hw: 2 * c + 2 * c,
    "gct": lambda c, h, hw: 3 * c,
    "simam": lambda c, h, hw: 0,
    "fca": lambda c, h, hw: 2 * c * h,
    "conv": lambda c, h, hw: 9 * c * c // 8 + 2 * c,
}


@pytest.mark.parametrize("kind", FORMULAS)
def test_parameters_are_those_of_the_formulas(kind):
    shapes = shapes_of(block(kind)).get("params", {})
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    assert count == FORMULAS[kind](CHANNELS, CHANNELS // RATIO, 7 * 6)


@pytest.mark.parametrize("kind", ["cbam_channel", "cbam", "ge_theta_plus", "gc", "fca"])
def test_biases_of_the_two_layers_are_a_choice(kind):
    counts = [
        sum(leaf.size for leaf in jax.tree.leaves(shapes_of(block(kind, bias=bias))["params"]))
        for bias in (False, True)
    ]
    assert counts[1] - counts[0] == CHANNELS + CHANNELS // RATIO


def resnet50(**se):
    return summarize(create_model("seresnet50", stride_on="1x1", se=se), (224, 224, 3))


@pytest.mark.parametrize(
    ("fields", "printed"),
    [  # millions of parameters; those of GENet are rounded up, as in Hu et al.
        ({"kind": "ge_theta"}, 31.2),  # GENet, Table 2
        ({"kind": "ge_theta_plus"}, 33.7),
        ({"kind": "srm"}, 25.62),  # the authors' repository
        ({"kind": "bam", "placement": "between_stages"}, 25.92),  # SGE, Table 1, with more biases
        ({"kind": "gc", "stages": (3, 4, 5), "bias": True}, 28.08),  # GCNet, Table 4
        ({"kind": "cbam", "bias": True}, 28.09),  # CBAM, Table 4
        ({"kind": "fca"}, 28.07),  # FcaNet, Table 1
    ],
    ids=str,
)
def test_printed_counts_are_ours(fields, printed):
    counted = resnet50(**fields).params / 1e6
    assert 0 <= printed - counted < 0.1 if printed > 30 else abs(printed - counted) < 0.01


def test_gct_adds_three_parameters_for_each_channel_before_a_convolution():
    """The paper prints 0.07 M more than ResNet-50, which has projections that we leave alone."""
    added = resnet50(kind="gct", placement="before_convs").params - resnet50(stages=()).params
    inputs = [(64, 64, 1), (256, 64, 2), (256, 128, 1), (512, 128, 3)]
    inputs += [(512, 256, 1), (1024, 256, 5), (1024, 512, 1), (2048, 512, 2)]
    assert added == 3 * sum(blocks * (entry + 2 * width) for entry, width, blocks in inputs)


def test_eca_kernel_sizes_follow_the_authors_function():
    sizes = {64: 3, 128: 5, 256: 5, 512: 5, 1024: 5, 2048: 7}
    assert {channels: eca_kernel_size(channels) for channels in sizes} == sizes
    assert resnet50(kind="eca").params - resnet50(stages=()).params == 86
    assert all(eca_kernel_size(channels) % 2 for channels in range(1, 3000))


def test_one_mlp_serves_both_poolings_of_cbam():
    """On a constant map mean and maximum agree, so the MLP's value counts twice."""
    layer, u = block("cbam_channel"), np.broadcast_to(normal((2, 1, 1, CHANNELS)), (2, 4, 4, 32))
    variables = filled(layer)
    assert set(variables["params"]["se"]) == {"reduce", "expand"}
    weights = Weights(within(variables))
    want = u * sigmoid(2 * weights.mlp(u[:, :1, :1].astype("float64")))
    assert distance(layer.apply(variables, u), want) < 1e-6


@pytest.mark.parametrize(
    "se",
    one_in(2, [{"squeeze": "max"}, {"kind": "cbam"}], "compiles once more what takes a maximum"),
    ids=str,
)
def test_the_gradient_of_a_maximum_survives_a_map_that_is_computed_twice(se):
    """XLA rounds the second map differently, so nothing equals the maximum: 0 / 0 in `jnp.max`."""
    model = create_model("seresnet20_cifar", **NARROW["seresnet20_cifar"], se=se)
    images = normal((8, 8, 8, 3))
    variables = filled(model, images.shape)

    def loss(params, images):
        logits, _ = model.apply(
            variables | {"params": params}, images, train=True, mutable=["batch_stats"]
        )
        return jax.nn.logsumexp(logits, -1).sum()

    gradients = jax.jit(jax.grad(loss))(variables["params"], images)
    for path, leaf in jax.tree.leaves_with_path(gradients):
        assert np.isfinite(leaf).all(), path


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize(("kind", "factor"), [("srm", 0.5), ("gct", 1.0), ("gc", 1.0)])
def test_fresh_blocks_start_where_their_papers_say(kind, factor, train):
    layer, u = block(kind), normal(SHAPE)
    variables = layer.init(jax.random.key(0), u)
    y, _ = layer.apply(variables, u, train, mutable=["batch_stats"])
    np.testing.assert_allclose(y, factor * u, rtol=1e-6)


def test_bam_sits_between_stages_and_not_in_blocks():
    shapes = jax.eval_shape(
        create_model("seresnet50", se={"kind": "bam", "placement": "between_stages"}).init,
        jax.random.key(0),
        jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32),
    )["params"]
    assert {name for name in shapes if name.startswith("se")} == {"se2", "se3", "se4"}
    blocks = (
        block for name, stage in shapes.items() if "stage" in name for block in stage.values()
    )
    assert not any(name.startswith("se") for block in blocks for name in block)
    with pytest.raises(ValueError, match="between the stages"):
        SEConfig(kind="bam")


def test_a_gate_before_each_convolution_scales_that_convolutions_input():
    """A gate of two is as good as a kernel twice as large."""
    fields = {"num_classes": 4, **NARROW["seresnet50"]}
    se = {"kind": "gct", "placement": "before_convs", "stages": (2, 3)}
    model = create_model("seresnet50", **fields | {"se": se})
    images = normal((2, 64, 64, 3))
    variables, apply = jax.jit(model.init)(jax.random.key(0), images), jax.jit(model.apply)
    scopes = variables["params"]["stage3"]["block1"]
    assert {name for name in scopes if name.startswith("se")} == {"se1", "se2", "se3"}
    for number in (1, 2, 3):
        gate = scopes[f"se{number}"] | {"beta": jnp.full_like(scopes[f"se{number}"]["beta"], 40.0)}
        kernel = {"kernel": 2 * scopes[f"conv{number}"]["kernel"]}
        opened, doubled = (
            variables | {"params": variables["params"] | {"stage3": {"block1": scopes | change}}}
            for change in ({f"se{number}": gate}, {f"conv{number}": kernel})
        )
        assert distance(*(apply(v, images) for v in (opened, doubled))) < 1e-5


def test_the_cosines_of_fcanet_are_orthonormal_and_begin_with_the_mean():
    basis = np.einsum("ic,jc->ijc", dct(7, ROWS, 16), dct(7, COLUMNS, 16)).reshape(49, 16)
    np.testing.assert_allclose(basis.T @ basis, np.eye(16), atol=1e-6)
    np.testing.assert_allclose(basis[:, 0], 1 / 7, rtol=1e-6)
    # A pattern of the small map, each position twice as large, has the frequency of the large one.
    for size in (14, 28, 56):
        scaled = dct(size, ROWS, 16)
        assert [np.sum(np.diff(np.sign(column)) != 0) for column in scaled.T] == [
            f * size // 7 for f in ROWS
        ]


def test_a_network_without_any_block_between_its_stages_is_refused():
    with pytest.raises(Exception, match="nothing follows the last stage"):
        create_model("seresnet50", se={"placement": "between_stages", "stages": (5,)})
