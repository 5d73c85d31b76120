"""Evaluation at another size than training, as in FixRes, is so wherever a run is asked."""

import numpy as np
import pytest
from helpers.photos import CROPS
from helpers.runs import photos_config

import senet_jax
from configs import imagenet
from senet_jax import data
from senet_jax.errors import InputError
from senet_jax.inference.classifier import load_classifier
from senet_jax.training.loop import train_and_evaluate
from senet_jax.training.prepare import prepare


def load(**fields):
    return data.load_dataset("photos", "whole", "whole", **CROPS | fields)


def test_images_are_those_of_a_dataset_of_that_size_in_evaluation_alone():
    mixed, large, small = load(eval_size=48), load(image_size=48), load()
    assert (mixed.train.image_shape, mixed.eval.image_shape) == ((32, 32, 3), (48, 48, 3))
    for ours, theirs in (
        (mixed.eval.eval_batches(20), large.eval.eval_batches(20)),
        (mixed.train.train_batches(20, 0), small.train.train_batches(20, 0)),
    ):
        np.testing.assert_array_equal(next(ours)["image"], next(theirs)["image"])


@pytest.mark.slow(reason="trains on photographs, and calls each command")
def test_all_commands_see_a_run_at_its_size(tmp_path, one_device):
    import helpers.photos  # noqa: F401  (registers the builder)

    config = photos_config()
    config.data.update(eval_size=48, repeats=2)
    config.train.epochs = 1.0
    result = train_and_evaluate(config, tmp_path / "run", one_device)
    evaluated = senet_jax.evaluate_runs(tmp_path / "run")
    assert evaluated["top1_error"] == pytest.approx(result["eval/top1_error"])
    assert evaluated["loss"] == pytest.approx(result["eval/loss"], rel=1e-5)
    assert load_classifier(str(tmp_path / "run")).preprocessing.image_shape == (48, 48, 3)


def test_a_size_that_is_too_small_for_the_network_is_refused(one_device):
    config = imagenet.get_config("sevgg16_bn,fake")
    config.data.update(image_size=64, eval_size=16)
    with pytest.raises(InputError, match=r"needs 32 pixels .* 16 x 16 pixels; set data.eval_size"):
        prepare(config, one_device)


def test_a_network_that_is_tied_to_its_size_is_refused_another(one_device):
    config = imagenet.get_config("seresnet18,fake")
    config.model.se.kind = "ge_theta_plus"
    config.data.update(image_size=64, eval_size=96)
    with pytest.raises(InputError, match=r"tied to the 64 x 64 pixels .* data\.eval_size must be"):
        prepare(config, one_device)
