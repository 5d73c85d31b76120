"""Schedules follow the recipes; SGD follows PyTorch's definition written out in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from senet_jax.training.optim import (
    OptimConfig,
    freeze_batch_norm,
    initial_plateau,
    make_optimizer,
)
from senet_jax.training.schedules import make_schedule


def test_the_paper_step_schedule():
    # Hu et al., section 5.1: 0.6, divided by 10 every 30 of 100 epochs.
    config = OptimConfig(0.6, boundaries=(0.3, 0.6, 0.9))
    schedule = make_schedule(config, total_steps=1000, steps_per_epoch=10)
    rates = [float(schedule(step)) for step in (0, 299, 300, 599, 600, 899, 900, 999)]
    np.testing.assert_allclose(
        rates, [0.6, 0.6, 0.06, 0.06, 0.006, 0.006, 0.0006, 0.0006], rtol=1e-5
    )


def test_boundaries_count_from_the_start_also_after_a_warmup():
    config = OptimConfig(0.1, boundaries=(0.5,), warmup_epochs=1.0, warmup="constant")
    schedule = make_schedule(config, total_steps=1000, steps_per_epoch=400)
    rates = [float(schedule(step)) for step in (0, 399, 400, 499, 500)]
    np.testing.assert_allclose(rates, [0.01, 0.01, 0.1, 0.1, 0.01], rtol=1e-5)


def test_cosine_ends_at_zero_and_linear_warmup_starts_there():
    config = OptimConfig(0.2, schedule="cosine", warmup_epochs=2.0)
    schedule = make_schedule(config, total_steps=100, steps_per_epoch=10)
    rates = [float(schedule(step)) for step in (0, 10, 20, 60, 100)]
    np.testing.assert_allclose(rates, [0, 0.1, 0.2, 0.1, 0], atol=1e-7)


def test_a_warmup_in_steps_is_that_of_as_many_epochs():
    in_epochs = OptimConfig(0.2, schedule="cosine", warmup_epochs=0.7)
    in_steps = OptimConfig(0.2, schedule="cosine", warmup_steps=7)
    one, other = (make_schedule(config, 100, 10) for config in (in_epochs, in_steps))
    assert [float(one(step)) for step in range(20)] == [float(other(step)) for step in range(20)]
    with pytest.raises(ValueError, match=r"warmup_steps=7 cannot go with warmup_epochs=1\.0"):
        OptimConfig(0.2, warmup_epochs=1.0, warmup_steps=7)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("decay_all", [False, True])
def test_ten_steps_of_sgd_equal_the_written_out_rule(nesterov, decay_all):
    config = OptimConfig(
        0.1, "constant", nesterov=nesterov, weight_decay=0.01, decay_norm_and_bias=decay_all
    )
    optimizer = make_optimizer(config, make_schedule(config, 10, 1))
    rng = np.random.default_rng(0)
    params = {"conv": {"kernel": rng.normal(size=5)}, "bn": {"scale": rng.normal(size=3)}}
    ours = {m: {k: jnp.asarray(v, jnp.float32) for k, v in d.items()} for m, d in params.items()}
    state = optimizer.init(ours)
    velocity = {"conv": np.zeros(5), "bn": np.zeros(3)}
    for _ in range(10):
        grads = {"conv": {"kernel": rng.normal(size=5)}, "bn": {"scale": rng.normal(size=3)}}
        updates, state = optimizer.update(
            {m: {k: jnp.asarray(v, jnp.float32) for k, v in d.items()} for m, d in grads.items()},
            state,
            ours,
        )
        ours = optax.apply_updates(ours, updates)
        for module, leaf in (("conv", "kernel"), ("bn", "scale")):
            decay = 0.01 if decay_all or leaf == "kernel" else 0.0
            g = grads[module][leaf] + decay * params[module][leaf]
            velocity[module] = 0.9 * velocity[module] + g
            step = g + 0.9 * velocity[module] if nesterov else velocity[module]
            params[module][leaf] = params[module][leaf] - 0.1 * step
    for module, leaf in (("conv", "kernel"), ("bn", "scale")):
        np.testing.assert_allclose(ours[module][leaf], params[module][leaf], rtol=1e-5, atol=1e-6)


def test_boundaries_that_fall_on_one_step_both_count():
    schedule = make_schedule(OptimConfig(0.1, boundaries=(0.5, 0.55)), 6, 1)
    np.testing.assert_allclose(float(schedule(5)), 0.001, rtol=1e-5)


PARAMS = {
    "conv": {"kernel": np.float32([-0.0, 1.5])},
    "bn": {"scale": np.float32([1.0]), "bias": np.float32([-0.0])},
}
GRADIENTS = jax.tree.map(lambda p: p + np.float32(0.5), PARAMS)


def bits(tree):
    return [(path, np.asarray(v).tobytes()) for path, v in jax.tree.leaves_with_path(tree)]


def test_a_skipped_update_changes_no_bit_but_the_count():
    config = OptimConfig(0.1, "constant", weight_decay=0.01)
    optimizer = make_optimizer(config, optax.constant_schedule(0.1), on_nan="skip")
    updates, state = optimizer.update(GRADIENTS, optimizer.init(PARAMS), PARAMS, finite=True)
    plain = make_optimizer(config, optax.constant_schedule(0.1))
    expected = plain.update(GRADIENTS, plain.init(PARAMS), PARAMS)
    assert bits((updates, state)) == bits(expected)
    bad = jax.tree.map(lambda g: np.full_like(g, np.nan), GRADIENTS)
    updates, skipped = optimizer.update(bad, state, PARAMS, finite=False)
    assert bits(optax.apply_updates(PARAMS, updates)) == bits(PARAMS)  # minus zeros as well
    assert int(optax.tree_utils.tree_get(skipped, "count")) == 2
    assert bits(optax.tree_utils.tree_set(skipped, count=jnp.int32(1))) == bits(state)


def test_what_wraps_the_optimizer_adds_nothing_to_its_state():
    """So a checkpoint has the same tree, and a run may freeze batch norm when it is half done."""
    plain, wrapped = OptimConfig(0.1, "constant"), OptimConfig(0.1, "plateau")
    schedule = optax.constant_schedule(0.1)
    inner = make_optimizer(wrapped, schedule, on_nan="skip")
    stats = {"bn": {"mean": np.zeros(1), "var": np.ones(1)}}
    outer, bare = freeze_batch_norm(inner, stats), make_optimizer(plain, schedule)
    state = outer.init(PARAMS)
    assert jax.tree.structure(state) == jax.tree.structure(bare.init(PARAMS))
    plateau = initial_plateau()._replace(scale=jnp.float32(0.5))
    updates, after = outer.update(GRADIENTS, state, PARAMS, plateau=plateau, finite=True)
    whole, expected = bare.update(GRADIENTS, state, PARAMS)
    assert bits(after) == bits(expected)
    np.testing.assert_array_equal(updates["conv"]["kernel"], 0.5 * whole["conv"]["kernel"])
    assert not any(np.any(update) for update in updates["bn"].values())
