"""A run with a teacher learns its answers to the images it sees itself, by their definition."""

import functools
import shutil

import jax
import numpy as np
import pytest
import scipy.special
from helpers.runs import (
    finish_untrained,
    interrupt_training,
    photos_config,
    tiny_config,
)
from helpers.weights import SMALL, THREE, state_dict

from senet_jax import data
from senet_jax.errors import InputError
from senet_jax.inference.trained_run import load_run
from senet_jax.runs import workdir
from senet_jax.runs.stored import load_weights
from senet_jax.system import files
from senet_jax.system.devices import split_batch
from senet_jax.training.loop import train_and_evaluate
from senet_jax.training.losses import distilled, loss_of
from senet_jax.training.prepare import prepare
from senet_jax.training.state import TrainState
from senet_jax.weights import files as weight_files

RANDOM = np.random.default_rng(0)
LOGITS, THEIRS = (3 * RANDOM.normal(size=(6, 5)).astype(np.float32) for _ in range(2))
TARGETS = np.eye(5, dtype=np.float32)[RANDOM.integers(0, 5, 6)]


def divergence(logits, theirs, temperature):
    """Of the softened probabilities, written out in double precision."""
    ours, wanted = (
        scipy.special.log_softmax(np.float64(x) / temperature, -1) for x in (logits, theirs)
    )
    return (np.exp(wanted) * (wanted - ours)).sum(-1)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("weight", [0.3, 1.0])
@pytest.mark.parametrize("name", ["softmax", "bce"])
def test_the_loss_is_its_definition(name, weight, temperature):
    labels = loss_of(name)
    expected = (1 - weight) * np.asarray(labels(LOGITS, TARGETS))
    expected += weight * temperature**2 * divergence(LOGITS, THEIRS, temperature)
    loss = distilled(labels, weight, temperature)
    np.testing.assert_allclose(loss(LOGITS, (TARGETS, THEIRS)), expected, rtol=1e-5)


def test_gradients_keep_their_size_at_any_temperature_and_vanish_where_both_agree():
    """For high temperatures they are those of half the squared distance (Hinton, section 2.1)."""

    def gradient(theirs, temperature):
        loss = distilled(loss_of("softmax"), 1.0, temperature)
        return jax.grad(lambda logits: loss(logits, (TARGETS, theirs)).sum())(LOGITS)

    ours, wanted = (x - x.mean(-1, keepdims=True) for x in (LOGITS, THEIRS))
    np.testing.assert_allclose(gradient(THEIRS, 1000.0), (ours - wanted) / 5, rtol=0.03, atol=0.01)
    np.testing.assert_allclose(gradient(LOGITS, 2.0), 0, atol=1e-6)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A run whose images are normalised otherwise than those of `tiny`."""
    directory = tmp_path_factory.mktemp("source") / "run"
    config = tiny_config()
    config.data.update(mean=(0.25,), std=(0.5,))
    config.train.ema_decay = 0.9
    finish_untrained(directory, config, recorded=True)
    return directory


def taught(config, source, **values):
    config.train.update(teacher=str(source), distill_weight=0.7, distill_temperature=3.0, **values)
    return config


def first_step(config, count=1):
    run = prepare(config, jax.local_devices()[:count])
    batch = next(run.dataset.train.train_batches(run.settings.batch_size, 0))
    return run, batch, run.steps.train(run.initial_state, split_batch(batch, run.devices))


def test_the_teacher_sees_the_same_images_by_its_own_statistics(tiny, source):
    tiny.data.pad = 0
    run, batch, (after, sums) = first_step(taught(tiny, source))
    state = prepare(tiny, run.devices).initial_state
    teacher, directory = load_weights(source).variables, source
    images = (batch["image"] / np.float32(255) - 0.25) / 0.5
    theirs = jax.jit(load_run(directory).run.model.apply)(teacher, images.astype(np.float32))
    train = functools.partial(run.model.apply, train=True, mutable=["batch_stats"])
    ours, _ = jax.jit(train)(state.variables, run.normalize(batch["image"]))
    labels = -scipy.special.log_softmax(ours, -1)[np.arange(32), batch["label"]]
    expected = (0.3 * labels + 0.7 * 9 * divergence(ours, theirs, 3.0)).sum()
    np.testing.assert_allclose(sums["loss"], expected, rtol=1e-4)
    for path, value in jax.tree.leaves_with_path(after.teacher):
        stored = teacher
        for part in path:
            stored = stored[part.key]
        np.testing.assert_array_equal(value, stored)
    assert run.pretrained["teacher"] == "seresnet20_cifar"


@pytest.mark.slow(reason="three programs of a step with its teacher")
def test_a_step_is_the_same_on_two_devices_and_in_two_parts(tiny, source):
    tiny.data.update(mixup=0.4, cutmix=1.0, flip=True)
    *_, (_, on_two) = first_step(taught(tiny, source), 2)
    *_, (_, in_two) = first_step(taught(tiny, source, accumulate_steps=2), 1)
    np.testing.assert_allclose(on_two["loss"], in_two["loss"], rtol=1e-5)
    np.testing.assert_allclose(on_two["gradient_norm"], in_two["gradient_norm"], rtol=1e-4)


def test_a_run_continues_to_the_same_bits_and_is_asked_without_its_teacher(
    tiny, source, tmp_path, one_device
):
    teacher = shutil.copytree(source, tmp_path / "teacher")
    taught(tiny, teacher, checkpoint_every_steps=2)
    whole = train_and_evaluate(tiny, tmp_path / "whole", one_device)
    interrupt_training(tiny, tmp_path / "cut", one_device)
    moved = teacher.rename(tmp_path / "moved")
    with pytest.raises(InputError, match=rf"train\.teacher.*{teacher}"):
        train_and_evaluate(tiny, tmp_path / "cut", one_device)
    other = tiny_config()
    other.model.width = 8
    finish_untrained(teacher, other, recorded=True)
    with pytest.raises(InputError, match=r"train\.teacher has other weights than those that .*cut"):
        train_and_evaluate(tiny, tmp_path / "cut", one_device)
    shutil.rmtree(teacher)
    moved.rename(teacher)
    cut = train_and_evaluate(tiny, tmp_path / "cut", one_device)
    assert cut["params_sha256"] == whole["params_sha256"]
    shutil.rmtree(teacher)
    assert train_and_evaluate(tiny, tmp_path / "cut", one_device) == cut
    for directory in ("whole", "cut"):
        trained = load_run(tmp_path / directory)
        assert type(trained.state) is TrainState  # checkpoints have the tree of any other run
        assert trained.result["teacher"] == "seresnet20_cifar"
        assert len(trained.result["teacher_sha256"]) == 64
    assert workdir.load_config(tmp_path / "cut").train.teacher == str(teacher)


@pytest.mark.slow(reason="two programs of a step on photographs")
def test_streamed_images_have_a_teacher_as_well(tmp_path, one_device):
    import helpers.photos  # noqa: F401  (registers the builder)

    config = photos_config()
    finish_untrained(tmp_path / "teacher", photos_config(), recorded=True)
    _, _, (_, plain) = first_step(config)
    _, _, (_, sums) = first_step(taught(config, tmp_path / "teacher"))
    assert np.isfinite(sums["loss"])
    assert sums["loss"] != plain["loss"]


@pytest.mark.slow(reason="two programs of a step with another teacher")
def test_weights_in_timms_form_teach(tiny, tmp_path, monkeypatch):
    """Three classes of RGB images, known by their names alone."""
    names = ["a", "b", "c"]
    about = {"architecture": SMALL, "num_classes": 3, "label_names": names}
    about["pretrained_cfg"] = {"mean": [0.5] * 3, "std": [0.5] * 3, "num_classes": 3}
    weight_files.write(tmp_path, state_dict(SMALL, **THREE), about)
    load = data.load_dataset

    def colored(**arguments):
        dataset = load(**arguments)
        for split in (dataset.train, dataset.eval):
            object.__setattr__(split, "image", np.repeat(split.image, 3, axis=-1))
            object.__setattr__(split, "label", split.label % 3)
        fields = {"class_names": tuple(names), "mean": dataset.mean * 3, "std": dataset.std * 3}
        return data.Dataset(dataset.train, dataset.eval, **fields)

    monkeypatch.setattr(data, "load_dataset", colored)
    run, *_ = first_step(taught(tiny, tmp_path))
    assert run.pretrained["teacher_sha256"] == files.sha256(tmp_path / "model.safetensors")
    names.reverse()
    with pytest.raises(InputError, match=r"knows other classes .*: class 0 is 'a' and 'c'"):
        prepare(tiny, run.devices)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"data.classes": (0, 7)}, "knows 10 classes, and the dataset has 7"),
        ({"train.teacher_weights": "best"}, "train.teacher: .*best|lowest|evaluated"),
        ({"train.teacher": "seresnet50.ra2_in1k"}, "train.teacher: .*not in the hub's cache"),
        ({"train.label_smoothing": 0.1, "train.distill_weight": 1.0}, "label_smoothing=0.1 has no"),
        ({"train.loss": "bce", "train.distill_weight": 1.0}, "train.loss='bce' has no effect"),
        ({"train.teacher": "", "train.distill_weight": 0.9}, "distill_weight=0.9 has no effect"),
    ],
)
def test_what_cannot_teach_or_has_no_effect_is_refused(tiny, source, one_device, values, sentence):
    tiny.train.teacher = str(source)
    tiny.update_from_flattened_dict(values)
    with pytest.raises(InputError, match=sentence):
        prepare(tiny, one_device)
    assert prepare(tiny, one_device, begun=True, trains=False)


def test_a_teacher_that_is_tied_to_a_size_is_refused_smaller_images(tiny, tmp_path, one_device):
    config = tiny_config()
    config.model.se.kind = "ge_theta_plus"  # a gate whose kernel is as large as its map
    finish_untrained(tmp_path / "run", config, recorded=True)
    taught(tiny, tmp_path / "run").data.update(first_size=4, size_stages=2)
    with pytest.raises(InputError, match=r"8 x 8 pixels, and cannot see .*first_size=4"):
        prepare(tiny, one_device)


def test_a_teacher_is_the_same_from_any_directory(tiny, source, tmp_path, monkeypatch):
    from senet_jax.training.start import with_whole_paths

    monkeypatch.chdir(source.parent)
    tiny.train.teacher = "run"
    whole = with_whole_paths(tiny)
    assert (whole.train.teacher, tiny.train.teacher) == (str(source), "run")
    workdir.start(tmp_path, whole)
    workdir.check_same(tiny, tmp_path)
    tiny.train.teacher = "runs"
    with pytest.raises(InputError, match=r"differing in train\.teacher"):
        workdir.check_same(tiny, tmp_path)
