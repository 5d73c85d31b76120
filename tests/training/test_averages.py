"""Even averages are those of weights at the last epochs' ends, with statistics of their own."""

import functools
import itertools
import json
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.runs import interrupt_training

from senet_jax.errors import InputError
from senet_jax.inference.trained_run import load_run
from senet_jax.runs import checkpoints, workdir
from senet_jax.runs.stored import load_weights
from senet_jax.system.devices import prefetch, replicate
from senet_jax.training.averages import WARMUPS, even_average, moving_average, with_statistics
from senet_jax.training.loop import train_and_evaluate
from senet_jax.training.prepare import prepare
from senet_jax.training.state import TrainState

TRUE = jnp.array(True)


def close(one, other, rtol):
    for (path, a), b in zip(jax.tree.leaves_with_path(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol, err_msg=str(path))


@pytest.mark.parametrize(("first", "every"), [(3, 2), (1, 1), (7, 5)])
def test_every_end_has_the_same_weight(first, every):
    values = np.random.default_rng(0).normal(size=13)
    average = jax.jit(lambda state: even_average(state, TRUE, first, every))
    ema = {"params": jnp.zeros(1), "batch_stats": {}}
    for step, value in enumerate(values, start=1):
        params = jnp.full(1, value, jnp.float32)
        state = TrainState(jnp.int32(step), None, params, {}, (), ema)
        ema = average(state)
        due = values[first - 1 : step : every]
        expected = due.mean() if len(due) else value
        np.testing.assert_allclose(ema["params"], expected, rtol=1e-5)


def test_decays_rise_as_they_are_defined():
    steps = np.arange(1, 6, dtype=np.float32)
    rises = {name: np.asarray(rise(jnp.asarray(steps))) for name, rise in WARMUPS.items()}
    np.testing.assert_allclose(rises["tensorflow"], (1 + steps) / (10 + steps), rtol=1e-6)
    # timm's ModelEmaV3.get_decay(t) with use_warmup, its gamma of 1 and power of 2/3.
    np.testing.assert_allclose(rises["timm"], 1 - (1 + (steps - 1)) ** (-2 / 3), rtol=1e-5)
    np.testing.assert_array_equal(rises["none"], [0, 1, 1, 1, 1])


def test_a_skipped_step_has_no_part_in_moving_averages_and_its_weights_in_even_ones():
    params, ema = jnp.ones(1), {"params": jnp.zeros(1), "batch_stats": {}}
    state = TrainState(jnp.int32(5), None, params, {}, (), ema)
    assert moving_average(state, ~TRUE, 0.5)["params"] == 0
    assert moving_average(state, TRUE, 0.5)["params"] > 0
    assert even_average(state, ~TRUE, first=3, every=2)["params"] == 0.5


def averaging(config):
    config.data.pad = 0
    config.train.update(
        epochs=3.0, swa_epochs=2, checkpoint_every_steps=4, keep_checkpoints=9, eval_every_epochs=2
    )
    return config


def test_a_run_ends_with_the_average_and_its_own_statistics(tiny, tmp_path, one_device):
    result = train_and_evaluate(averaging(tiny), tmp_path / "run", one_device)
    folder = tmp_path / "run" / workdir.CHECKPOINTS
    parts = ("params", "batch_stats", "ema")
    ends = [checkpoints.read(folder, parts, step).state for step in (8, 12)]
    mean = jax.tree.map(lambda a, b: (a + b) / 2, *(end["params"] for end in ends))
    ema = ends[-1]["ema"]
    close(ema["params"], mean, 1e-5)
    run = prepare(tiny, one_device)
    zeros = jax.tree.map(jnp.zeros_like, ends[-1]["batch_stats"])
    batches = itertools.islice(run.dataset.train.train_batches(32, tiny.seed), 4)
    train = jax.jit(functools.partial(run.model.apply, train=True, mutable=["batch_stats"]))
    statistics = [
        train({"params": mean, "batch_stats": zeros}, run.normalize(batch["image"]))[1][
            "batch_stats"
        ]
        for batch in batches
    ]
    expected = jax.tree.map(lambda *values: 10 * sum(values) / 4, *statistics)
    close(ema["batch_stats"], expected, 1e-4)
    assert result["eval_ema/loss"] != result["eval/loss"]
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    lines = [json.loads(line) for line in lines]
    evaluated = [line["step"] for line in lines if "eval/loss" in line]
    assert evaluated == [8, 12]
    assert [line["step"] for line in lines if "eval_ema/loss" in line] == [12]
    averaged = load_run(tmp_path / "run", "ema")
    close(averaged.state.variables, {"params": mean, "batch_stats": expected}, 1e-4)


def test_it_continues_to_the_same_averages(tiny, tmp_path, one_device, monkeypatch):
    whole = train_and_evaluate(averaging(tiny), tmp_path / "whole", one_device)
    interrupt_training(tiny, tmp_path / "cut", one_device)
    with monkeypatch.context() as patched:

        def pressed(run, state, between):  # Ctrl-C while statistics are taken
            os.kill(os.getpid(), signal.SIGINT)
            return with_statistics(run, state, between)

        patched.setattr("senet_jax.training.averages.with_statistics", pressed)
        with pytest.raises(KeyboardInterrupt):
            train_and_evaluate(tiny, tmp_path / "cut", one_device)
    for load in (load_run, load_weights):
        with pytest.raises(InputError, match=r"has no averages yet: those of train\.swa_epochs=2"):
            load(tmp_path / "cut", "ema", unfinished=True)
        load(tmp_path / "cut", unfinished=True)
    cut = train_and_evaluate(tiny, tmp_path / "cut", one_device)
    for key in ("params_sha256", "eval/loss", "eval_ema/loss"):
        assert cut[key] == whole[key]


def test_statistics_are_the_same_on_four_devices_with_common_batch_norm(tiny):
    averaging(tiny).train.sync_batch_norm = True
    tiny.data.pad = 1
    found = []
    for count, backend in ((1, "pmap"), (4, "jit")):
        tiny.parallel.backend = backend
        run = prepare(tiny, jax.local_devices()[:count])
        state = with_statistics(run, run.initial_state, lambda: None)
        found.append(jax.device_get(state.ema["batch_stats"]))
    close(*found, 1e-5)


def test_each_batch_of_the_statistics_drops_other_branches(tiny, one_device):
    averaging(tiny).model.update(drop_path=0.5, stage_sizes=(1, 1, 2))
    run = prepare(tiny, one_device)
    batch = next(run.dataset.train.train_batches(32, 0))
    placed = prefetch(iter([batch, batch]), run.devices, counts=iter([1, 1]))
    state, found = run.initial_state, []
    for number, same in enumerate(placed):
        at = replicate(jnp.asarray(number, jnp.int32), run.devices)
        means = jax.device_get(run.steps.statistics(state.replace(step=at), same))
        found.append(means)
        state = state.replace(ema=state.ema | {"batch_stats": replicate(means, run.devices)})
    jax.tree.map(np.testing.assert_array_equal, found[0]["stem"], found[1]["stem"])
    differ = jax.tree.map(lambda a, b: (a != b).any(), found[0]["stage4"], found[1]["stage4"])
    assert any(jax.tree.leaves(differ))


@pytest.mark.parametrize("freeze", [(), ("^stem/",)])
def test_statistics_do_not_depend_on_those_before_and_frozen_ones_stay(tiny, one_device, freeze):
    averaging(tiny).optim.freeze = freeze
    run = prepare(tiny, one_device)
    ema, found = run.initial_state.ema, []
    for more in (0.1, 1.3):
        before = jax.tree.map(lambda value, more=more: value + more, ema["batch_stats"])
        state = run.initial_state.replace(ema=ema | {"batch_stats": before})
        found.append(with_statistics(run, state, lambda: None).ema["batch_stats"])
        is_kept = jax.tree.map(lambda a, b: (a == b).all(), found[-1]["stem"], before["stem"])
        assert all(jax.tree.leaves(is_kept)) == bool(freeze)
    if not freeze:
        jax.tree.map(np.testing.assert_array_equal, *found)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"ema_decay": 0.9}, "swa_epochs=1 cannot go with ema_decay=0.9"),
        ({"patience": 1, "epochs": 9.0}, "swa_epochs=1 cannot go with patience=1"),
        ({"swa_epochs": 3}, "swa_epochs must be from 0 to the 2 epochs there are, not 3"),
    ],
)
def test_what_does_not_go_together_is_refused(tiny, one_device, values, sentence):
    tiny.train.update({"swa_epochs": 1} | values)
    with pytest.raises(InputError, match=sentence):
        prepare(tiny, one_device)
