"""Convolutions and their gradients agree with a float64 reference, and replace those of Flax."""

import flax.linen as nn
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.numeric import distance, normal, positive, reference_convolution, with_gradients
from hypothesis import strategies as st

import senet_jax
from senet_jax.errors import InputError
from senet_jax.layers.conv import Conv, convolve


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
    "stem 3x3": (2, (16, 16), (3, 3), 2, 1, (3, 16)),
    "stem 3x3, odd map": (2, (15, 15), (3, 3), 2, 1, (3, 16)),
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
    "map smaller than the kernel": (2, (2, 2), (3, 3), 1, 1, (32, 48)),
    "map smaller than the kernel, stride 2": (2, (4, 4), (3, 3), 2, 1, (32, 48)),
    "grouped, map smaller than the kernel": (2, (2, 1), (3, 3), 1, 4, (32, 48)),
    "1x7": (2, (9, 9), (1, 7), 1, 1, (16, 24)),
    "5x5": (2, (9, 9), (5, 5), 1, 1, (16, 24)),
    "one image": (1, (7, 7), (3, 3), 1, 1, (16, 16)),
}


@pytest.mark.parametrize("case", CLASSES)
def test_convolutions_and_their_gradients_equal_a_float64_reference(case):
    check_convolution(*CLASSES[case])


@pytest.mark.slow(reason="compiles forty random convolutions and their gradients")
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

    ours, plain = (jax.jit(jax.grad(penalty(how), (0, 1)))(x, w) for how in ("auto", "xla"))
    for got, want in zip(ours, plain, strict=True):
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
    with pytest.raises(ValueError, match="must be one of auto, xla, fused, not 'fast'"):
        Conv(4, (1, 1), implementation="fast").init(jax.random.key(0), x)
    with pytest.raises(
        ValueError, match="has 4 groups, which must divide its 6 input and 8 output"
    ):
        Conv(8, (1, 1), feature_group_count=4).init(jax.random.key(0), x)
    with pytest.raises(InputError, match="must be one of auto, xla, fused, not 'cudnn'"):
        senet_jax.create_model("seresnet50", implementation="cudnn")
