"""Blocks that PyTorch's libraries lack agree with NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.numeric import check_block, distance, normal, relu
from helpers.weights import fill

from senet_jax.layers.network import Layers
from senet_jax.layers.pool import average_pool, average_to
from senet_jax.layers.slot import SEConfig
from senet_jax.models import bninception
from senet_jax.models.bninception import InceptionModule
from senet_jax.models.preresnet import PreBasicBlock, PreBottleneck
from senet_jax.models.shakeshake import ShakeBlock, ShakeEvenBottleneck, mix
from senet_jax.models.shufflenet import ShuffleUnit

SE = SEConfig(ratio=4)
GROUPS = {ShakeBlock: {}, ShakeEvenBottleneck: {"cardinality": 2}}


def windows(x, stride, fill_value):
    """The nine neighbours of every stride-th position: [9, N, H', W', C]."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=fill_value)
    height, width = x.shape[1:3]
    return np.stack(
        [
            padded[:, i : i + height : stride, j : j + width : stride]
            for i in range(3)
            for j in range(3)
        ]
    )


@pytest.mark.parametrize("stride", [1, 2])
def test_a_unit_of_shufflenet(stride):
    """Zhang et al., figure 2: the shuffle sends channel g * n + i to i * groups + g."""
    channels, features = (24, 24) if stride == 1 else (12, 24)

    def reference(layer, x):
        y = relu(layer.conv_bn(x, "reduce", groups=3))
        order = [group * 2 + i for i in range(2) for group in range(3)]
        y = layer.conv_bn(y[..., order], "depthwise", stride=stride, groups=6)
        y = layer.se(layer.conv_bn(y, "expand", groups=3))
        if stride == 1:
            return relu(x + y)
        return relu(np.concatenate([windows(x, 2, 0).mean(0), y], -1))

    check_block(ShuffleUnit(features=features, stride=stride, se=SE), channels, reference)


def test_some_modules_of_bn_inception_are_a_network_and_others_are_refused():
    least = ("inception_3a", "inception_3c", "inception_4e")
    model = bninception.BNInception(width_multiplier=1 / 16, modules=least, features=True)
    x = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    maps, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), x)
    assert {stage: 64 // last.shape[1] for stage, last in maps.items()} == model.strides
    for bad in ((), least[1:], least[::-1], least[:2], (*least, "inception_6a")):
        with pytest.raises(ValueError, match="modules must be some of inception_3a, "):
            bninception.BNInception(modules=bad)


@pytest.mark.parametrize("name", ["inception_3a", "inception_3c", "inception_5b"])
def test_a_module_of_bn_inception(name):
    """Three ways to pool: average, maximum with stride 2 on even maps, maximum with stride 1."""
    widths = bninception.BNInception(width_multiplier=1 / 16)._narrow(bninception.MODULES[name][1])

    def reference(layer, x):
        stride = 2 if name == "inception_3c" else 1

        def conv(x, name, stride=1):
            return relu(layer.conv_bn(x, name, stride=stride))

        branches = [conv(x, "one")] if stride == 1 else []
        branches.append(conv(conv(x, "three_reduce"), "three", stride))
        y = conv(conv(x, "double_reduce"), "double1")
        branches.append(conv(y, "double2", stride))
        if name == "inception_3a":
            branches.append(conv(windows(x, 1, 0).mean(0), "pool"))
        elif name == "inception_5b":
            branches.append(conv(windows(x, 1, -np.inf).max(0), "pool"))
        else:  # windows begin at the first pixel: those around pixels 1, 3, 5, 7
            branches.append(windows(x, 1, -np.inf).max(0)[:, 1::2, 1::2])
        return layer.se(np.concatenate(branches, -1))

    check_block(InceptionModule(widths, SE, Layers()), 12, reference)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("block", [PreBasicBlock, PreBottleneck])
def test_a_pre_activation_block(block, stride):
    features = 8
    channels = features * block.expansion // stride  # an identity, and a projection

    def reference(layer, x):
        entry = relu(layer.bn(x, "bn1"))
        if block is PreBasicBlock:
            y = layer.conv(entry, "conv1", stride=stride)
            y = layer.conv(relu(layer.bn(y, "bn2")), "conv2")
        else:
            y = layer.conv(entry, "conv1")
            y = layer.conv(relu(layer.bn(y, "bn2")), "conv2", stride=stride)
            y = layer.conv(relu(layer.bn(y, "bn3")), "conv3")
        shortcut = x if stride == 1 else layer.conv(entry, "shortcut", stride=2)
        return shortcut + layer.se(y)

    check_block(block(features=features, stride=stride, se=SE), channels, reference)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("block", [ShakeBlock, ShakeEvenBottleneck])
def test_a_shake_block_in_evaluation(block, stride):
    features = 8
    channels = features * block.expansion // stride

    def reference(layer, x):
        def branch(name):
            y = x
            for index in (1, 2) if block is ShakeBlock else (1, 2, 3):
                strided = index == (1 if block is ShakeBlock else 2)
                grouped = block is ShakeEvenBottleneck and index == 2
                y = layer.conv(
                    relu(y),
                    name,
                    f"conv{index}",
                    stride=stride if strided else 1,
                    groups=2 if grouped else 1,
                )
                y = layer.bn(y, name, f"bn{index}")
            return y

        mixed = layer.se((branch("branch1") + branch("branch2")) / 2)
        if stride == 1:
            return x + mixed
        moved = np.pad(relu(x), ((0, 0), (0, 1), (0, 1), (0, 0)))[:, 1:, 1:]
        halves = [
            layer.conv(relu(x)[:, ::2, ::2], "shortcut1"),
            layer.conv(moved[:, ::2, ::2], "shortcut2"),
        ]
        return layer.bn(np.concatenate(halves, -1), "shortcut_bn") + mixed

    check_block(
        block(features=features, stride=stride, se=SE, **GROUPS[block]), channels, reference
    )


def test_shaking_mixes_forward_with_alpha_and_backward_with_beta():
    one, two, dy = (jnp.asarray(normal((3, 2, 2, 4), seed)) for seed in range(3))
    alpha, beta = (
        jnp.asarray([a, b, c]).reshape(3, 1, 1, 1) for a, b, c in ((0, 0.3, 1), (1, 0.5, 0.2))
    )
    value, back = jax.vjp(lambda one, two: mix(one, two, alpha, beta), one, two)
    np.testing.assert_allclose(value, alpha * one + (1 - alpha) * two, rtol=1e-6)
    for got, want in zip(back(dy), (beta * dy, (1 - beta) * dy), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize(("block", "even"), [(ShakeBlock, False), (ShakeEvenBottleneck, True)])
def test_images_are_shaken_each_by_itself_and_by_the_key(block, even):
    """The same image eight times: outputs differ; gradients are a half each where they are even."""
    layer = block(features=4, **GROUPS[block])
    channels = 4 * block.expansion
    x = jnp.broadcast_to(normal((1, 4, 4, channels)), (8, 4, 4, channels))
    variables = fill(jax.eval_shape(lambda x: layer.init(jax.random.key(0), x, False), x))

    @jax.jit
    def run(key, changed):
        return layer.apply(
            variables | {"params": variables["params"] | changed},
            x,
            True,
            mutable=["batch_stats"],
            rngs={"dropout": key},
        )[0]

    first, again, other = (run(jax.random.key(seed), {}) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    assert all(not np.allclose(first[0], image) for image in first[1:])
    # The bias of a branch's last batch norm passes through the mixing alone.
    last = 3 if even else 2

    def total(key):
        def loss(bias):
            branch = variables["params"]["branch1"]
            norm = branch[f"bn{last}"] | {"bias": bias}
            return run(key, {"branch1": branch | {f"bn{last}": norm}}).sum()

        return jax.jit(jax.grad(loss))(variables["params"]["branch1"][f"bn{last}"]["bias"])

    share = np.asarray(total(jax.random.key(0))) / (8 * 4 * 4)
    assert np.allclose(share, 0.5, rtol=1e-5) == even


@pytest.mark.parametrize("count_padding", [True, False])
def test_average_pooling_counts_its_padding_or_not(count_padding):
    x = normal((1, 5, 6, 2))
    seen = windows(x.astype("float64"), 1, 0 if count_padding else np.nan)
    want = seen.mean(0) if count_padding else np.nanmean(seen, 0)
    assert distance(average_pool(x, 3, 1, count_padding=count_padding), want) < 1e-6


def test_averages_to_a_size_are_those_of_its_definition():
    """Part i of n covers floor(i L / n) to ceil((i + 1) L / n), as in PyTorch."""
    x = normal((2, 5, 2, 3))
    got = average_to(x, (3, 4))
    rows, columns = ((0, 2), (1, 4), (3, 5)), ((0, 1), (0, 1), (1, 2), (1, 2))
    want = np.stack(
        [np.stack([x[:, a:b, c:d].mean((1, 2)) for c, d in columns], 1) for a, b in rows], 1
    )
    assert distance(got, want) < 1e-6
    np.testing.assert_array_equal(average_to(x, (5, 2)), x)
