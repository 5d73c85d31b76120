"""Every rule of `optim.name` follows timm's definition of it, written out in NumPy."""

import jax
import numpy as np
import optax
import pytest

from senet_jax.training.optim import OptimConfig, freeze_batch_norm, make_optimizer
from senet_jax.training.optimizers import OPTIMIZERS

RATES = np.float32([0.1, 0.02, 0.3, 0.1, 0.05])


def adam(g, m, v, step, eps):
    m += 0.2 * (g - m)
    v += 0.05 * (g * g - v)
    return m / (1 - 0.8**step) / (np.sqrt(v / (1 - 0.95**step)) + eps)


def adamw(p, g, state, step, rate, decay):
    m, v = state
    return p - rate * decay * p - rate * adam(g, m, v, step, 1e-8)


def lamb(p, g, state, step, rate, decay):
    m, v = state
    update = adam(g, m, v, step, 1e-6) + decay * p
    if decay and np.any(p):
        update = update * np.linalg.norm(p) / np.linalg.norm(update)
    return p - rate * update


def rmsprop_tf(p, g, state, step, rate, decay):
    moved, square = state
    if step == 1:
        square += 1
    g = g + decay * p
    square += 0.1 * (g * g - square)
    moved *= 0.9
    moved += rate * g / np.sqrt(square + 1e-3)
    return p - moved


@pytest.mark.parametrize("decay", [0.0, 0.5])
@pytest.mark.parametrize(
    ("rule", "fields"),
    [
        (adamw, {"betas": (0.8, 0.95)}),
        (lamb, {"betas": (0.8, 0.95)}),
        (rmsprop_tf, {"eps": 1e-3}),
    ],
)
def test_steps_equal_the_written_out_rule(rule, fields, decay):
    config = OptimConfig(
        0.1, name=rule.__name__, weight_decay=decay, decay_norm_and_bias=False, **fields
    )
    optimizer = make_optimizer(config, lambda step: jax.numpy.asarray(RATES)[step])
    rng = np.random.default_rng(0)
    shapes = {"conv": {"kernel": (3, 2)}, "zero": {"kernel": (2,)}, "bn": {"scale": (3,)}}
    params = {m: {k: rng.normal(size=s) for k, s in d.items()} for m, d in shapes.items()}
    params["zero"]["kernel"][:] = 0  # without a norm, so without a trust ratio
    ours = jax.tree.map(np.float32, params)
    states = jax.tree.map(lambda p: np.zeros((2, *p.shape)), params)
    state = optimizer.init(ours)
    for step, rate in enumerate(RATES, start=1):
        gradients = jax.tree.map(lambda p: rng.normal(size=p.shape), params)
        updates, state = jax.jit(optimizer.update)(jax.tree.map(np.float32, gradients), state, ours)
        ours = optax.apply_updates(ours, updates)
        for module, leaf in (("conv", "kernel"), ("zero", "kernel"), ("bn", "scale")):
            p, g, s = (tree[module][leaf] for tree in (params, gradients, states))
            params[module][leaf] = rule(p, g, s, step, rate, decay if leaf == "kernel" else 0.0)
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(params), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-6)


PARAMS = {
    "conv": {"kernel": np.float32([-0.0, 1.5])},
    "bn": {"scale": np.float32([1.0]), "bias": np.float32([-0.0])},
}
GRADIENTS = jax.tree.map(lambda p: p + np.float32(0.5), PARAMS)


def bits(tree):
    return [(path, np.asarray(v).tobytes()) for path, v in jax.tree.leaves_with_path(tree)]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_skipped_update_leaves_all_but_the_schedule(name):
    """The number of updates by which Adam corrects its means is not the number of steps."""
    config = OptimConfig(0.1, name=name, weight_decay=0.01)
    rates = optax.linear_schedule(0.1, 0.0, 10)
    optimizer = make_optimizer(config, rates, on_nan="skip")
    _, state = optimizer.update(GRADIENTS, optimizer.init(PARAMS), PARAMS, finite=True)
    bad = jax.tree.map(lambda g: np.full_like(g, np.nan), GRADIENTS)
    updates, after = optimizer.update(bad, state, PARAMS, finite=False)
    assert bits(optax.apply_updates(PARAMS, updates)) == bits(PARAMS)
    before, after = (
        jax.tree.flatten(tree, is_leaf=lambda x: isinstance(x, optax.ScaleByScheduleState))[0]
        for tree in (state, after)
    )
    changed = [two for one, two in zip(before, after, strict=True) if bits(one) != bits(two)]
    assert changed == [optax.ScaleByScheduleState(2)]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_is_frozen_stays_and_the_rest_goes_on_as_without_it(name):
    config = OptimConfig(0.1, name=name, weight_decay=0.01)
    trained = jax.tree.map(lambda _: True, PARAMS) | {"bn": {"scale": False, "bias": False}}
    plain = make_optimizer(config, optax.constant_schedule(0.1))
    for optimizer in (
        make_optimizer(config, optax.constant_schedule(0.1), trained),
        freeze_batch_norm(plain, {"bn": {"mean": np.float32([0])}}),
    ):
        expected, _ = plain.update(GRADIENTS, plain.init(PARAMS), PARAMS)
        updates, _ = optimizer.update(GRADIENTS, optimizer.init(PARAMS), PARAMS)
        one, other = (tree["conv"]["kernel"] for tree in (updates, expected))
        np.testing.assert_allclose(one, other, rtol=1e-6)
        assert not any(np.any(update) for update in jax.tree.leaves(updates["bn"]))
