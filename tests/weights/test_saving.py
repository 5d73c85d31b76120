"""Weights written in timm's form: each tensor comes back, and config.json has what timm reads."""

import json

import jax
import numpy as np
import pytest
from helpers.quick import some_quick
from helpers.weights import SMALL, TAG, equal, fill, images, state_dict
from safetensors.numpy import load_file

from senet_jax import create_model, models
from senet_jax.errors import InputError
from senet_jax.inference import classifier
from senet_jax.weights import loading, saving, torch_names
from senet_jax.weights.image_spec import ImageSpec
from senet_jax.weights.timm import ALIKE, NETWORKS


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
    again, stored = create_model("seresnet18", pretrained=tmp_path)
    np.testing.assert_allclose(
        jax.jit(again.apply)(stored, images(64)),
        jax.jit(model.apply)(variables, images(64)),
        rtol=1e-5,
        atol=1e-5,
    )


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name, marks=pytest.mark.slow(reason="a deep network") if "20" not in name else ()
        )
        for name in ALIKE
    ],
)
def test_resnets_for_cifar_come_back_from_the_same_form_as_they_are(name, tmp_path):
    model = create_model(name, num_classes=3)
    assert saving.architecture_of(model.clone(dtype="bfloat16", dropout=0.5)) == name
    variables = fill(jax.eval_shape(model.init, jax.random.key(0), images(8)[..., :1]))
    grey = ImageSpec((1, 8, 8), 1.0, "bilinear", (0.3,), (0.4,))
    saving.save(tmp_path, model, variables, grey, ("cat", "dog", "emu"))
    again, stored = create_model(name, pretrained=tmp_path)
    assert again == model
    assert equal(stored, variables)
    network = classifier.load_classifier(str(tmp_path))
    assert network.preprocessing.image_shape == (8, 8, 1)
    assert network.class_names == ("cat", "dog", "emu")


def test_a_resnet_for_cifar_with_other_fields_has_no_form():
    with pytest.raises(InputError, match="timm has no network like this ResNet"):
        saving.architecture_of(create_model("seresnet20_cifar", se={"bias": True}))


@pytest.mark.parametrize(
    "name",
    some_quick([SMALL, "seresnet18", "legacy_seresnet34"], [SMALL, "seresnet18"], "is larger"),
)
def test_the_way_there_and_back_changes_no_bit(name, tmp_path):
    state = state_dict(name)
    weights = loading.from_tensors(name, state)
    saving.save(tmp_path, weights.model, weights.variables, weights.image_spec)
    written = load_file(tmp_path / "model.safetensors")
    counters = {key for key in written if key.endswith("num_batches_tracked")}
    assert len(counters) == sum(key.endswith("running_var") for key in state)
    assert all(written[key].dtype == np.int64 and written[key].shape == () for key in counters)
    assert written.keys() - counters == state.keys()
    for key, value in state.items():
        np.testing.assert_array_equal(written[key], value, err_msg=key)
    again = loading.load_pretrained(name, tmp_path)
    assert equal(again.variables, weights.variables)
    assert (again.model, again.image_spec) == (weights.model, weights.image_spec)


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
    assert weights.image_spec == ImageSpec(crop_pct=0.5, mean=(0.5,) * 3, num_classes=3)
    saving.save(tmp_path, weights.model, weights.variables, weights.image_spec)
    config = json.loads((tmp_path / "config.json").read_text())
    assert (config["architecture"], config["num_classes"]) == (SMALL, 3)
    assert config["num_features"] == 1024
    spec = config["pretrained_cfg"]
    assert (spec["first_conv"], spec["classifier"]) == ("conv_stem", "classifier")
    assert (spec["mean"], spec["num_classes"]) == ([0.5, 0.5, 0.5], 3)


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
