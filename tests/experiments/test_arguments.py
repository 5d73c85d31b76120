"""What stands in a list on the command line is used or refused, and never dropped."""

import pytest
from absl import flags
from helpers.studies import datasets_of

from configs import cifar, common, digits, finetune, imagenet
from experiments.grid.plan import base_config, row_config
from experiments.run import override, parse_seeds
from experiments.studies import load_studies, load_study
from senet_jax.config import flatten
from senet_jax.errors import InputError
from senet_jax.system import cli


@pytest.mark.parametrize(
    ("file", "argument"),
    [
        (imagenet, "seresnet50,imagenet2012,ablation,sweep"),
        (cifar, "seresnet20,cifar100,paper,ablation"),
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


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("--config.data.name=cifar100", "another dataset than the table names.*--dataset=NAME"),
        ("--config.seed=3", "what the study varies"),
    ],
)
def test_the_dataset_and_the_seed_of_a_study_have_flags_of_their_own(argument, sentence):
    study = load_study("reduction")
    bases = [base_config(study, row, "digits", smoke=True) for row in study.rows]
    with pytest.raises(InputError, match=sentence):
        override(bases, [argument], study, [])


@pytest.mark.parametrize("second", ["--config.model.se.stages=(4,)", "-config.model.se.stages=3"])
@pytest.mark.parametrize("between", [[], ["--config.seed=1"]])
def test_a_tuple_that_is_given_twice_is_refused_and_not_joined(between, second):
    """ml_collections would train stages 2, 3 and 4: a file of flags, say, and a flag after it."""
    arguments = ["--config.model.se.stages=(2,)", *between, second]
    with pytest.raises(InputError, match=r"--config.model.se.stages is given twice; give all"):
        cli.with_flags(digits.get_config(), arguments)


def test_of_other_values_the_last_counts():
    arguments = ["--config.seed=1", "--config.model.se.stages=2,3", "--config.seed=2"]
    config = cli.with_flags(digits.get_config(), arguments)
    assert (config.seed, config.model.se.stages) == (2, (2, 3))


@pytest.mark.parametrize(
    ("arguments", "counts"),
    [
        (["--model=a", "--model=b"], "--model is given twice; the last counts, --model=b\n"),
        (["--model", "a", "-model=a"], "--model is given twice; the last counts, --model=a\n"),
        (["--kinds=fog", "--kinds=snow"], "--kinds is given twice; the last counts, --kinds=snow"),
        (["--report", "--noreport"], "--report is given twice; the last counts, --noreport\n"),
        (["--model=a", "--workdir=a", "--workdir=b", "--kinds=a,b"], ""),
    ],
)
def test_of_a_flag_that_is_given_twice_it_is_said_which_counts(arguments, counts, capsys):
    values = flags.FlagValues()
    flags.DEFINE_string("model", None, "", flag_values=values)
    flags.DEFINE_list("kinds", [], "", flag_values=values)
    flags.DEFINE_bool("report", False, "", flag_values=values)
    flags.DEFINE_multi_string("workdir", [], "", flag_values=values)
    cli.parse_flags(["command", *arguments], values)
    said = capsys.readouterr().err
    assert said.startswith(counts)
    assert bool(said) == bool(counts)


def test_a_dataset_with_a_part_too_many_is_a_sentence_of_the_study():
    study = load_study("cifar")
    sentence = r"configs/cifar\.py:\w+,cifar10,x: the recipe is paper or modern, not 'x'"
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


@pytest.mark.parametrize(
    ("dataset", "name", "is_mirrored"),
    [
        ("cifar10", "cifar10", True),
        ("cifar100:3.*.*", "cifar100", True),
        ("fashion_mnist", "fashion_mnist", True),
        ("FashionMNIST:3.0.1", "fashion_mnist", True),
        ("imagenette/320px-v2:1.0.0", "imagenette", True),
        ("pneumonia_mnist", "pneumonia_mnist", True),
        ("visual_domain_decathlon/aircraft", "visual_domain_decathlon", True),
        ("fake", "fake", True),
        ("digits", "digits", False),
        ("digits:1.0.0", "digits", False),
        (" digits ", "digits", False),
        ("mnist", "mnist", False),
        ("MNIST", "mnist", False),
        ("mnist/data_dir=x", "mnist", False),
        ("huggingface:mnist", "mnist", False),
        ("MNISTCorrupted/spatter", "mnist_corrupted", False),
        ("emnist/letters:3.0.0", "emnist", False),
        ("kmnist", "kmnist", False),
        ("SvhnCropped", "svhn_cropped", False),
        ("cmaterdb/telugu", "cmaterdb", False),
        ("omniglot:3.0.0", "omniglot", False),
        ("binary_alpha_digits", "binary_alpha_digits", False),
        ("visual_domain_decathlon/gtsrb:1.2.0", "visual_domain_decathlon", False),
        ("no name", "no name", True),
    ],
)
def test_every_recipe_mirrors_what_a_mirror_leaves_in_its_class(dataset, name, is_mirrored):
    """By the name alone: whatever version, config or spelling comes with it."""
    assert common.bare_name(dataset) == name
    for file, argument in ((imagenet, f"resnet50,{dataset}"), (finetune, dataset)):
        assert file.get_config(argument).data.flip is is_mirrored
    assert cifar.get_config(f"resnet20,{dataset}").data.flip is is_mirrored


def test_a_prepared_folder_has_the_recipe_of_its_dataset(tmp_path):
    folder = tmp_path / "somewhere" / "1.0.0"
    folder.mkdir(parents=True)
    assert common.bare_name(str(folder)) == str(folder)
    (folder / "dataset_info.json").write_text('{"name": "mnist", "version": "1.0.0"}')
    assert common.bare_name(str(folder)) == "mnist"
    assert not common.mirrors(str(folder))
    (folder / "dataset_info.json").write_text("[]")  # whoever loads it says that it is damaged
    assert common.mirrors(str(folder))


@pytest.mark.parametrize("name", imagenet.VALIDATED)
def test_a_version_changes_no_recipe(name):
    for file, argument in ((imagenet, "resnet50,{}"), (finetune, "{}"), (cifar, "resnet20,{}")):
        configs = [file.get_config(argument.format(name + end)) for end in ("", ":1.2.3")]
        for config in configs:
            del config.data["name"]
        assert configs[0].to_dict() == configs[1].to_dict()


@pytest.mark.parametrize("study", load_studies(), ids=lambda study: study.name)
def test_a_version_changes_nothing_of_a_study(study):
    for dataset in datasets_of(study):
        for row in study.rows:
            configs = [
                row_config(row, base_config(study, row, dataset + end, smoke=False))
                for end in ("", ":1.0.0")
            ]
            assert [config.data.name for config in configs] == [dataset, f"{dataset}:1.0.0"]
            configs[1].data.name = dataset
            assert configs[0].to_dict() == configs[1].to_dict()
            for key in row.paper:
                assert row.printed(key, dataset) == row.printed(key, f"{dataset}:1.0.0")
        assert study.paper_name_of(dataset) == study.paper_name_of(f"{dataset}:1.0.0")


@pytest.mark.parametrize("network", ["seresnet20", "wrn16_8"])
@pytest.mark.parametrize("variant", sorted(common.VARIANTS))
def test_a_variant_is_a_dataset_with_other_splits_and_one_recipe(variant, network):
    config = cifar.get_config(f"{network},{variant}")
    flat = config.to_dict()
    assert common.dataset_of(flatten(flat)) == variant
    assert flat["data"]["name"] == variant.removesuffix("_half")
    # Every image is trained on or evaluated on, and none both.
    train, *evaluation = (config.data.train_split, *config.data.eval_split.split("+"))
    assert (train, evaluation) == ("train[:50%]", ["train[50%:]", "test"])
    assert config.train.eval_every_epochs == config.train.epochs
    assert {key: flatten(flat)[key] for key in cifar.HALF} == cifar.HALF
    config.data.name += ":3.0.2"
    assert common.dataset_of(flatten(config.to_dict())) == variant
    assert common.dataset_of(flatten(cifar.get_config(f"{network},cifar10").to_dict())) == "cifar10"


@pytest.mark.parametrize("smoke", [True, False])
def test_a_study_on_a_variant_keeps_its_splits(smoke):
    study = load_study("reduction")
    for row in study.rows:
        config = base_config(study, row, "cifar100_half", smoke=smoke)
        splits = ("train[:80]", "test[:50]") if smoke else ("train[:50%]", "train[50%:]+test")
        assert (config.data.name, config.data.train_split, config.data.eval_split) == (
            "cifar100",
            *splits,
        )
