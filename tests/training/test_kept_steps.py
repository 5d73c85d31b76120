"""Seeds of one configuration share steps; nothing else does, and results are the same."""

import jax
import pytest

from senet_jax.training import prepare, steps
from senet_jax.training.loop import train_and_evaluate


@pytest.fixture(autouse=True)
def none_kept(monkeypatch):
    monkeypatch.setattr(steps, "_steps", type(steps._steps)())


def steps_of(config, devices):
    return prepare.prepare(config, devices).steps


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("optim.learning_rate", 0.2),
        ("optim.weight_decay", 0.0),
        ("train.epochs", 3.0),
        ("train.label_smoothing", 0.1),
        ("model.se.ratio", 4),
        ("data.pad", 2),
        ("data.train_split", "train[:96]"),
        ("train.class_weights", "inverse"),
        ("parallel.backend", "jit"),
    ],
)
def test_seeds_share_steps_and_other_configurations_do_not(tiny, one_device, key, value):
    first = steps_of(tiny, one_device)
    tiny.seed = 5
    assert steps_of(tiny, one_device) is first
    tiny.update_from_flattened_dict({key: value})
    assert steps_of(tiny, one_device) is not first


def test_devices_have_steps_of_their_own(tiny):
    assert steps_of(tiny, jax.devices()[:1]) is not steps_of(tiny, jax.devices()[:2])


def test_steps_of_few_configurations_are_kept(tiny, one_device, monkeypatch):
    monkeypatch.setattr(steps, "KEPT", 2)
    first = steps_of(tiny, one_device)
    for epochs in (3.0, 4.0):
        tiny.train.epochs = epochs
        last = steps_of(tiny, one_device)
    assert steps_of(tiny, one_device) is last
    tiny.train.epochs = 2.0
    assert steps_of(tiny, one_device) is not first


def test_a_seed_after_another_has_the_bits_that_it_has_alone(tiny, one_device, tmp_path):
    tiny.train.epochs = 1.0
    digests = {}
    for name, seed in (("alone", 1), ("before", 0), ("after", 1)):
        if name == "before":
            steps._steps.clear()
        tiny.seed = seed
        result = train_and_evaluate(tiny, tmp_path / name, one_device)
        digests[name] = result["params_sha256"]
    assert digests["alone"] == digests["after"] != digests["before"]
