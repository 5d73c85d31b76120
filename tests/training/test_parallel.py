"""The three backends are the same run, on any number of devices, and one continues another."""

import json
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.runs import interrupted, logged

from senet_jax.errors import InputError
from senet_jax.runs import checkpoints
from senet_jax.system import device_memory, devices
from senet_jax.system.devices import BACKENDS, DeviceGroup, map_step, place_batches, replicate
from senet_jax.training.loop import train_and_evaluate
from senet_jax.training.prepare import prepare


@pytest.fixture
def synced(tiny):
    """A short run whose batch statistics are those of all devices."""
    tiny.train.update(sync_batch_norm=True, ema_decay=0.9, epochs=1.5)
    tiny.optim.learning_rate = 0.05
    return tiny


def with_backend(config, backend, **more):
    config.parallel.update({"backend": backend, **more})
    return config


def alike(one, other):
    """Whether two runs have the same metrics, to rounding, at the same steps."""
    one, other = logged(one), logged(other)
    assert one.keys() == other.keys()
    for key, value in one.items():
        if "loss" in key[1] or "norm" in key[1] or "error" in key[1]:
            np.testing.assert_allclose(other[key], value, rtol=2e-4, err_msg=str(key))


@pytest.mark.slow(reason="four runs; one that continues with each of the backends is quick")
@pytest.mark.parametrize("count", [4, 1])
def test_losses_do_not_depend_on_the_backend_nor_on_the_devices(
    synced, tmp_path, one_device, count
):
    train_and_evaluate(synced, tmp_path / "reference", one_device)
    for backend in BACKENDS:
        run = tmp_path / backend
        train_and_evaluate(with_backend(synced, backend), run, jax.local_devices()[:count])
        alike(tmp_path / "reference", run)
        result = json.loads((run / "result.json").read_text())
        assert result.get("parallel", "pmap") == backend


@pytest.mark.slow(reason="trains once more by either")
def test_shard_map_has_the_statistics_of_each_device_as_pmap_has(tiny, tmp_path):
    tiny.train.update(epochs=1.0, steps_per_call=2)
    devices = jax.local_devices()[:2]
    train_and_evaluate(tiny, tmp_path / "pmap", devices)
    train_and_evaluate(with_backend(tiny, "shard_map"), tmp_path / "shard_map", devices)
    alike(tmp_path / "pmap", tmp_path / "shard_map")


@pytest.mark.slow(reason="compiles a run's programs for four devices by three backends")
def test_a_run_continues_with_another_backend_and_its_optimizer_divided(
    synced, tmp_path, monkeypatch, capsys
):
    """Several steps a call, images on the devices: what a backend must know to lay out batches."""
    where, cut = jax.local_devices(), tmp_path / "cut"
    synced.train.update(epochs=3.0, steps_per_call=4)
    train_and_evaluate(synced, tmp_path / "whole", where)
    monkeypatch.setattr(device_memory, "free_memory", lambda _: 10**9)
    for backend, shard in (("pmap", False), ("jit", True)):
        config = with_backend(synced, backend, shard_optimizer=shard)
        with pytest.raises(KeyboardInterrupt):
            interrupted(config, cut, where, monkeypatch, signal.SIGINT, ("evaluate", 1))
    train_and_evaluate(with_backend(synced, "shard_map", shard_optimizer=False), cut, where)
    alike(tmp_path / "whole", cut)
    assert "parallel (pmap, now jit)" in capsys.readouterr().err
    result = json.loads((cut / "result.json").read_text())
    kinds = [*result["earlier_environments"], result]
    assert [kind.get("parallel", "pmap") for kind in kinds] == ["pmap", "jit", "shard_map"]


def test_each_device_keeps_a_part_of_a_divided_state_and_all_of_the_weights(synced, tmp_path):
    devices = jax.local_devices()
    run = prepare(with_backend(synced, "jit", shard_optimizer=True), devices)
    state = run.initial_state

    def part(tree):
        """The share of a tree's bytes that the first device has."""
        leaves = [leaf for leaf in jax.tree.leaves(tree) if leaf.ndim]
        own = sum(leaf.addressable_shards[0].data.nbytes for leaf in leaves)
        return own / sum(leaf.nbytes for leaf in leaves)

    batch = next(run.dataset.train.train_batches(32, 0))
    for _ in range(2):
        assert part(state.params) == part(state.batch_stats) == 1
        # Kernels of the stem, of one channel, and of the classifier, of ten classes, are among it.
        assert part(state.opt_state) < 0.3
        assert part(state.ema) < 0.3
        state, sums = run.steps.train(state, place_batches([batch], run.devices))
        assert all(value.is_fully_replicated for value in sums.values())
    checkpoints.save(tmp_path, 2, state)
    again = checkpoints.restore(tmp_path, run.initial_state).state
    for one, other in zip(jax.tree.leaves(state), jax.tree.leaves(again), strict=True):
        assert one.sharding == other.sharding


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("calls", [1, 3])
def test_each_backend_gives_a_step_its_batch_in_order(backend, calls):
    group = DeviceGroup.of(jax.local_devices(), backend)
    axis = devices.axis_of(group)
    batches = [
        {"label": np.arange(8) + 8 * call, "image": np.zeros((8, 2, 2, 3))} for call in range(calls)
    ]

    def step(state, batch):
        def one(state, batch):
            return state, devices.gather_over_devices(batch["label"], axis)

        if batch["label"].ndim == 1:
            return one(state, batch)
        return jax.lax.scan(one, state, batch)

    mapped = map_step(step, group, donate_state=False)
    _, labels = mapped(replicate(jnp.zeros(()), group), place_batches(batches, group))
    assert np.asarray(labels).ravel().tolist() == [*range(8 * calls)]


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ({"backend": "xmap"}, r"parallel: backend must be pmap, shard_map, jit, not 'xmap'"),
        ({"shard_optimizer": True}, r"shard_optimizer=True has no effect with backend='pmap'"),
        ({"backend": "jit"}, "one program for all 2 devices.*sync_batch_norm=True"),
    ],
)
def test_what_cannot_be_is_refused(tiny, section, sentence):
    tiny.parallel.update(section)
    with pytest.raises(InputError, match=sentence):
        prepare(tiny, jax.local_devices()[:2])


@pytest.mark.parametrize("generator", ["threefry2x32", "rbg"])
def test_generators_that_draw_for_a_batch_are_named(tiny, one_device, generator, caplog):
    """With rbg, all examples of a batch are drawn from one key: other devices have other images."""
    with jax.default_prng_impl(generator):
        prepare(tiny, one_device)
    said = "jax_default_prng_impl=rbg: augmentation and dropout depend on the number of devices"
    assert (said in caplog.text) == (generator == "rbg")
