"""What stands in a list on the command line is used or refused, and never dropped."""

import pytest

from configs import cifar, common, digits, finetune, imagenet
from experiments.grid.plan import base_config
from experiments.run import parse_seeds
from experiments.studies import load_study
from senet_jax.errors import InputError


@pytest.mark.parametrize(
    ("file", "argument"),
    [
        (imagenet, "seresnet50,imagenet2012,ablation,sweep"),
        (cifar, "seresnet20,cifar100,ablation"),
        (digits, "seresnet20,cifar100"),
        (finetune, "food101,resnet50.a1_in1k,probe,fast"),
        (digits, "seresnet20,"),
    ],
)
def test_a_part_too_many_is_refused_by_name(file, argument):
    last = argument.rpartition(",")[2]
    with pytest.raises(ValueError, match=f"it has no part for '{last}'"):
        file.get_config(argument)


@pytest.mark.parametrize(
    ("argument", "parts"),
    [
        ("", ("a", "b", "c")),
        ("x", ("x", "b", "c")),
        ("x,y,z", ("x", "y", "z")),
        (" x , y ", ("x", "y", "c")),
        (",,z", ("a", "b", "z")),
        ("x, ,", ("x", "b", "c")),
    ],
)
def test_an_empty_part_is_its_default_and_spaces_do_not_count(argument, parts):
    assert common.split_argument(argument, one="a", two="b", three="c") == parts


@pytest.mark.parametrize("file", [imagenet, cifar, digits, finetune])
def test_an_empty_argument_is_that_of_the_default(file):
    assert file.get_config("").to_dict() == file.get_config().to_dict()


def test_a_dataset_with_a_part_too_many_is_a_sentence_of_the_study():
    study = load_study("cifar")
    sentence = r"configs/cifar\.py:\w+,cifar10,x: the argument is network,dataset; it has no part"
    with pytest.raises(InputError, match=sentence):
        base_config(study, study.rows[0], "cifar10,x", smoke=False)


def test_seeds_are_numbers_and_each_once():
    assert parse_seeds(["2", "0", "11"]) == (2, 0, 11)
    for texts, sentence in (
        ([], "not ''"),
        (["0", "", "2"], "not ''"),
        (["0", "-1"], "not '-1'"),
        (["1", "01"], "--seeds has 1 twice"),
    ):
        with pytest.raises(InputError, match=sentence):
            parse_seeds(texts)
