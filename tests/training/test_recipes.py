"""Accumulation, averages, clipping, mixing and plateaus do what their definitions say."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.quick import one_in

from senet_jax.data import in_memory
from senet_jax.data.augment import Augmentation
from senet_jax.errors import InputError
from senet_jax.system.devices import assert_replicated, replicate, split_batch
from senet_jax.training import session
from senet_jax.training.averages import moving_average
from senet_jax.training.loop import train_and_evaluate
from senet_jax.training.optim import (
    OptimConfig,
    after_evaluation,
    initial_plateau,
    make_optimizer,
)
from senet_jax.training.prepare import prepare
from senet_jax.training.schedules import make_schedule
from senet_jax.training.step import Inputs, first_nonfinite, make_train_step, parts_of


def states(config, count, steps=3):
    """The state after each step on so many devices, and each step's sums."""
    run = prepare(config, jax.local_devices()[:count])
    batches = run.dataset.train.train_batches(run.settings.batch_size, run.seed)
    state, after = run.initial_state, [jax.device_get(run.initial_state.replace(key=None))]
    for _ in range(steps):
        state, sums = run.steps.train(state, split_batch(next(batches), run.devices))
        assert_replicated(state)
        after.append(jax.device_get(state.replace(key=None)))
    return after, jax.device_get(sums)


def close(one, other, rtol):
    for (path, a), b in zip(jax.tree.leaves_with_path(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol, err_msg=str(path))


@pytest.fixture
def in_parts(tiny):
    """A run whose parts of a batch each have batch statistics of their own; with augmentation."""
    tiny.data.flip = True
    tiny.optim.learning_rate = 0.02
    return tiny


@pytest.mark.parametrize(("count", "parts"), one_in(2, [(1, 4), (2, 2)], "two programs more"))
def test_a_batch_in_four_parts_is_a_batch_on_four_devices(in_parts, count, parts):
    on_four, sums_on_four = states(in_parts, 4)
    in_parts.train.accumulate_steps = parts
    after, sums = states(in_parts, count)
    close(after[-1], on_four[-1], 2e-5)
    close(sums, sums_on_four, 1e-5)


@pytest.mark.slow(reason="one program more on four devices")
def test_a_whole_batch_is_not_a_batch_on_four_devices(in_parts):
    """So the comparison above can fail."""
    (whole, _), (on_four, _) = states(in_parts, 1), states(in_parts, 4)
    with pytest.raises(AssertionError):
        close(whole[-1], on_four[-1], 2e-5)


def test_moving_averages_follow_their_definition_and_are_evaluated(tiny, tmp_path, one_device):
    tiny.train.ema_decay = 0.5
    after, _ = states(tiny, 2, steps=4)
    expected = after[0].variables
    for step, state in enumerate(after[1:], start=1):
        decay = min(0.5, (1 + step) / (10 + step))
        expected = jax.tree.map(
            lambda mean, value, d=decay: d * mean + (1 - d) * value, expected, state.variables
        )
        close(state.ema, expected, 1e-5)
    result = train_and_evaluate(tiny, tmp_path, one_device)
    assert result["eval_ema/examples"] == result["eval/examples"] == 50
    assert result["eval_ema/loss"] != result["eval/loss"]


@pytest.mark.slow(reason="two programs of a network of three stages")
def test_averages_change_nothing_but_themselves(tiny):
    with tiny.unlocked():  # a network of which XLA fuses the same operations with them and without
        tiny.model.update(stage_sizes=(1, 1, 1))
        tiny.model.se.stages = (2, 3, 4)
    plain, _ = states(tiny, 1)
    tiny.train.ema_decay = 0.9
    averaged, _ = states(tiny, 1)
    for one, other in zip(plain, averaged, strict=True):
        jax.tree.map(np.testing.assert_array_equal, one, other.replace(ema=None))


def test_clipping_scales_the_whole_gradient_before_the_penalty():
    config = OptimConfig(0.1, "constant", momentum=0.0, clip_norm=1.0, weight_decay=0.01)
    params = {"a": {"kernel": jnp.asarray([1.0, -2.0])}, "b": {"kernel": jnp.asarray([4.0])}}
    optimizer = make_optimizer(config, optax.constant_schedule(0.1))
    for factor in (1.0, 0.01):  # longer and shorter than the limit
        gradients = jax.tree.map(lambda p, f=factor: f * 3.0 * p, params)
        norm = factor * 3.0 * np.sqrt(1 + 4 + 16)
        updates, _ = optimizer.update(gradients, optimizer.init(params), params)
        want = jax.tree.map(
            lambda g, p, n=norm: -0.1 * (g / max(n, 1) + 0.01 * p), gradients, params
        )
        close(updates, want, 1e-6)


@pytest.mark.slow(reason="a program on one device and on four")
def test_mixing_does_not_depend_on_the_number_of_devices(tiny):
    tiny.data.mixup = 0.4
    tiny.data.cutmix = 1.0
    tiny.train.sync_batch_norm = True
    tiny.optim.learning_rate = 0.02
    close(states(tiny, 4)[0][-1], states(tiny, 1)[0][-1], 5e-5)


def test_the_rate_falls_at_each_plateau_and_no_further():
    config = OptimConfig(0.1, "plateau", patience=2, reductions=2)
    losses = [3.0, 2.0, 2.0, 1.9999, 2.5, 1.0, 1.1, 1.1, 1.1, 1.1]
    #         best best  1   2: fall   1  best  1  2: fall  -    -
    plateau, scales = initial_plateau(), []
    for loss in losses:
        plateau = after_evaluation(config, plateau, loss)
        scales.append(float(plateau.scale))
    np.testing.assert_allclose(scales, [1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01], rtol=1e-5)
    assert int(plateau.reductions) == 2


def test_a_reduced_rate_is_that_of_the_update(tiny, one_device):
    tiny.optim.schedule = "plateau"
    run = prepare(tiny, one_device)
    batch = split_batch(
        next(run.dataset.train.train_batches(run.settings.batch_size, 0)), one_device
    )
    before = jax.device_get(run.initial_state.params)

    def moved(scale):
        plateau = initial_plateau()._replace(scale=jnp.float32(scale))
        state = prepare(tiny, one_device).initial_state.replace(plateau=plateau)
        after = run.steps.train(replicate(state, one_device), batch)[0].params
        return jax.tree.map(np.subtract, jax.device_get(after), before)

    close(moved(0.1), jax.tree.map(lambda update: 0.1 * update, moved(1.0)), 1e-6)


def test_a_run_reduces_its_rate_by_its_own_evaluations(tiny, tmp_path, one_device):
    tiny.optim.update({"schedule": "plateau", "patience": 1, "warmup_epochs": 0.0})
    tiny.optim.learning_rate = 0.5
    tiny.train.eval_every_epochs = 0.25
    train_and_evaluate(tiny, tmp_path, one_device)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    plateau, expected = initial_plateau(), []
    for line in lines:
        if "eval/loss" in line:
            plateau = after_evaluation(OptimConfig(**tiny.optim), plateau, line["eval/loss"])
        else:
            expected.append(0.5 * float(plateau.scale))
    rates = [line["learning_rate"] for line in lines if "learning_rate" in line]
    np.testing.assert_allclose(rates, expected, rtol=1e-5)
    assert len(rates) == 8
    assert rates[-1] < rates[0]


def step_with_bad_batches(tiny, one_device, on_nan):
    """A step on one device to which images of 200 everywhere become infinite, and its state."""
    run = prepare(tiny, one_device)
    config = OptimConfig(**tiny.optim)
    schedule = make_schedule(config, run.plan.total_steps, run.plan.steps_per_epoch)
    step = make_train_step(
        run.model,
        make_optimizer(config, schedule, on_nan=on_nan),
        Inputs(
            Augmentation(),
            lambda images: jnp.where(images.min() == 200, jnp.inf, jnp.float32(images) / 255.0),
        ),
        axis_name=None,
        average=functools.partial(moving_average, decay=0.9),
        on_nan=on_nan,
    )
    return jax.jit(step), run.initial_state


def test_an_update_that_is_not_finite_is_skipped_and_counted(tiny, one_device):
    tiny.train.ema_decay = 0.9
    tiny.optim.nesterov = False
    step, state = step_with_bad_batches(tiny, one_device, "skip")
    good = {"image": np.full((8, 8, 8, 1), 100, np.uint8), "label": np.arange(8)}
    state, sums = step(state, good)
    assert (float(sums["skipped"]), float(sums["examples"])) == (0, 8)
    after, sums = step(state, good | {"image": np.full((8, 8, 8, 1), 200, np.uint8)})
    assert (float(sums["skipped"]), float(sums["examples"])) == (1, 0)
    assert int(after.step) == int(state.step) + 1
    count = optax.tree_utils.tree_set(after.opt_state, count=jnp.int32(1))
    unchanged = after.replace(step=state.step, key=None, opt_state=count)
    jax.tree.map(np.testing.assert_array_equal, unchanged, state.replace(key=None))
    plain, _ = step_with_bad_batches(tiny, one_device, "stop")
    one, other = step(after, good)[0], plain(after, good)[0]
    close(one.replace(key=None), other.replace(key=None), 1e-6)
    # The third update is made at the third rate, the one that is logged.
    run = prepare(tiny, one_device)
    rate = float(run.schedule(2))
    assert rate not in (float(run.schedule(1)), float(run.schedule(3)))
    momentum = optax.tree_utils.tree_get(one.opt_state, "trace")
    expected = jax.tree.map(lambda p, m: p - rate * m, after.params, momentum)
    close(one.params, expected, 1e-6)


def test_one_bad_batch_costs_its_update_and_nothing_else(tiny, tmp_path, one_device, monkeypatch):
    """Alone between two lines of metrics, and in a state that is saved there."""
    of_split = in_memory.Images.train_batches

    def with_a_bad_one(split, batch_size, seed, start=0):
        for step, batch in enumerate(of_split(split, batch_size, seed, start), start=start + 1):
            bad = np.full_like(batch["image"], 200)
            yield batch | {"image": bad if step == 3 else batch["image"]}

    def broken(images, mean, std):
        return jnp.where(images.min() == 200, jnp.inf, jnp.float32(images) / 255.0)

    monkeypatch.setattr("senet_jax.training.prepare.normalize", broken)
    monkeypatch.setattr(in_memory.Images, "train_batches", with_a_bad_one)
    tiny.train.update({"on_nan": "skip", "checkpoint_every_steps": 3})
    tiny.data.pad = 0
    result = train_and_evaluate(tiny, tmp_path, one_device)
    assert result["train/skipped"] == 1
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    bad, good = (next(line for line in lines if line["step"] == step) for step in (3, 4))
    assert (bad["train/examples"], bad["train/skipped"]) == (0, 1)
    assert "train/loss" not in bad
    assert (good["train/examples"], good["train/skipped"]) == (32, 1)


def test_what_is_first_not_finite_is_named():
    gradients = {"stem": {"a": jnp.ones(2)}, "head": {"b": jnp.ones(3), "c": jnp.ones(1)}}
    parts = parts_of(gradients)
    assert parts == ["the loss", "the gradient of head", "the gradient of stem"]
    assert float(first_nonfinite(gradients, jnp.float32(1))) == 0
    gradients["stem"]["a"] = jnp.asarray([1, jnp.nan])
    assert parts[int(first_nonfinite(gradients, jnp.float32(1))) - 1] == parts[2]
    gradients["head"]["c"] = jnp.asarray([jnp.inf])
    assert parts[int(first_nonfinite(gradients, jnp.float32(1))) - 1] == parts[1]
    assert parts[int(first_nonfinite(gradients, jnp.float32(jnp.nan))) - 1] == parts[0]


@pytest.mark.parametrize(
    ("on_nan", "sentence"),
    [
        ("stop", r"is not finite at step [12];"),
        ("skip", r"the last 3 updates were skipped: .* is not finite at step [45]"),
    ],
)
def test_a_run_that_is_no_longer_finite_ends_with_the_step(
    tiny, tmp_path, one_device, monkeypatch, on_nan, sentence
):
    tiny.optim.update({"learning_rate": 1e30, "warmup_epochs": 0.0})
    tiny.train.update({"on_nan": on_nan, "log_every_steps": 2, "eval_every_epochs": 2.0})
    monkeypatch.setattr(session, "MAX_SKIPPED", 2)
    with pytest.raises(InputError, match=sentence):
        train_and_evaluate(tiny, tmp_path, one_device)
    assert not (tmp_path / "result.json").exists()


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("train.accumulate_steps", 0, "accumulate_steps must be above 0, not 0"),
        ("train.accumulate_steps", 5, "accumulate_steps 5 does not divide the 32 images"),
        ("train.ema_decay", 1.0, r"ema_decay must be in \[0, 1\), not 1.0"),
        ("train.on_nan", "ignore", "on_nan must be stop or skip, not 'ignore'"),
        ("train.checkpoint_every_steps", -1, "checkpoint_every_steps must be at least 0, not -1"),
        ("train.keep_checkpoints", 0, "keep_checkpoints must be above 0, not 0"),
        ("optim.clip_norm", -1.0, "clip_norm must be at least 0, not -1.0"),
        ("optim.patience", 0, "patience must be at least 1, not 0"),
        ("data.mixup", -0.1, "mixup must be at least 0, not -0.1"),
        ("data.cutmix", float("inf"), "cutmix must be a number, finite .*, not inf"),
    ],
)
def test_bad_values_are_refused_with_a_sentence(tiny, one_device, key, value, sentence):
    tiny.update_from_flattened_dict({key: value})
    with pytest.raises(InputError, match=sentence):
        prepare(tiny, one_device)


def test_combinations_without_a_meaning_are_refused(tiny, one_device):
    tiny.data.mixup = 0.2
    tiny.train.batch_size = 33
    with pytest.raises(InputError, match="each device has 33"):
        prepare(tiny, one_device)
    tiny.train.batch_size = 32
    tiny.train.accumulate_steps = 2
    tiny.train.sync_batch_norm = True
    with pytest.raises(InputError, match="cannot share their statistics"):
        prepare(tiny, one_device)
