"""A run is reproducible, exact, independent of the number of devices, and safe to interrupt."""

import functools
import json

import jax
import numpy as np
import pytest
import scipy.special
from helpers.quick import some_quick
from helpers.runs import contents, interrupt_training
from sklearn.metrics import confusion_matrix

from configs import digits
from senet_jax.data.augment import Augmentation, normalize
from senet_jax.errors import InputError
from senet_jax.evaluation.loop import evaluate, unpack
from senet_jax.evaluation.tally import Tally
from senet_jax.system.devices import AXIS, assert_replicated, map_step, replicate, split_batch
from senet_jax.training import loop
from senet_jax.training.loop import train_and_evaluate
from senet_jax.training.optim import OptimConfig, make_optimizer
from senet_jax.training.prepare import prepare
from senet_jax.training.schedules import make_schedule
from senet_jax.training.step import Inputs, make_train_step

FIELDS = (
    "model dataset seed params macs step eval/examples eval/top1_error eval/top5_error "
    "images_per_second wall_time_seconds devices jax_version flax_version git_commit params_sha256"
)


def losses(workdir):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return np.array([line["train/loss"] for line in lines if "train/loss" in line])


def test_a_run_leaves_its_files_and_is_bit_identical_when_repeated(
    tiny, tmp_path, one_device, capsys
):
    first = train_and_evaluate(tiny, tmp_path / "a", one_device)
    assert set(FIELDS.split()) <= set(first)
    assert json.loads((tmp_path / "a" / "result.json").read_text()) == first
    assert first["step"] == 8
    assert first["eval/examples"] == 50
    assert list((tmp_path / "a").glob("events.out.tfevents.*"))
    assert "epoch 2  eval loss" in capsys.readouterr().err
    again = train_and_evaluate(tiny, tmp_path / "b", one_device, quiet=True)
    assert capsys.readouterr() == ("", "")
    assert again["params_sha256"] == first["params_sha256"]
    np.testing.assert_array_equal(losses(tmp_path / "a"), losses(tmp_path / "b"))
    tiny.seed = 1
    other = train_and_evaluate(tiny, tmp_path / "c", one_device)
    assert other["params_sha256"] != first["params_sha256"]


def test_a_finished_run_is_not_repeated_and_another_config_is_refused(
    tiny, tmp_path, one_device, monkeypatch
):
    result = train_and_evaluate(tiny, tmp_path, one_device)
    before = contents(tmp_path)
    monkeypatch.setattr(loop, "prepare", lambda *_: pytest.fail("trained again"))
    assert train_and_evaluate(tiny, tmp_path, one_device) == result
    tiny.model.se.ratio = 4
    tiny.seed = 7
    with pytest.raises(InputError, match=r"ratio \(16 there, 4 now\), seed \(0 there"):
        train_and_evaluate(tiny, tmp_path, one_device)
    assert contents(tmp_path) == before


def test_an_interrupted_run_starts_again_and_ends_the_same(tiny, tmp_path, one_device):
    whole = train_and_evaluate(tiny, tmp_path / "whole", one_device)
    interrupt_training(tiny, tmp_path / "cut", one_device)
    assert not (tmp_path / "cut" / "result.json").exists()
    assert len(losses(tmp_path / "cut")) > 0
    resumed = train_and_evaluate(tiny, tmp_path / "cut", one_device)
    assert resumed["params_sha256"] == whole["params_sha256"]
    np.testing.assert_array_equal(losses(tmp_path / "cut"), losses(tmp_path / "whole"))
    assert len(list((tmp_path / "cut").glob("events.out.tfevents.*"))) == 1


def losses_on(config, count, tmp_path, steps=20):
    config.train.epochs = steps / (128 // config.train.batch_size)
    config.train.sync_batch_norm = True
    workdir = tmp_path / f"{count}"
    train_and_evaluate(config, workdir, jax.local_devices()[:count])
    return losses(workdir)


@pytest.mark.parametrize("count", some_quick([2, 4], [4], "trains once more, and on one device"))
def test_losses_do_not_depend_on_the_number_of_devices(tiny, tmp_path, count):
    """With pad-crop and flip on. Rounding grows from step to step, so the rate is moderate."""
    tiny.seed = 2  # with 0 a ReLU within 3e-7 of its kink falls to either side after five steps
    tiny.data.flip = True
    tiny.optim.learning_rate = 0.02
    one, several = (losses_on(tiny, number, tmp_path) for number in (1, count))
    assert len(one) == 20
    assert one[-1] < one[0]
    np.testing.assert_allclose(several, one, rtol=2e-5)


@pytest.mark.slow(reason="trains on one and on four devices")
def test_local_batch_norm_does_depend_on_it(tiny, tmp_path):
    """So the comparison above can fail."""
    tiny.optim.learning_rate = 0.02
    train_and_evaluate(tiny, tmp_path / "1", jax.local_devices()[:1])
    train_and_evaluate(tiny, tmp_path / "4", jax.local_devices()[:4])
    assert np.abs(losses(tmp_path / "1") - losses(tmp_path / "4")).max() > 1e-3


@pytest.mark.parametrize("count", [1, 2, 4])
def test_an_uneven_last_batch_counts_every_example_once(tiny, count):
    """50 examples in batches of 32; the sums equal those of a single pass over all of them."""
    devices = jax.local_devices()[:count]
    run = prepare(tiny, devices)
    (batched, tally), (whole, _) = (
        evaluate(
            run.steps.eval, run.initial_state.variables, run.dataset.eval, size, devices, classes=10
        )
        for size in (32, 52)
    )
    assert batched["examples"] == whole["examples"] == 50
    assert batched["top1_error"] == whole["top1_error"]
    assert batched["top5_error"] == whole["top5_error"]
    assert batched["right"] == whole["right"]
    np.testing.assert_allclose(batched["loss"], whole["loss"], rtol=1e-5)
    # Independent of our step: NumPy on the logits of the plain model.
    images = run.dataset.eval.image.astype(np.float64)
    mean, std = run.dataset.mean, run.dataset.std
    state = jax.device_get((run.initial_state.params, run.initial_state.batch_stats))
    variables = {"params": state[0], "batch_stats": state[1]}
    logits = np.float64(jax.jit(run.model.apply)(variables, (images - mean) / std))
    labels = run.dataset.eval.label
    assert batched["top1_error"] == 100 * (logits.argmax(1) != labels).mean()
    np.testing.assert_array_equal(unpack(batched["right"], 50), logits.argmax(1) == labels)
    of_label = logits[np.arange(50), labels] - np.log(np.exp(logits).sum(1))
    np.testing.assert_allclose(batched["loss"], -of_label.mean(), rtol=1e-5)
    np.testing.assert_allclose(batched["probability"], np.exp(of_label).mean(), rtol=1e-5)
    predicted, p = logits.argmax(1), scipy.special.softmax(logits, axis=1).max(1)
    np.testing.assert_array_equal(tally.confusion, confusion_matrix(labels, predicted))
    expected = Tally.of(labels, predicted, p, 10)
    np.testing.assert_array_equal(tally.bins[:, :2], expected.bins[:, :2])
    assert batched["balanced_error"] == whole["balanced_error"] == expected.balanced_error
    for scores in (batched, whole):
        assert scores["calibration_error"] == pytest.approx(expected.calibration_error, rel=1e-4)


@pytest.mark.parametrize("count", [1, 4])
def test_the_step_is_traced_once_and_its_state_is_replicated(tiny, count):
    devices = jax.local_devices()[:count]
    run = prepare(tiny, devices)
    traces = []
    step = map_step(
        lambda state, batch: (traces.append(1), run.steps.train.__wrapped__(state, batch))[1],
        devices,
        donate_state=True,
    )
    state = run.initial_state
    for _, batch in zip(range(3), run.dataset.train.train_batches(32, 0), strict=False):
        state, _ = step(state, split_batch(batch, devices))
    assert len(traces) == 1
    assert int(state.step) == 3
    assert_replicated(state)


def test_without_a_device_axis_the_step_is_the_same(tiny, one_device):
    """`axis_name=None` and jit, for use without pmap, against pmap on one device."""
    run = prepare(tiny, one_device)
    optim_config = OptimConfig(**tiny.optim)
    schedule = make_schedule(optim_config, run.plan.total_steps, run.plan.steps_per_epoch)
    mean, std = run.dataset.mean, run.dataset.std
    plain = jax.jit(
        make_train_step(
            run.model,
            make_optimizer(optim_config, schedule),
            Inputs(
                Augmentation(pad=tiny.data.pad, flip=tiny.data.flip),
                functools.partial(normalize, mean=mean, std=std),
            ),
            axis_name=None,
        )
    )
    state, mapped_state = (prepare(tiny, one_device).initial_state for _ in range(2))
    for _, batch in zip(range(3), run.dataset.train.train_batches(32, 0), strict=False):
        state, sums = plain(state, batch)
        mapped_state, mapped = run.steps.train(mapped_state, split_batch(batch, one_device))
        np.testing.assert_allclose(sums["loss"], mapped["loss"], rtol=1e-5)


def test_a_difference_between_devices_is_found():
    devices = jax.local_devices()[:2]
    step = map_step(
        lambda state, batch: state + jax.lax.axis_index(AXIS).astype(state.dtype),
        devices,
        donate_state=False,
    )
    drifted = step(replicate(np.zeros(3, np.float32), devices), np.zeros((2, 1)))
    with pytest.raises(AssertionError, match="differs between devices"):
        assert_replicated({"w": drifted})


def test_it_learns(tmp_path, one_device):
    """Three epochs of the digits recipe with small blocks; a constant guess errs on 90 %."""
    config = digits.get_config("seresnet20")
    with config.unlocked():
        config.model.stage_sizes = (1, 1, 1)
    config.train.epochs = 3.0
    result = train_and_evaluate(config, tmp_path, one_device)
    assert result["eval/top1_error"] < 30
    assert result["eval/examples"] == 360


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("train.batch_size", 30, "batch_size 30 cannot be divided by 4 devices; 28 or 32 can"),
        ("train.batch_size", 256, "exceeds the 128 training examples"),
        ("train.epochs", 0.0, "epochs must be above 0"),
        ("train.epochs", float("inf"), "epochs must be a number, finite"),
        ("optim.weight_decay", float("nan"), "weight_decay must be a number, finite"),
        ("seed", -1, "seed must be from 0"),
        ("model.stride_on", "1x1", "stride_on has no meaning in BasicBlocks"),
        ("train.label_smoothing", 1.0, "label_smoothing must be in"),
        ("optim.schedule", "linear", "schedule must be step, cosine, constant, plateau"),
        ("optim.boundaries", (30.0, 60.0), "fractions of the run"),
        ("optim.learning_rate", -1.0, "learning_rate must be above 0"),
        ("data.pad", -1, "pad must be at least 0"),
        ("data.name", "digit", "did you mean 'digits'"),
        ("model.name", "seresnet21_cifar", "unknown model"),
        ("model.se.ratio", 0, "at least 1"),
        ("model.se.stages", (5,), "stage 5"),
    ],
)
def test_bad_configurations_are_refused_and_nothing_is_written(
    tiny, tmp_path, key, value, sentence
):
    tiny.update_from_flattened_dict({key: value})
    with pytest.raises(InputError, match=sentence) as caught:
        train_and_evaluate(tiny, tmp_path / "new")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_an_unwritable_workdir_is_refused(tiny, tmp_path, one_device):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        train_and_evaluate(tiny, tmp_path / "file" / "run", one_device)


def test_files_of_something_else_are_not_touched(tiny, tmp_path, one_device):
    (tmp_path / "metrics.jsonl").write_text("not ours")
    with pytest.raises(InputError, match=r"holds metrics.jsonl but no config.json"):
        train_and_evaluate(tiny, tmp_path, one_device)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["not ours"]


def test_a_diverging_run_stops_with_a_sentence_and_without_a_result(tiny, tmp_path, one_device):
    tiny.optim.learning_rate = 1e30
    tiny.optim.warmup_epochs = 0.0
    with pytest.raises(InputError, match=r"is not finite at step \d; try a smaller"):
        train_and_evaluate(tiny, tmp_path, one_device)
    assert not (tmp_path / "result.json").exists()


@pytest.mark.parametrize("epochs", [1.0, 2.0])
def test_frozen_batch_norm_stays_as_it_is_and_the_rest_learns(tiny, one_device, epochs):
    tiny.train.freeze_bn_epochs = epochs
    tiny.optim.warmup_epochs = 0.0  # its first step would be of length zero
    run = prepare(tiny, one_device)
    assert run.plan.freeze_after == (2.0 - epochs) * run.plan.steps_per_epoch
    before = jax.tree.map(np.asarray, run.initial_state.variables)
    batches = run.dataset.train.train_batches(32, 0)
    state, _ = run.steps.frozen(run.initial_state, split_batch(next(batches), run.devices))
    after = jax.tree.map(np.asarray, state.variables)
    for path, value in jax.tree_util.tree_leaves_with_path(after["batch_stats"]):
        np.testing.assert_array_equal(value, _at(before["batch_stats"], path))
    for path, value in jax.tree_util.tree_leaves_with_path(after["params"]):
        frozen = "bn" in path[-2].key
        assert np.array_equal(value, _at(before["params"], path)) == frozen, path


def _at(tree, path):
    for key in path:
        tree = tree[key.key]
    return tree
