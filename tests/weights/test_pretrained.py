"""Weights from and to timm's form: each tensor in its place, and a sentence for all that is not."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict
from helpers.runs import finish, tiny_config
from helpers.weights import fill, images, state_dict
from safetensors.numpy import load_file, save_file

import senet_jax
from senet_jax import create_model, models
from senet_jax.errors import InputError
from senet_jax.inference import classifier
from senet_jax.runs import checkpoints, provenance, workdir
from senet_jax.training.start import split_origin
from senet_jax.training.state import create_state
from senet_jax.weights import loading, saving, torch_names
from senet_jax.weights.image_spec import PretrainedConfig
from senet_jax.weights.timm import ALIKE, NETWORKS, weights

SMALL = "mobilenetv1_100"
TAG = "mobilenetv1_100.ra4_e3600_r224_in1k"
THREE = {"num_classes": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """As timm's hub has them: MobileNet with three classes."""
    path = tmp_path_factory.mktemp("weights")
    counters = {"bn1.num_batches_tracked": np.array(7)}
    save_file(state_dict(SMALL, **THREE) | counters, path / "model.safetensors")
    images = {"crop_pct": 0.5, "mean": [0.5, 0.5, 0.5], "tag": "ours", "test_crop_pct": None}
    config = {"architecture": SMALL, "num_classes": 3, "pretrained_cfg": images}
    (path / "config.json").write_text(json.dumps(config))
    return path


@pytest.fixture
def broken(folder, tmp_path):
    """Write the folder's tensors, changed by a function, beside its config.json."""

    def write(change):
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, tmp_path / "model.safetensors")
        shutil.copy(folder / "config.json", tmp_path)
        return tmp_path

    return write


def equal(one, other):
    one, other = flatten_dict(one), flatten_dict(other)
    assert one.keys() == other.keys()
    return all(np.array_equal(one[path], other[path]) for path in one)


def test_without_weights_it_is_the_bare_module():
    assert create_model("seresnet50") == models.create_model("seresnet50")
    assert not create_model("seresnet50").se.bias


@pytest.mark.parametrize("name", ["seresnet50.ra2_in1k", "legacy_seresnet50"])
def test_names_that_only_timm_has_mean_its_architecture(name):
    assert create_model(name).se.bias


@pytest.mark.parametrize("name", NETWORKS)
def test_the_architecture_of_a_network_is_found(name):
    model = models.construct(name, NETWORKS[name], num_classes=5, dtype="bfloat16", dropout=0.5)
    assert saving.architecture_of(model) == name


def test_an_excitation_without_biases_has_zeros_for_them_in_timm(tmp_path):
    assert saving.architecture_of(create_model("seresnext50_32x4d")) == "seresnext50_32x4d"
    # Rounded widths of 64 channels are another network, not one with other biases.
    with pytest.raises(InputError, match="timm has no network like this ResNet"):
        saving.architecture_of(create_model("seresnet18"))
    model = create_model("seresnet18", se={"rounding": "timm"}, num_classes=3)
    variables = fill(jax.eval_shape(model.init, jax.random.key(0), images(64)))
    saving.save(tmp_path, model, variables)
    tensors = load_file(tmp_path / "model.safetensors")
    assert not tensors["layer1.0.se.fc1.bias"].any()
    again, found = create_model("seresnet18", pretrained=tmp_path)
    np.testing.assert_allclose(
        jax.jit(again.apply)(found, images(64)),
        jax.jit(model.apply)(variables, images(64)),
        rtol=1e-5,
        atol=1e-5,
    )


@pytest.mark.parametrize("name", ALIKE)
def test_resnets_for_cifar_come_back_from_the_same_form_as_they_are(name, tmp_path):
    model = create_model(name, num_classes=3)
    assert saving.architecture_of(model.clone(dtype="bfloat16", dropout=0.5)) == name
    variables = fill(jax.eval_shape(model.init, jax.random.key(0), images(8)[..., :1]))
    grey = PretrainedConfig((1, 8, 8), 1.0, "bilinear", (0.3,), (0.4,))
    saving.save(tmp_path, model, variables, grey, ("cat", "dog", "emu"))
    again, found = create_model(name, pretrained=tmp_path)
    assert again == model
    assert equal(found, variables)
    network = classifier.load_classifier(str(tmp_path))
    assert network.shown.image_shape == (8, 8, 1)
    assert network.class_names == ("cat", "dog", "emu")


def test_a_resnet_for_cifar_with_other_fields_has_no_form():
    with pytest.raises(InputError, match="timm has no network like this ResNet"):
        saving.architecture_of(create_model("seresnet20_cifar", se={"bias": True}))


@pytest.mark.parametrize("name", [SMALL, "seresnet18", "legacy_seresnet34"])
def test_the_way_there_and_back_changes_no_bit(name, tmp_path):
    state = state_dict(name)
    weights = loading.from_tensors(name, state)
    saving.save(tmp_path, weights.model, weights.variables, weights.config)
    written = load_file(tmp_path / "model.safetensors")
    counters = {key for key in written if key.endswith("num_batches_tracked")}
    assert len(counters) == sum(key.endswith("running_var") for key in state)
    assert all(written[key].dtype == np.int64 and written[key].shape == () for key in counters)
    assert written.keys() - counters == state.keys()
    for key, value in state.items():
        np.testing.assert_array_equal(written[key], value, err_msg=key)
    again = loading.load_pretrained(name, tmp_path)
    assert equal(again.variables, weights.variables)
    assert (again.model, again.config) == (weights.model, weights.config)


@pytest.mark.parametrize("name", ["vgg16_bn", "inception_resnet_v2", "senet154"])
def test_every_layout_has_a_way_back(name):
    model = models.construct(name, NETWORKS[name])
    # Two classes and two hidden units: the layout of a large matrix, not its size.
    places = torch_names.tensors(
        model,
        {
            ("params", "head", "kernel"): (6, 2),
            ("params", "fc1", "kernel") if name == "vgg16_bn" else ("params", "head", "bias"): (
                (7 * 7 * 3, 2) if name == "vgg16_bn" else (2,)
            ),
        },
    )
    for place in places.values():
        value = np.arange(np.prod(place.ours)).reshape(place.ours)
        there = torch_names.to_torch(value, place)
        assert there.shape == place.shape
        np.testing.assert_array_equal(torch_names.from_torch(there, place), value)


def test_config_json_says_what_timm_reads(folder, tmp_path):
    weights = loading.load_pretrained(TAG, folder)
    # What config.json does not say is not taken from the tag.
    assert weights.config == PretrainedConfig(crop_pct=0.5, mean=(0.5,) * 3, num_classes=3)
    saving.save(tmp_path, weights.model, weights.variables, weights.config)
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["architecture"], config["num_classes"]) == (SMALL, 3)
    assert config["num_features"] == 1024
    said = config["pretrained_cfg"]
    assert (said["first_conv"], said["classifier"]) == ("conv_stem", "classifier")
    assert (said["mean"], said["num_classes"]) == ([0.5, 0.5, 0.5], 3)


@pytest.mark.parametrize("name", [SMALL, TAG])
def test_without_config_json_the_images_are_those_of_the_tag(folder, name):
    state = load_file(folder / "model.safetensors")
    # timm's pretrained_cfg of the tag, the only one there is
    assert loading.from_tensors(name, state).config == PretrainedConfig(
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        num_classes=3,
        test_input_size=(3, 256, 256),
        test_crop_pct=0.95,
    )


def test_classes_are_those_of_the_weights_or_new(folder):
    own, variables = create_model(SMALL, pretrained=folder)
    assert own.num_classes == 3
    other, renewed = create_model(SMALL, pretrained=folder, num_classes=5)
    head = renewed["params"].pop("head")
    assert (other.num_classes, head["kernel"].shape) == (5, (1024, 5))
    assert np.any(head["kernel"])
    assert not np.any(head["bias"])
    del variables["params"]["head"]
    assert equal(renewed, variables)


def test_features_leave_the_classifier_out(folder):
    model, variables = create_model(SMALL, pretrained=folder, features=True)
    assert "head" not in variables["params"]
    assert model.apply(variables, images(64))["stage5"].shape == (2, 2, 2, 1024)


def test_the_images_may_have_other_channels(broken):
    def gray(tensors):
        tensors["conv_stem.weight"] = tensors["conv_stem.weight"].sum(1, keepdims=True)

    _, variables = create_model(SMALL, pretrained=broken(gray))
    assert variables["params"]["stem"]["conv"]["kernel"].shape == (3, 3, 1, 32)


def test_half_precision_is_read_as_it_is_in_float32(broken):
    def halve(tensors):
        for key, value in tensors.items():
            if value.dtype == np.float32:
                tensors[key] = value.astype(np.float16)

    _, variables = create_model(SMALL, pretrained=broken(halve))
    kernel = np.asarray(variables["params"]["head"]["kernel"])
    assert kernel.dtype == np.float32
    np.testing.assert_array_equal(
        kernel, state_dict(SMALL, **THREE)["classifier.weight"].T.astype(np.float16)
    )


def remove(key):
    return lambda tensors: tensors.pop(key)


def put(key, value):
    return lambda tensors: tensors.update({key: value})


BN = "blocks.0.0.bn1.bias"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (remove(BN), f"does not fit {SMALL}: {BN} is missing$"),
        (put("fc.weight", np.zeros(3, "f")), "fc.weight has no place in it$"),
        (put(BN, np.zeros(7, "f")), rf"{BN} is \[7\] there and \[32\] in it$"),
        (put("conv_stem.weight", np.zeros((32, 3, 5, 3), "f")), r"is \[32, 3, 5, 3\] there"),
        (put(BN, np.zeros(32)), "must be float32 or shorter, not float64"),
        (
            lambda t: t.update(
                {"classifier.weight": np.zeros((4, 1024), "f"), "classifier.bias": np.zeros(4, "f")}
            ),
            "has 4 classes, not the 3 that its config.json says",
        ),
        (
            lambda t: [t.pop(f"classifier.{kind}") for kind in ("weight", "bias")],
            "has no classifier; give num_classes",
        ),
        (
            lambda t: [t.pop(key) for key in list(t) if "bn1" in key],
            "is missing, and .* more do not fit$",
        ),
    ],
)
def test_a_tensor_without_its_place_is_named(broken, change, sentence):
    with pytest.raises(InputError, match=sentence):
        create_model(SMALL, pretrained=broken(change))


@pytest.mark.parametrize(
    ("name", "source", "sentence"),
    [
        ("seresnet50.ra3_in1k", True, "no weights 'seresnet50.ra3_in1k'; .* seresnet50.ra2_in1k"),
        ("seresnet18", True, "timm publishes no weights of seresnet18; give a file"),
        ("seresnet152d.ra2_in1k", True, "timm's seresnet152d has a deep stem and shortcuts"),
        ("seresnext26t_32x4d", True, "timm's seresnext26t_32x4d has a tiered stem"),
        ("seresnext26ts.ch_in1k", True, "has a tiered stem and SiLU"),
        ("seresnextaa101d_32x8d.sw_in12k_ft_in1k", True, "has anti-aliased strides"),
        ("mobilenetv1", True, "not among timm's networks here; did you mean 'mobilenetv1_100'"),
        ("seresnet20_cifar", True, "timm publishes no weights of seresnet20_cifar; give a file or"),
        (
            "seresnet50",
            True,
            "timm/seresnet50.a1_in1k is .* not in the hub's cache, and HF_HUB_OFF",
        ),
        ("seresnet50", "hf-hub:me/mine@v1", "me/mine is no folder here and not in the hub's cache"),
        ("seresnet50", "runs/x", "runs/x is no folder here and not in the hub's cache"),
        ("seresnet50", Path("runs/x"), "it is no file or folder here, and no hub id"),
        ("seresnet50", "a/b/c", "it is no file or folder here, and no hub id"),
        ("seresnet50", "there/is.safetensors", "it is no file or folder here, and no hub id"),
    ],
)
def test_what_is_not_there_is_refused_in_a_sentence(name, source, sentence):
    with pytest.raises(InputError, match=sentence):
        create_model(name, pretrained=source)


@pytest.mark.parametrize("name", ["seresnet152d.ra2_in1k", "seresnet50.none"])
def test_timm_s_names_are_checked_without_weights_as_well(name):
    with pytest.raises(InputError, match="timm"):
        create_model(name)


@pytest.mark.parametrize("file", ["w.pth", "w.pt", "pytorch_model.bin", "w.pth.tar"])
@pytest.mark.parametrize("as_folder", [False, True])
def test_pickles_are_refused_with_a_way_out(tmp_path, file, as_folder):
    (tmp_path / file).write_bytes(b"\x80\x04.")
    with pytest.raises(InputError, match=rf"{file} is a pickle.*safetensors.torch"):
        create_model("resnet18", pretrained=tmp_path if as_folder else tmp_path / file)


@pytest.mark.parametrize("content", [b"", b"\x80\x04.", b"PK\x03\x04" + bytes(100)])
def test_files_that_are_not_safetensors_are_refused(tmp_path, content):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(InputError, match="is not a whole safetensors file"):
        create_model("resnet18", pretrained=tmp_path)


def test_other_files_and_folders_are_refused(tmp_path, folder):
    with pytest.raises(InputError, match=r"has no model.safetensors, and is no work directory"):
        create_model("resnet18", pretrained=tmp_path)
    (tmp_path / "w.npz").write_bytes(b"")
    with pytest.raises(InputError, match=r"from .safetensors files, not from w.npz"):
        create_model("resnet18", pretrained=tmp_path / "w.npz")
    for name in "ab":
        shutil.copy(folder / "model.safetensors", tmp_path / f"{name}.safetensors")
    with pytest.raises(InputError, match="has 2 files of tensors; give the one to read"):
        create_model(SMALL, pretrained=tmp_path)
    create_model(SMALL, pretrained=tmp_path / "a.safetensors")


def test_weights_of_another_network_are_refused(folder, tmp_path):
    with pytest.raises(InputError, match="has weights of mobilenetv1_100, not of resnet18"):
        create_model("resnet18", pretrained=folder)
    shutil.copy(folder / "model.safetensors", tmp_path)
    (tmp_path / "config.json").write_text('{"architecture": "seresnet152d"}')
    with pytest.raises(InputError, match="timm's seresnet152d has a deep stem"):
        create_model("resnet18", pretrained=tmp_path)


@pytest.mark.parametrize("source", [True, f"timm/{TAG}", f"hf-hub:timm/{TAG}@main"])
def test_what_is_in_the_hub_s_cache_needs_no_network(folder, tmp_path, monkeypatch, source):
    repository = tmp_path / f"models--timm--{TAG}"
    shutil.copytree(folder, repository / "snapshots" / "abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    _, variables = create_model(TAG, pretrained=source)
    assert equal(variables, create_model(SMALL, pretrained=folder)[1])


def test_a_run_of_ours_gives_its_averages(tmp_path):
    config = tiny_config()
    fields = config.model.to_dict()
    split_origin(fields)
    model = models.create_model(**fields)
    state = create_state(model, optax.sgd(0.1), (8, 8, 1), seed=0, ema=True)
    state = state.replace(ema=jax.tree.map(lambda leaf: leaf + 1, state.ema))
    checkpoints.save(tmp_path / workdir.CHECKPOINTS, 8, state)
    finish(tmp_path, config, params_sha256=provenance.fingerprint(state.variables))
    name = config.model.name
    found, variables = create_model(name, pretrained=tmp_path)
    assert found == model
    assert equal(variables, state.averaged.variables)
    other, renewed = create_model(name, pretrained=tmp_path, num_classes=7, se={"gate": "relu"})
    assert (other.se.gate, renewed["params"]["head"]["kernel"].shape) == ("relu", (8, 7))
    with pytest.raises(InputError, match="is a run of seresnet20_cifar, not of resnet20_cifar"):
        create_model("resnet20_cifar", pretrained=tmp_path)
    with pytest.raises(InputError, match=r"do not fit .* with these fields: .*/bias is missing"):
        create_model(name, pretrained=tmp_path, se={"bias": True})
    finish(tmp_path, config, params_sha256="of others")
    with pytest.raises(InputError, match="their params_sha256 differ"):
        create_model(name, pretrained=tmp_path)
    (tmp_path / "result.json").unlink()
    with pytest.raises(InputError, match="its run is not finished"):
        create_model(name, pretrained=tmp_path)


def test_the_list_of_weights_is_timm_s():
    names = senet_jax.list_pretrained("seresnet50*")
    assert names == [f"seresnet50.{tag}_in1k" for tag in ("a1", "a2", "a3", "ra2")]
    assert {name.partition(".")[0] for name in weights()} <= NETWORKS.keys()
    assert weights()["seresnet50.a3_in1k"].input_size == (3, 160, 160)


def test_what_cannot_be_written_says_so(tmp_path, folder):
    model, variables = create_model(SMALL, pretrained=folder)
    with pytest.raises(InputError, match="timm has no network like this ShuffleNet"):
        saving.save(tmp_path, create_model("shufflenet_g3"), variables)
    with pytest.raises(InputError, match="timm has no network like this ResNet"):
        saving.save(tmp_path, create_model("seresnet50", se={"gate": "relu"}), variables)
    del variables["params"]["head"]["bias"]
    with pytest.raises(InputError, match="params/head/bias is missing"):
        saving.save(tmp_path, model, variables)
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        saving.save(tmp_path / "file", *create_model(SMALL, pretrained=folder))
