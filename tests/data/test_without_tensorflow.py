"""What was in memory once is there again without TensorFlow, the same to the bit."""

import shutil
import subprocess
import sys
from pathlib import Path

import helpers.squares
import numpy as np
import pytest
import tensorflow_datasets as tfds
from helpers.runs import tiny_config
from hypothesis import given
from hypothesis import strategies as st

from experiments import run
from senet_jax import data
from senet_jax.data.sources import tfds_builder, tfds_description
from senet_jax.errors import InputError
from senet_jax.training.loop import train_and_evaluate

ROOT = Path(__file__).parents[2]
CUTS = ["", "[:50%]", "[20:60]", "[-33%:]", "[1shard:3shard]", "[13:]"]


@pytest.fixture(autouse=True, scope="module")
def prepared():
    helpers.squares.prepare()


def block(monkeypatch):
    """Let nothing import TensorFlow or TFDS."""
    for name in ("tensorflow", "tensorflow_datasets"):
        monkeypatch.setitem(sys.modules, name, None)


def load(train="train", test="test", **options):
    return data.load_dataset("squares", train, test, **options)


def read_by_tfds(split):
    """Images and labels of a split as TFDS itself reads and decodes them."""
    whole = tfds.load("squares", split=split, batch_size=-1, as_supervised=True)
    return tfds.as_numpy(whole)


@pytest.mark.parametrize("terms", [["train"], ["test", "train"]])
@pytest.mark.parametrize("cut", CUTS)
def test_examples_are_those_of_tfds_in_its_order(terms, cut):
    split = "+".join(name + cut for name in terms)
    images, labels = read_by_tfds(split)
    for _ in range(2):  # as it is read and kept, and as it is then
        ours, names = data.load_split("squares", split)
        np.testing.assert_array_equal(np.asarray(ours.image), images)
        np.testing.assert_array_equal(ours.label, labels)
        assert names == ("a", "b", "c", "d")


def test_labels_that_are_numbers_are_kept_too(monkeypatch):
    first = load("train[:50%]+test[:3]", label="number")
    block(monkeypatch)
    again = load("train[:50%]+test[:3]", label="number")
    assert again.class_names == first.class_names == tuple(map(str, range(7)))
    np.testing.assert_array_equal(again.train.label, first.train.label)


def tiny():
    config = tiny_config()
    config.data.name = "squares"
    config.data.eval_split = "test"
    return config


def test_a_run_is_the_same_without_tensorflow(tmp_path, monkeypatch):
    before = train_and_evaluate(tiny(), tmp_path / "with")
    block(monkeypatch)
    after = train_and_evaluate(tiny(), tmp_path / "without")
    assert after["params_sha256"] == before["params_sha256"]
    assert after["eval/right"] == before["eval/right"]
    with pytest.raises(InputError, match="no examples in split 'trian'; its splits are"):
        load("trian")
    with pytest.raises(InputError, match=r"data.label 'lable' is no label.*did you mean 'label'"):
        load(label="lable")
    with pytest.raises(InputError, match=r"read by tensorflow .* cannot be imported"):
        data.load_dataset("cifar10", "train", "test")


@given(
    terms=st.lists(st.tuples(st.sampled_from(["train", "test"]), st.integers(0, 99)), min_size=1)
)
def test_expressions_count_the_same_without_tensorflow(terms):
    load()
    split = "+".join(f"{name}[{percent}%:]" for name, percent in terms[:3])
    known = tfds_description.find("squares")
    infos = tfds_builder.builder_of("squares").info.splits
    parts = tfds.core.ReadInstruction.from_spec(split).to_absolute(infos)
    sizes = {name: sum(files) for name, files in known.splits.items()}
    expected = sum((sizes[p.splitname] if p.to is None else p.to) - (p.from_ or 0) for p in parts)
    assert len(data.load_split("squares", split)[0]) == expected


def test_a_dataset_prepared_anew_is_read_anew(monkeypatch):
    before = np.asarray(load().train.image)
    square = helpers.squares.square
    with monkeypatch.context() as changed:
        changed.setattr(helpers.squares, "square", lambda index: 255 - square(index))
        builder = tfds.builder("squares")
        shutil.rmtree(builder.data_path)
        helpers.squares.prepare()
    after = np.asarray(load().train.image)
    np.testing.assert_array_equal(after, 255 - before)
    shutil.rmtree(builder.data_path)
    helpers.squares.prepare()
    np.testing.assert_array_equal(np.asarray(load().train.image), before)


@pytest.mark.slow(reason="imports TensorFlow in a process of its own")
def test_tensorflow_comes_without_keras_which_can_be_imported_afterwards():
    """Keras is two fifths of the time that a process waits for TensorFlow."""
    code = (
        "import importlib.util, sys; from senet_jax.data.sources import tfds_builder\n"
        "tfds_builder.import_tfds()\n"
        "assert {'tensorflow', 'keras'} & set(sys.modules) == {'tensorflow'}\n"
        "assert importlib.util.find_spec('keras')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True)
    assert done.returncode == 0, done.stderr


class Asked:
    """A finder of modules that finds none, and keeps the names of TensorFlow's that it is asked."""

    def __init__(self):
        self.names = []

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tensorflow", "tensorflow_datasets"):
            self.names.append(name)


def test_a_study_of_what_is_kept_imports_no_tensorflow(tmp_path, monkeypatch):
    """Neither its plan, its runs nor its report, not even to see whether it is there."""
    load()
    config = tmp_path / "squares.py"
    config.write_text(
        "from helpers.runs import tiny_config\n"
        "def get_config():\n"
        "    config = tiny_config()\n"
        "    config.data.update(name='squares', eval_split='test')\n"
        "    config.train.epochs = 1.0\n"
        "    return config\n"
    )
    asked = Asked()
    for name in ("tensorflow", "tensorflow_datasets"):  # as in a process that has not imported them
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "meta_path", [asked, *sys.meta_path])
    flags = (f"--config={config}", "--sweep=model.se.ratio=2", "--seeds=0", "--jobs=1")
    run.main(["run", *flags, f"--workdir={tmp_path / 'runs'}"])
    assert asked.names == []
    assert len(list(tmp_path.glob("runs/*/seed0/result.json"))) == 1
