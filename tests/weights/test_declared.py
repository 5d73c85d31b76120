"""What a config.json says of images and classes is what timm makes of it, or refused by its key."""

import copy
import dataclasses
import json

import pytest
from helpers.weights import SMALL, THREE, state_dict
from safetensors.numpy import save_file

from senet_jax.errors import InputError
from senet_jax.inference.classifier import load_classifier
from senet_jax.inference.preprocessing import Preprocessing
from senet_jax.training.start import data_fields
from senet_jax.weights import declared, loading
from senet_jax.weights.class_names import imagenet, names_of_classes
from senet_jax.weights.image_spec import ImageSpec
from senet_jax.weights.timm import architecture_in, image_spec_of

TIMM = {
    "architecture": SMALL,
    "num_classes": 3,
    "num_features": 1024,
    "global_pool": "avg",
    "model_args": {"drop_rate": 0.2},
    "label_names": ["n1", "n2", "n3"],
    "label_descriptions": {"n1": "cat", "n2": "dog", "n3": "sea"},
    "pretrained_cfg": {
        "tag": "ours",
        "custom_load": False,
        "input_size": [3, 40, 40],
        "test_input_size": [3, 48, 48],
        "fixed_input_size": False,
        "interpolation": "bilinear",
        "crop_pct": 0.8,
        "test_crop_pct": 1,
        "crop_mode": "center",
        "mean": [0.5, 0.4, 0.3],
        "std": [0.1, 0.2, 0.3],
        "num_classes": 1000,
        "label_offset": None,
        "pool_size": [7, 7],
        "first_conv": "conv_stem",
        "classifier": "classifier",
    },
}
SPEC = ImageSpec((3, 40, 40), 0.8, "bilinear", (0.5, 0.4, 0.3), (0.1, 0.2, 0.3), 3, (3, 48, 48), 1)
NAMES = ("cat", "dog", "sea")
# Keys that change neither pixels nor names.
WITHOUT_EFFECT = {"num_features", "tag", "custom_load", "fixed_input_size", "pool_size"}
WITHOUT_EFFECT |= {"first_conv", "classifier"}


def changed(key, value, content=TIMM):
    """The content with a key of it, wherever it stands first, replaced."""
    content = copy.deepcopy(content)
    place = content if key in content else content["pretrained_cfg"]
    place[key] = value
    return content


def read(content):
    """Everything that is read of a config.json for three classes."""
    content = json.loads(json.dumps(content))
    assert architecture_in(content) in (SMALL, None)
    return (
        image_spec_of(SMALL, content),
        names_of_classes(content, 3),
        declared.classes(content),
    )


def test_timms_form_is_read_and_so_is_its_older_one():
    assert read(TIMM) == (SPEC, NAMES, 3)
    flat = {key: value for key, value in TIMM.items() if key != "pretrained_cfg"}
    assert read(TIMM["pretrained_cfg"] | flat) == (SPEC, NAMES, 3)
    flat["labels"] = flat.pop("label_names")
    assert read(TIMM["pretrained_cfg"] | flat) == (SPEC, NAMES, 3)
    nested = copy.deepcopy(TIMM)
    nested["pretrained_cfg"] |= {
        key: nested.pop(key) for key in ("label_names", "label_descriptions", "num_classes")
    }
    assert read(nested) == (SPEC, NAMES, 3)


def test_what_is_not_said_is_timms_usual_and_where_nothing_is_said_that_of_the_tag():
    usual = ImageSpec(num_classes=3)
    assert image_spec_of(SMALL, {"num_classes": 3, "pretrained_cfg": {}}) == usual
    nulls = dict.fromkeys(TIMM["pretrained_cfg"])
    assert image_spec_of(SMALL, {"num_classes": 3, "pretrained_cfg": nulls}) == usual
    of_tag = image_spec_of(SMALL, {})
    assert of_tag.mean == (0.5,) * 3
    for content in ({"architecture": SMALL}, {"pretrained_cfg": None}, dict.fromkeys(TIMM)):
        assert image_spec_of(SMALL, content) == of_tag
        assert names_of_classes(content, 1000) == tuple(imagenet().values())
    assert image_spec_of(SMALL, {"crop_pct": 0.9}) == ImageSpec(crop_pct=0.9)


@pytest.mark.parametrize(
    ("key", "value", "field", "result"),
    [
        ("mean", 0.5, "mean", (0.5, 0.5, 0.5)),
        ("std", [0.25], "std", (0.25, 0.25, 0.25)),
        ("mean", [0, 0, 0], "mean", (0, 0, 0)),
        ("crop_pct", 1, "crop_pct", 1),
        ("crop_mode", "squash", "crop_mode", "squash"),
        ("crop_mode", None, "crop_mode", "center"),
        ("interpolation", None, "interpolation", "bicubic"),
        ("std", None, "std", (0.229, 0.224, 0.225)),
        ("input_size", None, "input_size", (3, 224, 224)),
        ("test_input_size", None, "test_input_size", None),
    ],
)
def test_what_timm_applies_is_applied(key, value, field, result):
    assert getattr(image_spec_of(SMALL, changed(key, value)), field) == result


def test_images_of_other_channels():
    grey = {"model_args": {"in_chans": 1}, "pretrained_cfg": {"mean": 0.5, "std": [0.2]}}
    assert image_spec_of(SMALL, grey) == ImageSpec((1, 224, 224), mean=(0.5,), std=(0.2,))
    with pytest.raises(InputError, match=r"mean must be a number per channel, which are 1 \(input"):
        image_spec_of(SMALL, {"model_args": {"in_chans": 1}})


NUMBER = "a number above 0 and at most 1"
SIZE = r"three whole numbers above 0 \(channels, height, width\)"


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("crop_pct", 1.1, f"crop_pct must be {NUMBER}, not 1.1"),
        ("crop_pct", "0.9", f"crop_pct must be {NUMBER}, not '0.9'"),
        ("crop_pct", float("nan"), f"crop_pct must be {NUMBER}, not nan"),
        ("crop_pct", 0, f"crop_pct must be {NUMBER}, not 0"),
        ("crop_pct", True, f"crop_pct must be {NUMBER}, not True"),
        ("test_crop_pct", [1], f"test_crop_pct must be {NUMBER}"),
        ("crop_mode", "random", "crop_mode must be center or squash or border, not 'random'"),
        ("input_size", [224, 224], f"input_size must be {SIZE}, not \\[224, 224\\]"),
        ("input_size", ["3", "224", "224"], f"input_size must be {SIZE}"),
        ("input_size", 224, f"input_size must be {SIZE}, not 224"),
        ("input_size", [3, 0, 224], f"input_size must be {SIZE}"),
        ("input_size", [3, 224.5, 224], f"input_size must be {SIZE}"),
        ("test_input_size", "288", f"test_input_size must be {SIZE}"),
        ("interpolation", "random", "interpolation must be bilinear or bicubic, not 'random'"),
        ("interpolation", "BICUBIC", "interpolation must be bilinear or bicubic"),
        (
            "mean",
            [0.5, 0.5],
            "mean must be a number per channel, which are 3 .input_size.",
        ),
        ("mean", "0.5", "mean must be a number from 0 to 1 per channel, not '0.5'"),
        ("mean", [0.5, None, 0.5], "mean must be a number from 0 to 1 per channel"),
        ("std", [0.1, 0, 0.1], "std must be a number above 0 and at most 1 per channel"),
        ("mean", [123.7, 116.3, 103.5], "mean must be a number from 0 to 1 per channel"),
        ("mean", [-0.1, 0.5, 0.5], "mean must be a number from 0 to 1 per channel"),
        ("std", [58.4, 57.1, 57.4], "std must be a number above 0 and at most 1 per channel"),
        ("std", [], "std must be a number above 0 and at most 1 per channel"),
        ("num_classes", "3", "num_classes must be a whole number from 0 on, not '3'"),
        ("num_classes", 3.0, "num_classes must be a whole number"),
        ("label_offset", 1, "label_offset must be 0"),
        ("global_pool", "max", "global_pool must be avg, not 'max'"),
        ("model_args", {"act_layer": "silu"}, "model_args has act_layer, which no network here"),
        ("model_args", [1], "model_args must be a table"),
        ("pretrained_cfg", [1], "pretrained_cfg must be a table, not \\[1\\]"),
        ("architecture", ["resnet50"], "architecture must be the name of a network in timm"),
        ("architecture", "resnet5O", "architecture: 'resnet5O' is not among timm's networks"),
        ("label_names", ["a", "b"], "label_names has 2 names and the classifier 3 classes"),
        ("label_names", "abc", "label_names must be a list or a table of the names of 3 classes"),
        ("label_names", [1, 2, 3], "label_names must be a list or a table"),
        ("label_names", {"3": "a"}, "label_names has a class '3', and the classifier 3 from 0"),
        ("label_names", {"a": "0"}, "label_names has a class 'a'"),
        ("label_names", {"1": "a", "01": "b"}, "label_names must be a list or a table"),
        ("label_names", {}, "label_names must be a list or a table"),
        ("label_descriptions", ["a"], "label_descriptions must be a table of texts"),
        ("label_descriptions", {"n1": 1}, "label_descriptions must be a table of texts"),
    ],
)
def test_what_cannot_be_applied_is_refused_by_its_key(key, value, sentence):
    with pytest.raises(InputError, match=f"config.json: {sentence}") as caught:
        read(changed(key, value))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("config_json", "names"),
    [
        ({"label_names": {"0": "a", "1": "b", "2": "c"}}, ("a", "b", "c")),
        ({"label_names": {"2": "c"}}, ("0", "1", "c")),  # timm allows gaps
        ({"id2label": {"0": "a", "1": "b", "2": "c"}, "label2id": {"a": 0}}, ("a", "b", "c")),
        ({"labels": ["a", "b", "c"]}, ("a", "b", "c")),
        ({"label_names": ["a", "b", "c"], "id2label": {"0": "LABEL_0"}}, ("a", "b", "c")),
        ({"label_names": ["a", "b", "c"], "label_descriptions": {"b": "B"}}, ("a", "B", "c")),
        ({"label_names": None, "id2label": None}, ("0", "1", "2")),
    ],
)
def test_names_of_classes_are_found_wherever_they_stand(config_json, names):
    assert names_of_classes(config_json, 3) == names


def test_two_values_of_one_key_are_refused():
    same = TIMM | {"crop_pct": 0.8, "mean": [0.5, 0.4, 0.3]}
    assert read(same) == (SPEC, NAMES, 3)
    with pytest.raises(InputError, match=r"crop_pct is 0.8 in pretrained_cfg and 0.9 beside"):
        read(TIMM | {"crop_pct": 0.9})


WRONG = [None, True, False, 0, -1, 7, 0.3, 1e308, "", "x", "3", [], [[]], [0.5], ["a"], {}]
WRONG += [[None] * 3, [1, 2, 3], [-1, 5, 5], ["0.5"] * 3, {"0": None}, {"a": 1}]
WRONG += [float("inf"), float("nan")]


def applied(key, value):
    """What is read where a value stands at a key and is no mistake."""
    if key in ("num_classes", "label_names", "label_descriptions", "pretrained_cfg"):
        usual = SPEC if key != "pretrained_cfg" else ImageSpec(num_classes=3)
        return usual, NAMES if key in ("num_classes", "pretrained_cfg") else ("n1", "n2", "n3")
    if key in ("mean", "std") and value is not None:
        numbers = value if isinstance(value, list) else [value]
        return dataclasses.replace(SPEC, **{key: tuple((numbers * 3)[:3])}), NAMES
    if key in ImageSpec.__dataclass_fields__:
        stated = tuple(value) if isinstance(value, list) else value
        stated = getattr(ImageSpec, key) if value is None else stated
        return dataclasses.replace(SPEC, **{key: stated}), NAMES
    return SPEC, NAMES


@pytest.mark.parametrize("key", [*TIMM, *TIMM["pretrained_cfg"], "labels", "id2label"])
def test_whatever_stands_at_a_key_is_applied_or_refused_by_it(key):
    """Null is what is not said."""
    refusals = 0
    for value in WRONG:
        content = changed(key, value)
        try:
            spec, names, classes = read(content)
        except InputError as error:
            sentence = str(error)
            refusals += key in sentence and "\n" not in sentence
            continue
        refusals += 1
        if key == "label_names":
            assert names == ("0", "1", "2") if value is None else tuple(value)
        elif (key, value) == ("pretrained_cfg", None):
            assert spec == image_spec_of(SMALL, {})  # that of the tag
        else:
            spec = dataclasses.replace(spec, num_classes=3)
            assert (spec, names) == applied(key, value), value
        assert classes == (value if key == "num_classes" and value is not None else 3) or (
            key == "num_classes"
        )
    assert refusals == len(WRONG)


def test_networks_are_loaded_as_config_json_says_or_not_at_all(tmp_path):
    save_file(state_dict(SMALL, **THREE), tmp_path / "model.safetensors")

    def load(content):
        (tmp_path / "config.json").write_text(json.dumps(content))
        return load_classifier(str(tmp_path))

    squash = load(changed("crop_mode", "squash"))
    assert squash.preprocessing == Preprocessing(
        (40, 40, 3), 0.8, "bilinear", (127.5, 102, 76.5), (25.5, 51, 76.5), "squash"
    )
    assert squash.class_names == NAMES
    with pytest.raises(InputError, match="images of crop_mode 'squash'; training and evaluation"):
        data_fields(image_spec_of(SMALL, changed("crop_mode", "squash")))
    for content, sentence in (
        (
            {"architecture": SMALL, "input_size": [4, 40, 40], "mean": 0.5, "std": 0.5},
            r"not for images of 40 x 40 x 4 \(height, width, channels\), which is the input_size",
        ),
        (TIMM | {"num_classes": 4}, r"has 3 classes, not the 4 that its config.json says"),
    ):
        with pytest.raises(InputError, match=sentence):
            load(content)
    (tmp_path / "config.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match="json cannot be read"):
        loading.load_pretrained(SMALL, tmp_path)


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        ({"id2label": {"0": "a", "1": "B", "2": "c"}}, "class 1 is 'b' and 'B'"),
        ({"id2label": {"2": "C"}}, "class 2 is 'c' and 'C'"),
        ({"labels": ["a", "c", "b"]}, "class 1 is 'b' and 'c'"),
        ({"pretrained_cfg": {"label_names": ["A", "b", "c"]}}, "class 0 is 'a' and 'A'"),
    ],
)
def test_names_that_are_said_twice_must_be_the_same(other, difference):
    with pytest.raises(InputError, match=f"name other classes: {difference}; leave one of them"):
        names_of_classes({"label_names": ["a", "b", "c"]} | other, 3)
    for key in other:
        same = {"label_names": ["a", "b", "c"]} if key == "pretrained_cfg" else ["a", "b", "c"]
        assert names_of_classes({"label_names": ["a", "b", "c"], key: same}, 3) == ("a", "b", "c")
