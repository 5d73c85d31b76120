"""The SE block agrees with plain NumPy, forward and backward, for every meaningful combination."""

import doctest
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.quick import one_in
from hypothesis import given, settings
from hypothesis import strategies as st

from senet_jax.layers import squeeze_excite
from senet_jax.layers.slot import SEConfig, fields_of
from senet_jax.layers.squeeze_excite import (
    EXCITATIONS,
    GATES,
    SQUEEZES,
    SqueezeExcite,
    hidden_width,
)


def reference_gate(name, s):
    """Value and derivative, written out independently of the package, in float64."""
    if name == "sigmoid":
        value = 1 / (1 + np.exp(-s))
        return value, value * (1 - value)
    if name == "tanh":
        return np.tanh(s), 1 - np.tanh(s) ** 2
    if name == "relu":
        return np.maximum(s, 0), (s > 0) * 1.0
    if name == "hard_sigmoid":
        return np.clip(s / 6 + 0.5, 0, 1), ((s > -3) & (s < 3)) / 6
    return s, np.ones_like(s)


def reference(u, x, params, config, dy):
    """Equations 2 to 4 in float64 NumPy. Returns y and the gradients of sum(y * dy)."""
    batch, height, width = x.shape[:3]
    if config.squeeze == "avg":
        z = x.mean(axis=(1, 2), keepdims=True)
    elif config.squeeze == "max":
        z = x.max(axis=(1, 2), keepdims=True)
    else:
        z = x
    if config.excitation == "mlp":
        w1, w2 = params["reduce"]["kernel"], params["expand"]["kernel"]
        b1, b2 = (params[k].get("bias", 0.0) for k in ("reduce", "expand"))
        a = z @ w1 + b1
        h = np.maximum(a, 0)
        s = h @ w2 + b2
    else:
        s = z
    gate, slope = reference_gate(config.gate, s)
    y = u * gate

    du = dy * gate
    full = dy * u
    dgate = full if config.squeeze == "none" else full.sum(axis=(1, 2), keepdims=True)
    ds = dgate * slope
    grads = {}
    if config.excitation == "mlp":
        flat = lambda t: t.reshape(-1, t.shape[-1])
        grads["expand"] = {"kernel": flat(h).T @ flat(ds)}
        da = (ds @ w2.T) * (a > 0)
        grads["reduce"] = {"kernel": flat(z).T @ flat(da)}
        if config.bias:
            grads["expand"]["bias"] = flat(ds).sum(0)
            grads["reduce"]["bias"] = flat(da).sum(0)
        dz = da @ w1.T
    else:
        dz = ds
    if config.squeeze == "avg":
        dx = np.broadcast_to(dz / (height * width), x.shape)
    elif config.squeeze == "max":
        dx = (x == z) * dz
    else:
        dx = dz
    return y, du, dx, grads


def meaningful():
    for squeeze, excitation, gate, bias, parallel in itertools.product(
        SQUEEZES, EXCITATIONS, GATES, (False, True), (False, True)
    ):
        placement = "parallel" if parallel else "standard"
        ratio = 4 if excitation == "mlp" else 16
        try:
            yield SEConfig(ratio, squeeze, excitation, gate, placement, bias=bias)
        except ValueError:
            continue


def test_the_refused_combinations_are_exactly_those_without_meaning():
    # 3 squeezes x 5 gates x 2 biases with the MLP, 2 x 5 x 2 of them also in parallel, and
    # 2 squeezes x 5 gates without parameters.
    assert len(list(meaningful())) == 30 + 20 + 10


@pytest.mark.parametrize(
    "config", one_in(3, meaningful(), "computes one more combination"), ids=str
)
def test_forward_and_gradient_agree_with_numpy(config):
    rng = np.random.default_rng(0)
    u, dy = rng.normal(size=(2, 3, 5, 4, 8))
    x = rng.normal(size=(3, 7, 6, 6)) if config.placement == "parallel" else u
    layer = SqueezeExcite(**{field: getattr(config, field) for field in fields_of("se")})
    source = lambda t: t if config.placement == "parallel" else None
    f32 = lambda t: jnp.asarray(t, jnp.float32)
    variables = layer.init(jax.random.key(1), f32(u), source=source(f32(x)))
    # Biases start at zero; move them so that they are tested. Weights are large enough for every
    # bend of a gate.
    params = jax.tree.map(lambda p: 3 * p + 0.1, variables.get("params", {}))

    def total(params, u, x):
        y = layer.apply({"params": params}, u, source=source(x))
        return jnp.sum(y * f32(dy)), y

    gradients = jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2), has_aux=True))
    (_, y), grads = gradients(params, f32(u), f32(x))
    expected = reference(u, x, jax.tree.map(np.float64, params), config, dy)
    ref_y, ref_du, ref_dx, ref_params = expected
    if config.placement != "parallel":
        ref_du, ref_dx = ref_du + ref_dx, 0 * ref_dx
    for got, want in ((y, ref_y), (grads[1], ref_du), (grads[2], ref_dx)):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=2e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=5e-5), grads[0], ref_params
    )


def test_bfloat16_is_squeezed_in_float32():
    # 64 x 64 values of 1 + 2^-7 k: a bfloat16 sum stalls at 256, a float32 one does not.
    u = jnp.full((1, 64, 64, 2), 1.0078125, jnp.bfloat16)
    y = SqueezeExcite(excitation="none", gate="identity").apply({}, u)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.float32(y), 1.0078125**2, rtol=2**-8)
    params = SqueezeExcite().init(jax.random.key(0), u)["params"]
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}


@given(channels=st.integers(1, 300), ratio=st.integers(1, 600))
def test_hidden_width_is_the_integer_quotient_and_at_least_one(channels, ratio):
    assert hidden_width(channels, ratio) == max(1, channels // ratio)


@given(hidden=st.integers(1, 40), ratio=st.integers(1, 32))
def test_timm_rounds_the_hidden_width_to_a_multiple_of_eight(hidden, ratio):
    rounded = hidden_width(hidden * ratio, ratio, "timm")
    assert rounded % 8 == 0
    assert rounded == 8 if hidden < 8 else -4 < rounded - hidden <= 4


@settings(deadline=None, max_examples=10)
@given(st.integers(1, 40), st.integers(1, 40))
def test_added_weights_follow_equation_5(channels, ratio):
    shape = jax.ShapeDtypeStruct((1, 4, 4, channels), jnp.float32)
    layer = SqueezeExcite(ratio=ratio)
    params = jax.eval_shape(layer.init, jax.random.key(0), shape)["params"]
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert size == 2 * channels * max(1, channels // ratio)


def test_the_example_of_a_block_in_a_network_of_ones_own_holds():
    assert doctest.testmod(squeeze_excite) == (0, 5)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"ratio": 0}, "^ratio must be a whole number of at least 1, not 0"),
        ({"squeeze": "mean"}, "^squeeze must be one of avg, max, none, not 'mean'"),
        ({"gate": "softmax"}, "^gate must be one of sigmoid, relu"),
        ({"bias": 1}, "^bias must be True or False, not 1"),
    ],
)
def test_a_block_alone_refuses_bad_values_under_its_own_names(fields, sentence):
    with pytest.raises(ValueError, match=sentence):
        SqueezeExcite(**fields)
