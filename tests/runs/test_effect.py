"""A value that somebody chose and that does nothing is refused by the name of its key."""

import dataclasses

import pytest
from helpers.command_line import configured
from helpers.runs import finish
from helpers.studies import datasets_of
from ml_collections import ConfigDict

from configs import cifar, common, digits, finetune, imagenet
from experiments.grid import sweep
from experiments.grid.plan import base_config, plan, row_config
from experiments.reporting.collect import collect
from experiments.run import override
from experiments.studies import load_studies, load_study
from senet_jax.config import flatten
from senet_jax.errors import InputError
from senet_jax.layers.slot import SEConfig
from senet_jax.runs import effect, workdir
from senet_jax.training.prepare import prepare

DIGITS = "configs/digits.py:seresnet20"

# ml_collections loads configuration files in a way that Python 3.12 lacks and 3.11 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")


def test_defaults_of_dependent_keys_are_those_of_the_configuration():
    flat = flatten(common.get_config().to_dict())
    assert {key: flat[key] for key in effect.KEYS} == {
        key: dependence.default for key, dependence in effect.KEYS.items()
    }
    fields = {field.name: field.default for field in dataclasses.fields(SEConfig)}
    del fields["stages"]
    assert fields == effect.OF_A_BLOCK


# Every dependent key: a value of its own, and what gives it an effect.
ACTING = {
    "model.se.kind": ("eca", {"model.se.stages": (2,)}),
    "model.se.ratio": (4, {"model.se.stages": (2,)}),
    "model.se.squeeze": ("max", {"model.se.stages": (2,)}),
    "model.se.excitation": ("none", {"model.se.stages": (2,)}),
    "model.se.gate": ("relu", {"model.se.stages": (2,)}),
    "model.se.placement": ("pre", {"model.se.stages": (2,)}),
    "model.se.bias": (True, {"model.se.stages": (2,)}),
    "model.se.groups": (2, {"model.se.stages": (2,)}),
    "model.se.rounding": ("timm", {"model.se.stages": (2,)}),
    "model.zero_init_last_bn": (True, {"model.pretrained": ""}),
    "model.new_head": (True, {"model.pretrained": "x"}),
    "data.eval_split": ("train", {"data.fold": ()}),
    "data.size_stages": (3, {"data.first_size": 4}),
    "data.eval_size": (48, {"data.image_size": 32}),
    "data.eval_crop": (0.5, {"data.image_size": 32}),
    "data.crop_area": (0.5, {"data.image_size": 32}),
    "data.interpolation": ("bicubic", {"data.image_size": 32}),
    "data.shuffle_buffer": (7, {"data.image_size": 32}),
    "data.max_unreadable": (0, {"data.image_size": 32}),
    "data.randaugment_magnitude": (3.0, {"data.randaugment_layers": 1}),
    "data.randaugment_kind": ("timm", {"data.randaugment_layers": 1}),
    "data.randaugment_std": (
        0.5,
        {"data.randaugment_layers": 1, "data.randaugment_kind": "timm_inc1"},
    ),
    "data.erasing_mode": ("const", {"data.erasing": 0.1}),
    "data.mix_probability": (0.9, {"data.mixup": 0.1}),
    "data.cutmix_probability": (0.9, {"data.mixup": 0.1, "data.cutmix": 1.0}),
    "train.loss": ("bce", {"train.distill_weight": 0.5}),
    "train.target_threshold": (0.2, {"train.loss": "bce", "data.mixup": 0.1}),
    "train.label_smoothing": (0.1, {"train.distill_weight": 0.5}),
    "train.class_weights": ("inverse", {"train.distill_weight": 0.5}),
    "train.ema_warmup": ("timm", {"train.ema_decay": 0.9}),
    "train.teacher_weights": ("ema", {"train.teacher": "x"}),
    "train.distill_weight": (0.9, {"train.teacher": "x"}),
    "train.distill_temperature": (4.0, {"train.teacher": "x"}),
    "optim.boundaries": ((0.3,), {"optim.schedule": "step"}),
    "optim.factor": (0.5, {"optim.schedule": "plateau"}),
    "optim.patience": (1, {"optim.schedule": "plateau"}),
    "optim.reductions": (1, {"optim.schedule": "plateau"}),
    "optim.warmup": ("constant", {"optim.warmup_epochs": 1.0}),
    "optim.momentum": (0.5, {"optim.name": "rmsprop_tf"}),
    "optim.nesterov": (True, {"optim.name": "sgd", "optim.momentum": 0.9}),
    "optim.betas": ((0.8, 0.99), {"optim.name": "lamb"}),
    "optim.alpha": (0.99, {"optim.name": "rmsprop_tf"}),
    "optim.eps": (0.001, {"optim.name": "adamw"}),
    "parallel.shard_optimizer": (True, {"optim.momentum": 0.9}),
    "optim.decay_norm_and_bias": (False, {"optim.weight_decay": 0.1}),
}
IDLE = {"optim.warmup_epochs": 0.0, "optim.nesterov": False, "optim.weight_decay": 0.0}


@pytest.mark.parametrize("key", effect.KEYS)
def test_a_value_without_effect_is_refused_by_the_name_of_its_key(key):
    value, acting = ACTING[key]
    flat = flatten(digits.get_config().to_dict()) | IDLE | {key: value}
    if key.startswith("model.se."):
        flat["model.se.stages"] = ()
    if key == "model.zero_init_last_bn":
        flat["model.pretrained"] = "x"
    if key in ("optim.momentum", "optim.nesterov"):
        flat["optim.name"] = "adamw"
    if key == "parallel.shard_optimizer":
        flat["optim.momentum"] = 0.0
    flat |= {"data.fold": (1, 5)} if key == "data.eval_split" else {}
    if key in ("train.loss", "train.label_smoothing", "train.class_weights"):
        flat |= {"train.teacher": "x", "train.distill_weight": 1.0}
    with pytest.raises(InputError, match=rf"^{key}=.* has no effect with .*; leave it at "):
        effect.check(flat)
    effect.check(flat | acting)


def test_a_run_refuses_it_when_it_begins_but_not_when_it_continues(tiny, one_device):
    key, value = "data.shuffle_buffer", ACTING["data.shuffle_buffer"][0]
    tiny.update_from_flattened_dict(IDLE | {key: value})
    with pytest.raises(InputError, match=rf"^{key}="):
        prepare(tiny, one_device)
    assert prepare(tiny, one_device, begun=True)  # of a version that did not refuse it


def test_streamed_files_have_no_buffer():
    flat = {"data.image_size": 32, "data.shuffle_buffer": 9}
    for name in ("imagenet2012", "tfds:/data/cifar100/3.0.2"):
        effect.check(flat | {"data.name": name})
    for name in ("folder:photos", "csv:photos.csv", "hf:org/name"):
        with pytest.raises(InputError, match=r"shuffle_buffer=9 has no effect with .*data\.name="):
            effect.check(flat | {"data.name": name})


def test_flags_of_a_study_hold_for_the_rows_on_which_they_have_an_effect():
    def configs(name, *flags):
        study = load_study(name)
        bases = [base_config(study, row, "digits", smoke=False) for row in study.rows]
        labels = [row.label for row in study.rows]
        return dict(zip(labels, override(bases, flags, study, []), strict=True))

    reduction = configs("reduction", "--config.model.se.bias=true")
    assert not reduction.pop("original").model.se.bias
    assert all(config.model.se.bias for config in reduction.values())
    transfer = configs("transfer", "--config.model.zero_init_last_bn=true")
    drawn = {label for label, config in transfer.items() if config.model.zero_init_last_bn}
    assert drawn == {"pretraining", "scratch"}
    transfer = configs("transfer", "--noconfig.model.zero_init_last_bn")
    assert not any(config.model.zero_init_last_bn for config in transfer.values())


@pytest.mark.parametrize(
    ("schedule", "key"),
    [("step", "boundaries"), ("plateau", "patience"), ("plateau", "reductions")],
)
def test_a_factor_of_one_leaves_nothing_to_time(schedule, key):
    flat = {"optim.schedule": schedule, f"optim.{key}": ACTING[f"optim.{key}"][0]}
    effect.check(flat | {"optim.factor": 0.5})
    with pytest.raises(InputError, match=rf"optim\.{key}=.* has no effect with .*factor=1\.0"):
        effect.check(flat | {"optim.factor": 1.0})


def test_a_factor_needs_a_boundary_or_a_plateau():
    flat = {"optim.schedule": "step", "optim.boundaries": (), "optim.factor": 0.5}
    with pytest.raises(InputError, match=r"optim\.factor=0\.5 has no effect with optim\.schedule"):
        effect.check(flat)
    effect.check(flat | {"optim.boundaries": (0.5,)})


@pytest.mark.parametrize(
    ("file", "arguments", "expected"),
    [
        # What the recipe brings and the command line makes idle goes back to its default.
        (
            "configs/cifar.py:wrn16_8",
            ("--config.optim.schedule=cosine",),
            {"optim.boundaries": (0.5, 0.75), "optim.factor": 0.1},
        ),
        (
            "configs/cifar.py:resnet110",
            ("--config.optim.warmup_epochs=0", "--config.optim.weight_decay=0"),
            {"optim.warmup": "linear"},
        ),
        (DIGITS, ("--config.optim.momentum=0",), {"optim.nesterov": False}),
        (
            "configs/imagenet.py:mobilenetv1,cifar10",
            ("--config.data.image_size=0",),
            {"data.crop_area": 0.08},
        ),
        # A default asks for nothing.
        (DIGITS, ("--config.optim.patience=5",), {}),
        # What is left to weights is theirs.
        ("configs/finetune.py:digits", (), {"data.eval_crop": 0.0, "data.interpolation": ""}),
    ],
)
def test_what_a_recipe_leaves_without_effect_goes_back_to_its_default(
    file, arguments, expected, monkeypatch
):
    flat = flatten(configured(file, *arguments).to_dict())
    assert {key: flat[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("file", "arguments", "sentence"),
    [
        (DIGITS, ("--config.data.crop_area=0.5",), "data.crop_area=0.5 has no effect with data.im"),
        (DIGITS, ("--config.optim.patience=9",), "optim.patience=9 has no effect with optim.sche"),
        (
            "configs/cifar.py:wrn16_8",
            ("--config.optim.schedule=cosine", "--config.optim.factor=0.3"),
            "optim.factor=0.3 has no effect with optim.schedule='cosine'",
        ),
        (DIGITS, ("--config.model.new_head",), "model.new_head=True has no effect with model.pr"),
    ],
)
def test_what_a_command_line_gives_without_effect_is_refused(
    file, arguments, sentence, monkeypatch
):
    with pytest.raises(InputError) as refusal:
        configured(file, *arguments)
    assert str(refusal.value).startswith(sentence)


def test_no_recipe_sets_a_key_without_effect():
    recipes = [digits.get_config()]
    recipes += [cifar.get_config(f"se{name}") for name in (*cifar.RECIPES, "resnet20")]
    recipes += [cifar.get_config(f"{name},cifar100,modern") for name in cifar.RECIPES]
    recipes += [
        imagenet.get_config(f"{name},imagenet2012,{recipe}")
        for name in ("resnet50", *imagenet.RECIPES)
        for recipe in imagenet.RECIPES_OF_ALL
    ]
    recipes += [finetune.get_config(f"food101,,{recipe}") for recipe in finetune.RECIPES]
    for config in recipes:
        effect.check(flatten(config.to_dict()), () if not config.model.pretrained else workdir.LEFT)


@pytest.mark.parametrize("study", load_studies(), ids=lambda study: study.name)
def test_no_study_sets_a_key_without_effect(study):
    for dataset in datasets_of(study):
        for smoke in (False, True):
            bases = [base_config(study, row, dataset, smoke=smoke) for row in study.rows]
            for row, base in zip(study.rows, override(bases, (), study, []), strict=True):
                flat = flatten(row_config(row, base).to_dict())
                effect.check(flat, ["model.new_head"] if row.starts_from else ())


def test_rows_of_a_sweep_may_leave_idle_what_others_need(tmp_path):
    file = "configs/cifar.py:wrn16_8,cifar100"
    which, config = sweep.study_of(file, ["optim.schedule=step,cosine"], smoke=False)
    bases = [config.copy_and_resolve_references() for _ in which.rows]
    step, cosine = plan(which, override(bases, (), which, []), (0,), tmp_path)
    assert step.config.optim.boundaries == (0.3, 0.6, 0.8)
    assert cosine.config.optim.boundaries == (0.5, 0.75)
    for run in (step, cosine):
        finish(run.workdir, run.config)
    assert len(collect(which, tmp_path).results) == 2  # one study nevertheless
    swept = ["optim.schedule=step,plateau", "optim.patience=5,9"]
    which, config = sweep.study_of(file, swept, smoke=False)
    bases = [config.copy_and_resolve_references() for _ in which.rows]
    with pytest.raises(InputError, match=r"row schedule=step,patience=9: optim\.patience=9 has no"):
        override(bases, (), which, [])


def test_a_run_that_began_with_an_idle_value_continues(tmp_path):
    """Of a version that did not refuse or reset it."""
    config = ConfigDict(digits.get_config())
    config.optim.boundaries = (0.3, 0.6)
    workdir.start(tmp_path, config)
    workdir.check_same(digits.get_config(), tmp_path)
    config.optim.schedule = "step"
    with pytest.raises(InputError, match=r"differing in optim\.schedule"):
        workdir.check_same(config, tmp_path)


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("model.num_classes", "the dataset has them, and data.classes chooses some"),
        ("model.sync_batch_norm", "that is train.sync_batch_norm"),
        ("model.features", "a network is trained by its logits"),
        ("model.axis_name", "training decides it"),
        ("optimizer.learning_rate", r"has no 'optimizer', but seed, model, .*'optim'\?"),
        ("notes", "has no 'notes'"),
    ],
)
def test_a_key_that_a_file_of_ones_own_adds_in_vain_is_refused(tiny, one_device, key, sentence):
    section, _, field = key.partition(".")
    with tiny.unlocked():
        tiny[section] = ConfigDict({**tiny.get(section, {}), field: True}) if field else True
    with pytest.raises(InputError, match=f"{key} has no effect: .*{sentence}"):
        prepare(tiny, one_device)
