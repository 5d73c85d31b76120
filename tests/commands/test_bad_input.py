"""Refusals: a value that cannot work is named by its key, before anything is compiled."""

import functools
import math
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers.bad_values import BAD
from ml_collections import ConfigDict

from configs import common, imagenet
from experiments.grid.narrow import NARROW
from senet_jax import create_model
from senet_jax.config import flatten
from senet_jax.errors import InputError
from senet_jax.runs import workdir
from senet_jax.system import cli, files
from senet_jax.training.loop import train_and_evaluate
from senet_jax.training.prepare import prepare
from senet_jax.training.recipe import check

compiled = []
jax.monitoring.register_event_duration_secs_listener(
    # Shapes may be asked for, which traces.
    lambda event, *_, **__: (
        compiled.append(event) if "/core/compile/" in event and "trace" not in event else None
    )
)


def test_there_are_bad_values_of_every_key():
    assert BAD.keys() == flatten(common.get_config().to_dict()).keys()


def refused(call):
    """Return the sentence of the refusal, for which nothing may be compiled."""
    before = len(compiled)
    with pytest.raises(InputError) as caught:
        call()
    assert compiled[before:] == []
    assert "\n" not in str(caught.value)
    assert "instances of" not in str(caught.value)  # what Python says of types
    return str(caught.value)


@pytest.mark.parametrize("key", BAD)
def test_a_bad_value_is_refused_by_the_name_of_its_key(tiny, tmp_path, key):
    """The devices are four and the images have 8 x 8 pixels: some values are bad only there."""
    for value in BAD[key]:

        def run(value=value):
            config = cli.with_flags(tiny, [f"--config.{key}={value}"])
            train_and_evaluate(config, tmp_path / "run")

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(sys, "argv", ["main"])
            # A flag writes its default as text, twice, which takes longer than to refuse a value.
            patched.setattr(ConfigDict, "__str__", object.__repr__)
            sentence = refused(run)
        named = key.rpartition(".")[2] if key != "model.name" else "model"
        assert named in sentence or (key == "data.name" and value in sentence), sentence
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"train.sync_batch_norm": True, "train.accumulate_steps": 2}, "cannot go with"),
        ({"data.mixup": 0.2, "train.batch_size": 12}, "data.mixup and data.cutmix mix pairs"),
        ({"model.se.kind": "eca", "model.se.ratio": 4}, "se.ratio has no effect with se.kind"),
        ({"model.se.squeeze": "none", "model.se.excitation": "none"}, "leaves no SE block"),
        ({"model.se.kind": "bam"}, "add se.placement='between_stages'"),
        ({"data.pad": 40, "data.image_size": 32}, "data.pad 40 is more than the images of"),
    ],
)
def test_values_that_do_not_go_together_are_refused(tiny, tmp_path, values, sentence):
    tiny.update_from_flattened_dict(values)
    assert sentence in refused(lambda: train_and_evaluate(tiny, tmp_path / "run"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("key", ["optim.learning_rate", "optim.boundaries", "data.mean"])
def test_a_run_that_is_queued_has_finite_numbers(tiny, tmp_path, key, number):
    """Launched studies write config.json before anybody looks at its values."""
    value = number if key == "optim.learning_rate" else (0.5, number)
    tiny.update_from_flattened_dict({key: value})
    with pytest.raises(InputError, match=f"{key} must be finite, not .*{number}"):
        workdir.queue(tmp_path / "run", tiny)
    assert not list(tmp_path.iterdir())


def test_of_one_class_there_is_nothing_to_learn(tiny, tmp_path):
    tiny.data.classes = (3, 4)
    tiny.train.batch_size = 4
    sentence = refused(lambda: train_and_evaluate(tiny, tmp_path / "run"))
    assert "'digits' has one class here, '3'" in sentence
    assert not list(tmp_path.iterdir())


def test_a_plain_network_by_name_has_no_blocks(tiny, tmp_path):
    tiny.model.name = "resnet20_cifar"
    sentence = refused(lambda: train_and_evaluate(tiny, tmp_path / "run"))
    assert "'resnet20_cifar' is a network without SE blocks" in sentence
    tiny.model.se.stages = ()
    check(tiny, jax.local_devices())


@pytest.mark.parametrize(
    ("name", "least"), [("sevgg16_bn", 32), ("seinception_resnet_v2", 75), ("vgg16_bn", 32)]
)
def test_images_from_which_nothing_would_be_left_are_refused(name, least, tmp_path):
    config = imagenet.get_config(f"{name},fake")
    config.data.image_size = least - 1
    sentence = refused(lambda: train_and_evaluate(config, tmp_path / "run"))
    expected = f"model {name} needs {least} pixels in height and width, more than"
    assert sentence.startswith(expected)
    assert f"{least - 1} x {least - 1} pixels; set data.image_size" in sentence


@pytest.mark.parametrize(
    "value", [np.float32(0.05), np.int64(3), np.arange(3), range(2), Path("x")]
)
@pytest.mark.parametrize("key", flatten(common.get_config().to_dict()))
def test_a_value_that_json_lacks_is_refused_whatever_it_is(key, value, tiny, tmp_path):
    values = tiny.to_dict()
    *sections, name = key.split(".")
    functools.reduce(dict.__getitem__, sections, values)[name] = value
    sentence = refused(lambda: train_and_evaluate(ConfigDict(values), tmp_path / "run"))
    assert sentence.startswith(f"{key} must be text, a number of Python, True, False, None or ")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("features", [False, True])
@pytest.mark.parametrize("name", NARROW)
def test_no_image_is_smaller_than_the_least_that_the_network_takes(name, features):
    model = create_model(name, **NARROW[name], features=features)
    least = model.least_image_size
    image = jax.ShapeDtypeStruct((1, least, least, 3), "float32")
    out, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), image)
    for leaf in jax.tree.leaves(out):
        assert min(leaf.shape) >= 1
    smaller = jax.ShapeDtypeStruct((1, least, least - 1, 3), "float32")
    for train in (False, True):
        apply = functools.partial(model.apply, train=train, mutable=["batch_stats"])
        sentence = refused(lambda apply=apply: jax.eval_shape(apply, variables, smaller))
        assert sentence == (
            f"this network needs {least} pixels in height and width, not {least} x {least - 1}"
        )


@pytest.mark.parametrize("key", ["seed", "model.name", "data.pad", "train.on_nan", "data.name"])
def test_a_configuration_of_an_older_version_is_told_what_it_lacks(tiny, tmp_path, key):
    workdir.start(tmp_path, tiny)
    stored = files.read_json(tmp_path / "config.json")
    section, _, name = key.rpartition(".")
    (stored[section] if section else stored).pop(name)
    files.write_json(tmp_path / "config.json", stored)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert f"{key} (missing there, " in refused(lambda: train_and_evaluate(tiny, tmp_path))
    loaded = workdir.load_config(tmp_path)
    assert f"the configuration has no {key}" in refused(
        lambda: prepare(loaded, jax.local_devices())
    )
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"def get_config(:", "line 1, is not Python: "),
        (b"seed: 1\n", "defines no get_config()"),
        (b"", "defines no get_config()"),
        (b"x = '\xff'", "is not Python: "),
        (b"\0", "is not Python: "),
        (None, "there is no configuration file"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(tmp_path, content, sentence):
    path = tmp_path / "config.py"
    if content is not None:
        path.write_bytes(content)
    assert sentence in refused(lambda: cli.check_config_file(f"{path}:seresnet20"))
    assert "there is no" in refused(lambda: cli.check_config_file(str(tmp_path)))
