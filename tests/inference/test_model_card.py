"""What a card says of weights: the images of their error, its intervals, no path of the machine."""

import re
from types import SimpleNamespace

import pytest
from helpers.runs import tiny_config

from senet_jax.config import flatten
from senet_jax.evaluation import intervals
from senet_jax.inference import model_card
from senet_jax.inference.preprocessing import Preprocessing


@pytest.mark.parametrize(
    ("values", "result", "sentence"),
    [
        ({"data.fold": (2, 3), "data.train_split": "train"}, {}, "on split `train, fold 2 of 3`"),
        ({"data.fold": (1, 4, 9), "data.train_split": "a+b"}, {}, "split `a+b, fold 1 of 4`"),
        ({"data.classes": (3, 8)}, {}, "on split `test[:50], classes 3 to 7`"),
        (
            {"data.classes": (0.0, 0.5)},
            {},
            "on split `test[:50], classes from 0 to 50 % of their number`",
        ),
        ({"train.patience": 2}, {"planned_steps": 90}, "split said when to stop training, so"),
    ],
)
def test_an_error_is_of_the_images_that_it_was_measured_on(values, result, sentence):
    config = flatten(tiny_config().to_dict()) | values
    result = {"eval/top1_error": 20.0, "eval/examples": 360} | result
    origin = model_card.Origin("a network", config=config, result=result)
    assert sentence in model_card._error(origin)
    (stated,) = re.findall("split `(.*?)`", model_card._error(origin))
    assert stated == origin.measured_on


def test_the_error_of_averaged_weights_is_theirs_and_said_to_be():
    config = flatten(tiny_config().to_dict())
    result = {"eval/top1_error": 20.0, "eval_ema/top1_error": 15.0, "eval/examples": 360}
    said = {
        weights: model_card._error(
            model_card.Origin("a network", config=config, result=result, weights=weights)
        )
        for weights in ("final", "ema")
    }
    assert "Top-1 error 20.00 %" in said["final"]
    assert "averages" not in said["final"]
    assert "Top-1 error 15.00 %" in said["ema"]
    assert "The weights are averages over steps of the run" in said["ema"]


@pytest.mark.parametrize(
    ("errors", "interval"),
    [
        ((1.0, 3.0), "95 % t interval: 0.00 to 14.71 %"),
        ((90.0, 97.0), "95 % t interval: 49.03 to 100.00 %"),
        ((7.0, 7.0, 7.0), "all alike, which gives no interval"),
    ],
)
def test_an_interval_over_seeds_is_of_errors_that_there_can_be(errors, interval):
    config = flatten(tiny_config().to_dict())
    result = {"eval/top1_error": errors[0], "eval/examples": 360}
    origin = model_card.Origin("a network", config=config, result=result, seeds=errors)
    assert model_card._error(origin).endswith(f"% ({interval}).")


def test_published_weights_have_their_licence_and_claim_no_error():
    origin = model_card.origin_of("timm/seresnet50.ra2_in1k", "final")
    assert (origin.name, origin.licence, origin.error) == (
        "seresnet50.ra2_in1k",
        "apache-2.0",
        None,
    )
    assert model_card.origin_of("resnet18.fb_swsl_ig1b_ft_in1k", "final").licence == "cc-by-nc-4.0"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("cifar100", "cifar100"),
        ("folder:/home/somebody/pets", "folder:pets"),
        ("csv:../lists/all.csv", "csv:all.csv"),
        ("hf:org/name:plain", "hf:org/name:plain"),
        ("runs/a/seed0", "runs/a/seed0"),
        ("/scratch/runs/a", "a"),
        ("csv:/home/somebody/a:b.csv", "csv:a:b.csv"),
        ("folder:/home/somebody/2026:pets", "folder:2026:pets"),
        ("hf:/home/somebody/a:b", "hf:a:b"),
        ("/scratch/a:b", "a:b"),
        ("hf-hub:timm/seresnet50.ra2_in1k", "hf-hub:timm/seresnet50.ra2_in1k"),
        ("huggingface:cats/dogs:1.0.0", "huggingface:cats/dogs:1.0.0"),
        ("train[:90%]", "train[:90%]"),
        (3, 3),
    ],
)
def test_no_path_of_the_machine_gets_into_a_card(value, shown):
    assert model_card.public(value) == shown


def test_a_name_is_text_and_no_markup():
    """A dataset is called as its folder is, and a browser would read `<b>` as bold from here on."""
    shown = SimpleNamespace(image_shape=(8, 8, 3), eval_crop=1.0, crop_mode="center")
    shown.interpolation = "bilinear"
    network = SimpleNamespace(model=None, preprocessing=shown, class_names=("a", "b"))
    card = model_card.readme(network, model_card.Origin("x trained on <b> & c"), (), "")
    _, _, text = card.decode().split("---\n", 2)
    assert "# x trained on &lt;b&gt; &amp; c\n" in text
    assert "<b>" not in text


@pytest.mark.parametrize("kind", ["", "tfds:"])
def test_a_prepared_dataset_keeps_its_name_and_not_its_version_alone(kind, tmp_path):
    (tmp_path / "dataset_info.json").write_text('{"name": "cifar100"}')
    assert model_card.public(f"{kind}{tmp_path}") == "cifar100"


@pytest.mark.parametrize(
    ("data", "measured_at"),
    [
        ({"image_size": 224, "eval_size": 0, "eval_crop": 0.875}, ([224, 224], 0.875)),
        ({"image_size": 160, "eval_size": 224, "eval_crop": 0.95}, ([224, 224], 0.95)),
        ({"image_size": 0, "eval_size": 0, "eval_crop": 0.875}, ([24, 32], 1.0)),
    ],
)
def test_an_error_was_measured_as_the_run_is_evaluated(data, measured_at):
    config = {f"data.{key}": value for key, value in data.items()}
    origin = model_card.Origin("x", config=config, result={"image_shape": [24, 32, 3]})
    assert origin.measured_at == measured_at
    shape = (data["image_size"], data["image_size"], 3) if data["image_size"] else (24, 32, 3)
    shown = Preprocessing.of_run(
        data | {"interpolation": "bilinear"}, shape, (0.0,) * 3, (1.0,) * 3
    )
    assert measured_at == ([*shown.image_shape[:2]], shown.eval_crop)


@pytest.mark.parametrize(
    ("errors", "examples", "ends"),
    [(0, 10, (0.0, 27.753)), (10, 100, (5.523, 17.437)), (10, 10, (72.247, 100.0))],
)
def test_intervals_of_test_images_are_wilsons(errors, examples, ends):
    """Against the table of Newcombe 1998 (method 3), in per cent."""
    assert intervals.wilson(errors, examples) == pytest.approx(ends, abs=0.001)


@pytest.mark.parametrize(("shape", "offered"), [((32, 32, 3), True), ((20, 28, 3), False)])
def test_weights_for_images_that_are_not_square_are_not_offered_to_what_refuses_them(
    shape, offered
):
    network = SimpleNamespace(preprocessing=SimpleNamespace(image_shape=shape))
    ways = "\n".join(model_card._ways(network, ["model.safetensors", "model.stablehlo"], "x", ""))
    assert ("load_classifier" in ways) == offered
    assert "timm.create_model" in ways
    assert "jax.export" in ways
