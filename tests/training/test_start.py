"""What starts from weights starts as they are, in the network and on the images they are for."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from helpers.runs import finish_untrained, interrupt_training, photos_config, tiny_config

from configs import finetune
from senet_jax import data
from senet_jax.errors import InputError
from senet_jax.inference.trained_run import load_run
from senet_jax.runs import workdir
from senet_jax.runs.stored import load_weights
from senet_jax.system import files
from senet_jax.training import start
from senet_jax.training.loop import train_and_evaluate
from senet_jax.training.prepare import prepare
from senet_jax.training.session import Session
from senet_jax.training.start import resolve_config


def flat(tree):
    return {"/".join(path): np.asarray(value) for path, value in flatten_dict(tree).items()}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A finished run."""
    directory = tmp_path_factory.mktemp("source") / "run"
    config = tiny_config()
    config.train.epochs = 1.0
    result = train_and_evaluate(config, directory, jax.local_devices()[:1])
    return directory, result


def started(config, source, tmp_path, **values):
    """What is prepared of a configuration that starts from a run."""
    config.update_from_flattened_dict({"model.pretrained": str(source), **values})
    return prepare(resolve_config(config, tmp_path), jax.local_devices()[:1])


def test_a_path_of_weights_is_recorded_from_its_root(tiny, source, tmp_path, monkeypatch):
    """The same words elsewhere are other weights; earlier versions recorded them as given."""
    directory, run = source[0], tmp_path / "run"
    (tmp_path / "timm").mkdir()
    for here, text in ((directory, "."), (directory.parent, "./run/"), (tmp_path, str(directory))):
        monkeypatch.chdir(here)
        tiny.model.pretrained = text
        filled = resolve_config(tiny, run)
        assert filled.model.pretrained == str(directory)
        for recorded in (filled, tiny):
            workdir.start(run, recorded)
            workdir.check_same(tiny, run)
    workdir.start(run, filled)
    monkeypatch.chdir(tmp_path)
    tiny.model.pretrained = "."
    with pytest.raises(InputError, match=rf"model.pretrained \({directory} there, . now\)"):
        workdir.check_same(tiny, run)
    images = {"mean": (0.5,), "std": (0.5,)}
    monkeypatch.setattr(start, "of_weights", lambda *_: ({}, images))
    tiny.model.name = "seresnet50.ra2_in1k"
    for name in ("timm", "organisation/name"):  # no paths, though there is a folder "timm"
        tiny.model.pretrained = name
        assert resolve_config(tiny, tmp_path / "other").model.pretrained == name


def test_a_run_starts_as_its_weights_are(tiny, source, tmp_path):
    directory, result = source
    run = started(tiny, directory, tmp_path, **{"train.ema_decay": 0.9, "seed": 5})
    state, end = run.initial_state, load_run(directory)
    assert run.pretrained == {"pretrained_sha256": result["params_sha256"]}
    batch = next(end.run.dataset.eval.eval_batches(16))
    logits = [
        jax.jit(which.model.apply)(variables, which.normalize(batch["image"]))
        for which, variables in ((run, state.variables), (end.run, end.state.variables))
    ]
    np.testing.assert_array_equal(*logits)
    for tree in (state.variables, state.ema):
        for path, value in flat(tree).items():
            np.testing.assert_array_equal(value, flat(end.state.variables)[path])
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(state.opt_state))


@pytest.mark.parametrize(
    "values", [{"data.classes": (0, 7)}, {"model.new_head": True}], ids=["other classes", "asked"]
)
def test_a_new_classifier_is_drawn_from_the_seed(source, tmp_path, values):
    directory, _ = source
    old = flat(load_run(directory).state.params)
    heads = []
    for seed in (0, 1):
        run = started(tiny_config(), directory, tmp_path, seed=seed, **values)
        for path, value in flat(run.initial_state.params).items():
            assert path.startswith("head/") or np.array_equal(value, old[path])
        heads.append(np.asarray(run.initial_state.params["head"]["kernel"]))
    assert heads[0].shape == (4, 7 if "data.classes" in values else 10)
    assert not np.array_equal(*heads)
    assert not np.array_equal(heads[0], old["head/kernel"])


@pytest.mark.parametrize(
    ("places", "values", "warned"),
    [
        (range(10), {}, False),
        ((0, 1, 2, 4, 3, *range(5, 10)), {}, True),  # the same names in another order
        ((0, 1, 2, 4, 3, *range(5, 10)), {"model.new_head": True}, False),
    ],
)
def test_a_classifier_for_other_classes_is_not_kept_without_a_word(
    tiny, source, tmp_path, monkeypatch, caplog, places, values, warned
):
    load = data.load_dataset

    def renamed(**arguments):
        whole = load(**arguments)
        return dataclasses.replace(whole, class_names=tuple(whole.class_names[n] for n in places))

    monkeypatch.setattr(data, "load_dataset", renamed)
    started(tiny, source[0], tmp_path, **values)
    sentence = "but they have other names, there and here: class 3 is '3' and '4'; model.new_head"
    assert (sentence in caplog.text) == warned


@pytest.mark.parametrize(("epochs", "warned"), [(2.0, False), (1.0, True), (0.5, True)])
def test_a_warm_up_that_fills_the_run_is_named(tiny, caplog, one_device, epochs, warned):
    tiny.optim.warmup_epochs = 1.0
    tiny.train.epochs = epochs
    prepare(tiny, one_device)
    assert ("optim.warmup_epochs 1 fill the whole run" in caplog.text) == warned
    caplog.clear()
    prepare(tiny, one_device, begun=True)
    assert not caplog.text


def test_a_run_from_weights_continues_without_them(tiny, source, tmp_path, one_device):
    directory, result = source
    weights = shutil.copytree(directory, tmp_path / "weights")
    tiny.model.update({"pretrained": str(weights)})
    tiny.data.update({"image_size": -1, "eval_crop": 0.0, "interpolation": ""})
    tiny.optim.update({"freeze": ("^stem/", "stage2"), "layer_decay": 0.7})
    tiny.train.update({"checkpoint_every_steps": 1, "ema_decay": 0.9})
    del tiny.model["se"]  # it is the weights'
    whole = train_and_evaluate(tiny, tmp_path / "whole", one_device)
    assert whole["pretrained_sha256"] == result["params_sha256"]
    recorded = workdir.load_config(tmp_path / "whole").to_dict()
    assert recorded["model"]["se"]["ratio"] == 16
    assert (recorded["data"]["image_size"], recorded["data"]["interpolation"]) == (0, "bilinear")
    assert list(recorded["data"]["mean"]) == result["mean"] == whole["mean"]
    interrupt_training(tiny, tmp_path / "cut", one_device)
    shutil.rmtree(weights)
    cut = train_and_evaluate(tiny, tmp_path / "cut", one_device)
    for key in ("params_sha256", "pretrained_sha256", "eval_ema/loss"):
        assert cut[key] == whole[key]
    assert train_and_evaluate(tiny, tmp_path / "cut", one_device) == cut
    assert load_run(tmp_path / "cut", "ema").result == cut
    tiny.data.interpolation = "bicubic"
    with pytest.raises(InputError, match=r"differing in data.interpolation \(bilinear there"):
        train_and_evaluate(tiny, tmp_path / "cut", one_device)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"model.se.gate": "relu"}, r"another seresnet20_cifar, differing in se.gate \(sigmoid"),
        ({"model.se.ratio": 4}, r"se.ratio \(16 there, 4 here\)"),
        ({"model.name": "resnet20_cifar"}, "is a run of seresnet20_cifar, not of resnet20_cifar"),
        ({"data.name": "photos", "data.train_split": "whole", "data.eval_split": "whole"},
         "has weights for images of 1 channel; only those for 3 can be adapted to others"),
        ({"data.mean": (0.5,) * 3, "data.std": (0.5,) * 3},
         "mean and data.std have 3 numbers, but the images have 1 channel"),
        ({"data.name": "photos", "data.train_split": "whole", "data.eval_split": "whole",
          "data.mean": (0.5,) * 3, "data.std": (0.5,) * 3},
         "has weights for images of 1 channel; only those for 3 can be adapted to others"),
    ],
)  # fmt: skip
def test_weights_of_other_networks_and_images_are_refused(tiny, source, tmp_path, values, sentence):
    import helpers.photos  # noqa: F401  (registers the builder)

    tiny.data.image_size = -1
    with pytest.raises(InputError, match=sentence):
        started(tiny, source[0], tmp_path, **values)
    assert not list(tmp_path.iterdir())


def test_weights_for_rgb_start_a_run_on_grey_images_and_it_is_said(tmp_path, one_device, caplog):
    import helpers.photos  # noqa: F401  (registers the builder)

    rgb = photos_config()
    finish_untrained(tmp_path / "rgb", rgb)
    records = {"mean": [0.5] * 3, "std": [0.5] * 3, "image_shape": [32, 32, 3]}
    records["class_names"] = [*map(str, range(5))]
    result = files.read_json(tmp_path / "rgb" / "result.json") | records
    files.write_json(tmp_path / "rgb" / "result.json", result)
    config = tiny_config()
    config.model.update({"name": rgb.model.name, "pretrained": str(tmp_path / "rgb")})
    for field in ("se", "stage_sizes", "width", "stride_on", "zero_init_last_bn"):
        del config.model[field]
    run = prepare(resolve_config(config, tmp_path / "grey"), one_device)
    assert run.dataset.train.image_shape == (8, 8, 1)
    assert (run.dataset.mean, run.dataset.std) == run.dataset.train.statistics()  # its own
    kernel = run.initial_state.params["stem"]["conv"]["kernel"]
    theirs = load_weights(tmp_path / "rgb").variables["params"]["stem"]["conv"]["kernel"]
    np.testing.assert_allclose(kernel, np.sum(theirs, 2, keepdims=True), rtol=1e-5, atol=1e-6)
    how = "weights for images of 3 channels, their first kernel summed for 1 channel"
    assert f"the run starts from {how}" in caplog.text
    recorded = Session.resume(run, tmp_path / "none", 0.0).pretrained
    assert recorded == {"pretrained_sha256": result["params_sha256"], "pretrained_channels": 3}


@pytest.mark.parametrize(
    ("name", "wanted", "expected"),
    [
        ("digits", 0, 0),
        ("digits", 8, 0),
        ("digits", 224, 224),
        ("photos", 0, 32),
        ("photos", 224, 224),
        ("fake", 224, 224),
    ],
)
def test_images_are_kept_in_memory_where_they_can_be(name, wanted, expected, monkeypatch):
    import helpers.photos  # noqa: F401  (registers the builder)

    data.load_dataset("digits", "train", "test")  # or nothing would be known of its size
    assert data.image_size_for(name, wanted, otherwise=32) == expected
    monkeypatch.setattr(data.lookup, "IN_MEMORY", 1797 * 64 - 1)
    assert data.image_size_for(name, wanted, otherwise=32) == (expected or wanted or 32)


def test_published_weights_bring_their_network_and_images(tmp_path):
    """Values come from config.json beside them, and from timm's table where it says nothing."""
    published = {
        "architecture": "seresnet18",
        "pretrained_cfg": {"input_size": [3, 96, 96], "mean": [0.5] * 3},
    }
    files.write_json(tmp_path / "config.json", published)
    config = finetune.get_config("digits,seresnet50.a3_in1k")
    config.model.pretrained = str(tmp_path)
    config.data.eval_crop = 0.5
    images = resolve_config(config, tmp_path / "run").to_dict()["data"]
    assert (images["image_size"], images["mean"], images["eval_crop"]) == (96, (0.5,) * 3, 0.5)
    assert (images["std"], images["interpolation"]) == ((0.229, 0.224, 0.225), "bicubic")


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("digits,seresnet50", "'timm' needs the tag .* publishes seresnet50.a1_in1k, seresnet50"),
        ("digits,seresnet20_cifar", "'timm' needs the tag .* timm publishes nothing of it"),
        ("digits,seresnet50.none", "timm publishes no weights 'seresnet50.none'"),
        ("digits", "seresnet50.ra2_in1k is no folder here .* HF_HUB_OFFLINE is set"),
    ],
)
def test_weights_that_timm_has_not_are_refused(tmp_path, argument, sentence):
    with pytest.raises(InputError, match=f"^model.pretrained: .*{sentence}"):
        train_and_evaluate(finetune.get_config(argument), tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_recipes_are_one_of_two():
    assert finetune.get_config("food101").data.eval_split == "validation"
    assert finetune.get_config("digits,,probe").optim.freeze == ("^(?!head/)",)
    with pytest.raises(ValueError, match="the recipe is all or probe, not 'prob'"):
        finetune.get_config("digits,seresnet50.ra2_in1k,prob")


def test_halves_of_the_classes_together_are_the_dataset():
    whole = data.load_dataset("digits", "train", "test")
    halves = [data.load_dataset("digits", "train", "test", classes=c) for c in ((0, 4), (4, 10))]
    assert halves[1].class_names == ("4", "5", "6", "7", "8", "9")
    for split in ("train", "eval"):
        everything = getattr(whole, split)
        for half, first in zip(halves, (0, 4), strict=True):
            part = getattr(half, split)
            members = (everything.label >= first) & (everything.label < first + half.num_classes)
            np.testing.assert_array_equal(part.label + first, everything.label[members])
            np.testing.assert_array_equal(part.image, everything.image[members])
    alone, names = data.load_split("digits", "test", classes=(4, 10))
    np.testing.assert_array_equal(alone.label, halves[1].eval.label)
    assert names == halves[1].class_names


@pytest.mark.parametrize(
    ("name", "classes", "image_size", "sentence"),
    [
        ("digits", (5, 11), 0, r"such as \(0, 10\) or .* for all of 'digits', not \(5, 11\)"),
        ("digits", (0, 5), 8, "is for images that are kept in memory: streamed ones"),
        ("fake", (0, 5), 0, "is for images that are kept in memory: noise has none"),
    ],
)
def test_classes_that_cannot_be_taken_are_refused(name, classes, image_size, sentence):
    views = tiny_config().data.to_dict()
    fields = ("eval_crop", "crop_area", "interpolation", "shuffle_buffer", "max_unreadable")
    views = {key: views[key] for key in fields}
    with pytest.raises(InputError, match=sentence):
        data.load_dataset(name, "train", "test", classes=classes, image_size=image_size, **views)
