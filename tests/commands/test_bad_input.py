"""Refusals: a value that cannot work is named by its key, before anything is compiled."""

import math
import sys

import jax
import pytest

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

UNREAL = ("nan", "inf", "-inf", "1e300", "abc", "", "None")
NEGATIVE = ("-1", *UNREAL)
NOT_POSITIVE = ("0", *NEGATIVE)
WHOLE = ("1.5", "9223372036854775808", "abc", "", "None")
UNKNOWN = ("", "nope", "None")
NO_SWITCH = ("maybe", "2", "None", "")
BAD = {
    "seed": ("-1", "4294967296", *WHOLE),
    "model.name": ("", "seresnet21_cifar", "nope"),
    "model.dtype": ("int32", "float64", "float16", *UNKNOWN),
    "model.implementation": UNKNOWN,
    "model.stride_on": ("1x1", *UNKNOWN),
    "model.zero_init_last_bn": NO_SWITCH,
    "model.dropout": ("1", *NEGATIVE),
    "model.drop_path": ("1", *NEGATIVE),
    "model.pretrained": ("nope", "w.pth", "a/b/c", "timm", "None"),
    "model.weights": ("latest", "ema", "best", "nope", "None"),  # of no run
    "model.new_head": NO_SWITCH,
    "model.se.kind": UNKNOWN,
    "model.se.ratio": ("0", "-1", *WHOLE[2:]),
    "model.se.squeeze": UNKNOWN,
    "model.se.excitation": UNKNOWN,
    "model.se.gate": UNKNOWN,
    "model.se.placement": UNKNOWN,
    "model.se.stages": ("(5,)", "(2,2)", "('2',)", "(2.0,)", "(True,)", "abc", "None"),
    "model.se.bias": NO_SWITCH,
    "model.se.rounding": UNKNOWN,
    "model.se.groups": ("0", "-1", "2", *WHOLE),
    "data.name": ("", "a b", "digit", "imdb_reviews", "oxford_flowers102"),
    "data.image": ("label", "nope", "None"),
    "data.label": ("image", "nope", "None"),
    "data.train_split": ("", "trian", "train[:0]", "train[5:3]", "train[:9999]", "train[", "5"),
    "data.eval_split": ("", "tset", "test[:0]", "test[50%:20%]", "test+nope", "test[1.5:]"),
    "data.fold": (
        "(1,)",
        "(0,5)",
        "(6,5)",
        "(1,1)",
        "(1,5,-1)",
        "(1,2,3,4)",
        "(1,999)",
        "5",
        "abc",
    ),
    "data.classes": (
        "(0,)",
        "(0,11)",
        "(5,5)",
        "(-1,5)",
        "(0,1,2)",
        "('a','b')",
        "5",
        "abc",
        "None",
    ),
    "data.image_size": ("-1", *WHOLE),
    "data.eval_crop": ("1.1", *NOT_POSITIVE),
    "data.crop_area": ("1.1", *NOT_POSITIVE),
    "data.interpolation": UNKNOWN,
    "data.shuffle_buffer": ("0", "-1", *WHOLE),
    "data.max_unreadable": ("-1", *WHOLE),
    "data.mean": ("(0.5,)", "(0.5,0.5)", "(1.5,)", "('a',)", "(nan,)", "abc", "None"),
    "data.std": ("(0.5,)", "(0,)", "(-0.1,)", "('a',)", "(inf,)", "abc", "None"),
    "data.pad": ("-1", "9", *WHOLE),
    "data.flip": NO_SWITCH,
    "data.rotation": ("181", *NEGATIVE),
    "data.color_jitter": ("-1", "256", *WHOLE),
    "data.randaugment_layers": ("-1", *WHOLE),
    "data.randaugment_magnitude": ("31", *NEGATIVE),
    "data.trivialaugment": NO_SWITCH,
    "data.erasing": ("1.1", *NEGATIVE),
    "data.cutout": ("-1", "9", *WHOLE),
    "data.mixup": NEGATIVE,
    "data.cutmix": NEGATIVE,
    "optim.learning_rate": NOT_POSITIVE,
    "optim.schedule": UNKNOWN,
    "optim.boundaries": ("(0.5,0.5)", "(0.7,0.5)", "(0,)", "1", "(nan,)", "('a','b')", "((1,2),3)"),
    "optim.factor": NEGATIVE,
    "optim.patience": ("0", "-1", *WHOLE),
    "optim.reductions": ("0", "-1", *WHOLE),
    "optim.warmup_epochs": NEGATIVE,
    "optim.warmup": UNKNOWN,
    "optim.momentum": ("1", *NEGATIVE),
    "optim.nesterov": NO_SWITCH,
    "optim.name": UNKNOWN,
    "optim.betas": ("(0.9,)", "(0.9,1)", "(-0.1,0.9)", "(nan,0.9)", "('a','b')", "5", "abc"),
    "optim.alpha": ("1", *NEGATIVE),
    "optim.eps": NEGATIVE,
    "optim.clip_norm": NEGATIVE,
    "optim.weight_decay": NEGATIVE,
    "optim.decay_norm_and_bias": NO_SWITCH,
    "optim.freeze": ("stage9", "('stem','(')", "('',)", "(1,)", "None"),
    "optim.layer_decay": ("0", "1.1", "-1", *UNREAL),
    "parallel.backend": ("jit", *UNKNOWN),  # jit without common batch statistics
    "parallel.shard_optimizer": ("True", *NO_SWITCH),  # which pmap cannot
    "train.epochs": ("1e30", *NOT_POSITIVE),
    "train.batch_size": ("0", "-4", "2", "30", "256", *WHOLE),
    "train.loss": UNKNOWN,
    "train.target_threshold": ("1", *NEGATIVE),
    "train.label_smoothing": ("1", *NEGATIVE),
    "train.class_weights": (
        "nope",
        "effective",
        "effective:0",
        "effective:1",
        "effective:nan",
        "1,2",
        "1,1,1,1,1,1,1,1,1,1",
        "0,1,1,1,1,1,1,1,1,1",
        "-1,1,1,1,1,1,1,1,1,1",
        "1,nan",
    ),
    "train.teacher": ("nope", "w.pth", "a/b/c", "seresnet50.nope", "seresnet50.ra2_in1", "None"),
    "train.teacher_weights": ("ema", "best", "latest", *UNKNOWN),  # of no run
    "train.distill_weight": ("0", "1.1", *NEGATIVE),
    "train.distill_temperature": NOT_POSITIVE,
    "train.accumulate_steps": ("0", "-1", "3", *WHOLE),
    "train.ema_decay": ("1", *NEGATIVE),
    "train.on_nan": UNKNOWN,
    "train.freeze_bn_epochs": ("2.5", *NEGATIVE),
    "train.sync_batch_norm": NO_SWITCH,
    "train.eval_every_epochs": NOT_POSITIVE,
    "train.patience": ("-1", "1", "9", *WHOLE),  # two evaluations
    "train.log_every_steps": ("0", "-1", *WHOLE),
    "train.steps_per_call": ("0", "-1", *WHOLE),
    "train.profile_steps": ("(3,2)", "(0,5)", "(1,)", "5", "('1','2')", "(1.5,2)", "abc"),
    "train.checkpoint_every_minutes": NOT_POSITIVE,
    "train.checkpoint_every_steps": ("-1", *WHOLE),
    "train.keep_checkpoints": ("0", "-1", *WHOLE),
    "train.keep_best": NO_SWITCH,
}
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


@pytest.mark.parametrize("name", NARROW)
def test_the_least_image_is_one_that_the_network_takes(name):
    model = create_model(name, **NARROW[name])
    image = jax.ShapeDtypeStruct((1, model.least_image_size, model.least_image_size, 3), "float32")
    logits, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), image)
    assert logits.shape == (1, model.num_classes)


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
