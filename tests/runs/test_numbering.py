"""Classes that have numbers for names, which two tables of the same images give otherwise."""

import jax
import pytest
from helpers.image_folders import CLASSES, examples, write_folder
from helpers.runs import finish_untrained, tiny_config

from senet_jax.inference.ensemble_members import load_members
from senet_jax.runs.numbering import differs
from senet_jax.training.prepare import prepare

SAID = "the same files"
NUMBERINGS = {"ours": (0, 1, 2), "other": (1, 2, 0)}


def table_config(folder, numbers):
    path = folder / f"{'-'.join(map(str, numbers))}.csv"
    lines = [f"{key},{numbers[label]}" for key, label, _ in examples()]
    path.write_text("\n".join(("file,label", *lines)))
    config = tiny_config()
    config.data.update(name=f"csv:{path}", train_split="train", eval_split="test")
    return config


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def runs(folder, tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    for name, numbers in NUMBERINGS.items():
        finish_untrained(root / name, table_config(folder, numbers), recorded=True)
    return root


@pytest.mark.parametrize(("names", "said"), [(("ours", "other"), True), (("ours", "ours"), False)])
def test_an_ensemble_says_so(runs, names, said, capsys):
    load_members([runs / name for name in names], "final", unfinished=False)
    assert (SAID in capsys.readouterr().err) == said


@pytest.mark.parametrize("key", ["model.pretrained", "train.teacher"])
@pytest.mark.parametrize(("name", "said"), [("other", True), ("ours", False)])
def test_what_a_run_starts_or_learns_from_says_so(runs, folder, key, name, said, caplog):
    config = table_config(folder, NUMBERINGS["ours"])
    section, field = key.split(".")
    config[section][field] = str(runs / name)
    prepare(config, jax.local_devices()[:1])
    assert (SAID in caplog.text) == said


def records(names=("0", "1"), files=("a", "b"), labels=("x", "y")):
    return {"class_names": [*names], "files": [*files], "labels": [*labels]}


@pytest.mark.parametrize(
    ("theirs", "expected"),
    [
        (records(labels=("x", "z")), True),
        (records(labels=("z", "y")), True),
        (records(), False),
        (records(files=("c", "d"), labels=("z", "z")), False),  # other images
        (records(files=("c", "b"), labels=("z", "z")), True),
        ({}, False),  # of an earlier version
    ],
)
def test_it_takes_the_same_files_and_other_labels(theirs, expected):
    assert differs(records(), theirs) is expected
    assert not differs(records(CLASSES[:2]), theirs)  # names say what they mean
