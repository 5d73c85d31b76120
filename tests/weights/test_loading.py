"""Weights in timm's form and of runs: each tensor in its place, a sentence for all that is not."""

import shutil
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from helpers.runs import finish, tiny_config
from helpers.weights import SMALL, TAG, THREE, equal, images, state_dict
from safetensors.numpy import load_file, save_file

import senet_jax
from senet_jax import create_model, models
from senet_jax.errors import InputError
from senet_jax.runs import checkpoints, provenance, workdir
from senet_jax.training.start import split_origin
from senet_jax.training.state import create_state
from senet_jax.weights import loading, torch_names
from senet_jax.weights.image_spec import ImageSpec
from senet_jax.weights.timm import NETWORKS, weights


@pytest.fixture
def broken(folder, tmp_path):
    """A function that changes the folder's tensors and writes them beside its config.json."""

    def write(change):
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, tmp_path / "model.safetensors")
        shutil.copy(folder / "config.json", tmp_path)
        return tmp_path

    return write


def test_without_weights_it_is_the_bare_module():
    assert create_model("seresnet50") == models.create_model("seresnet50")
    assert not create_model("seresnet50").se.bias


@pytest.mark.parametrize("name", ["seresnet50.ra2_in1k", "legacy_seresnet50"])
def test_names_that_only_timm_has_mean_its_architecture(name):
    assert create_model(name).se.bias


@pytest.mark.parametrize("name", [SMALL, TAG])
def test_without_config_json_the_images_are_those_of_the_tag(folder, name):
    state = load_file(folder / "model.safetensors")
    # timm's pretrained_cfg of the tag, the only one there is
    assert loading.from_tensors(name, state).image_spec == ImageSpec(
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
    maps = jax.eval_shape(model.apply, variables, images(64))
    assert maps["stage5"].shape == (2, 2, 2, 1024)


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


@pytest.mark.parametrize(
    "prefix",
    [*torch_names.WRAPPERS, "module._orig_mod.", "state_dict.model.module.", "model.model."],
)
def test_what_wrappers_put_before_all_names_is_taken_away(folder, broken, prefix):
    def wrap(tensors):
        for key in list(tensors):
            tensors[prefix + key] = tensors.pop(key)

    assert equal(
        create_model(SMALL, pretrained=broken(wrap))[1], create_model(SMALL, pretrained=folder)[1]
    )


@pytest.mark.parametrize("prefix", ["module.", "net."])
def test_a_prefix_of_some_names_or_of_no_wrapper_is_no_wrapper_s(broken, prefix):
    def wrap(tensors):
        for key in sorted(tensors)[prefix == "module." :]:
            tensors[prefix + key] = tensors.pop(key)

    with pytest.raises(InputError, match=r"has no place in it, where it is called cl"):
        create_model(SMALL, pretrained=broken(wrap))


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
            put(BN, np.full(32, np.nan, "f")),
            r"\.safetensors has numbers that are not finite in stage1/",
        ),
        (
            put(BN.replace("bias", "running_var"), np.full(32, -1, "f")),
            "has a variance below 0 in stage1/.*; take other weights",
        ),
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


def test_a_run_of_ours_gives_its_final_weights_and_those_that_are_asked_for(tmp_path):
    config = tiny_config()
    config.train.ema_decay = 0.9
    fields = config.model.to_dict()
    _, fields = split_origin(fields)
    model = models.create_model(**fields)
    state = create_state(model, optax.sgd(0.1), (8, 8, 1), seed=0, ema=True)
    state = state.replace(ema=jax.tree.map(lambda leaf: leaf + 1, state.ema))
    checkpoints.save(tmp_path / workdir.CHECKPOINTS, 8, state)
    finish(tmp_path, config, params_sha256=provenance.fingerprint(state.variables))
    name = config.model.name
    again, variables = create_model(name, pretrained=tmp_path)
    assert again == model
    assert equal(variables, state.variables)
    averages = create_model(name, pretrained=tmp_path, weights="ema")[1]
    assert equal(averages, state.averaged.variables)
    other, renewed = create_model(name, pretrained=tmp_path, num_classes=7, se={"gate": "relu"})
    assert (other.se.gate, renewed["params"]["head"]["kernel"].shape) == ("relu", (4, 7))
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
