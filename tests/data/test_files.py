"""Folders, tables and datasets of Hugging Face: the same images by all roads, bad ones survived."""

import csv
import io
import os
import shutil
import sys
import unicodedata

import numpy as np
import pytest
import tensorflow_datasets as tfds
from helpers.image_folders import CLASSES, COUNT, by_key, by_row, write_folder, write_table
from helpers.photos import CROPS
from helpers.quick import some_quick
from helpers.runs import tiny_config
from PIL import Image

from configs import common
from experiments import studies
from experiments.grid import plan
from senet_jax import data
from senet_jax.data.sources import files, folder, lookup, names
from senet_jax.errors import InputError
from senet_jax.training.loop import train_and_evaluate


class Elks(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 3)),
                    "label": tfds.features.ClassLabel(names=[*CLASSES]),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(found) for split, found in by_key().items()}

    def _generate_examples(self, found):
        for key, label, content in found:
            yield key, {"image": io.BytesIO(content), "label": label}


def write_hub(root):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=[*CLASSES])}
    )
    splits = {
        split: datasets.Dataset.from_dict(
            {
                "image": [{"bytes": content, "path": None} for *_, content in rows],
                "label": [label for _, label, _ in rows],
            },
            features=features,
        )
        for split, rows in by_row().items()
    }
    datasets.DatasetDict(splits).save_to_disk(str(root / "hub"))
    return root / "hub"


@pytest.fixture(scope="module")
def elks(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("elks"))


def road(kind, elks, tmp_path):
    """The name of the same dataset by one of the roads."""
    if kind == "elks":
        return kind
    if kind == "folder":
        return f"folder:{elks}"
    if kind == "hf":
        return f"hf:{write_hub(tmp_path)}"
    if kind == "tfds":
        builder = tfds.builder("elks")
        builder.download_and_prepare()
        return f"tfds:{builder.data_path}"
    if kind == ".parquet":
        pytest.importorskip("pyarrow")
    return f"csv:{write_table(elks, kind)}"


@pytest.fixture(scope="module")
def by_tfds(tmp_path_factory):
    """The result of a run by TFDS, which the other roads are held against."""
    return train(tmp_path_factory.mktemp("run"), "elks")


def train(directory, name):
    config = tiny_config()
    config.data.update(name=name, train_split="train", eval_split="test")
    config.train.epochs = 1.0
    return train_and_evaluate(config, directory)


@pytest.mark.parametrize(
    "kind",
    some_quick(
        ["tfds", "folder", ".csv", ".tsv", ".parquet", "hf"], ["folder", "hf"], "trains once more"
    ),
)
def test_a_run_ends_with_the_same_weights_by_every_road(kind, elks, by_tfds, tmp_path):
    result = train(tmp_path / "run", road(kind, elks, tmp_path))
    for key in ("params_sha256", "eval/right", "class_names", "mean", "std"):
        assert result[key] == by_tfds[key], key


def test_files_need_no_tensorflow(elks, monkeypatch, tmp_path):
    for name in ("tensorflow", "tensorflow_datasets"):
        monkeypatch.setitem(sys.modules, name, None)
    crops = {**CROPS, "image_size": 8}
    for kind in ("folder", ".csv"):
        for options in ({}, crops):
            dataset = data.load_dataset(road(kind, elks, tmp_path), "train", "test", **options)
            assert next(dataset.train.train_batches(4, seed=0))["image"].shape == (4, 8, 8, 3)


@pytest.mark.parametrize("place", ["with space", "a,b", "é/ü", "x=1;y", "{a}", "#%"])
def test_a_study_takes_odd_paths(place, tmp_path, monkeypatch):
    root = write_folder(tmp_path / place)
    monkeypatch.chdir(tmp_path)
    study = studies.load_study("reduction")
    for name in (f"folder:{root}", f"folder:{place}"):
        config = plan.base_config(study, study.rows[0], name, smoke=True)
        assert plan.row_config(study.rows[0], config).data.name == f"folder:{root}"
        # Of fewer images than a study in miniature has there are all.
        assert data.load_split(config.data.name, config.data.train_split)
        assert data.load_split(config.data.name, config.data.eval_split)
        assert plan.folder_of(names.absolute(name)).count("/") == 0
    assert common.bare_name("folder:cifar10") == "folder:cifar10"
    assert common.bare_name("hf:org/mnist") == "hf:org/mnist"


def test_a_run_finds_its_images_from_another_directory(elks, tmp_path, monkeypatch):
    monkeypatch.chdir(elks.parent)
    first = train(tmp_path / "run", f"folder:{elks.name}")
    monkeypatch.chdir(tmp_path)
    shutil.copytree("run", "copy")
    from senet_jax import load_run

    assert load_run("copy").result == first


@pytest.mark.parametrize("kind", ["folder", ".csv", "elks"])
def test_streamed_images_are_the_same_whatever_the_road(kind, elks, tmp_path):
    crops = {**CROPS, "image_size": 8, "eval_crop": 1.0}
    streamed = data.load_dataset(road(kind, elks, tmp_path), "train", "test", **crops)
    kept = data.load_dataset(f"folder:{elks}", "train", "test")
    for one, other in zip(streamed.eval.eval_batches(7), kept.eval.eval_batches(7), strict=True):
        for key, values in one.items():
            np.testing.assert_array_equal(values, other[key], key)


def test_unreadable_images_in_memory_are_named_and_survived(elks, tmp_path, caplog):
    root = shutil.copytree(elks, tmp_path / "elks")
    broken = root / "cat" / "3.png"
    broken.write_bytes(broken.read_bytes()[:60])
    Image.new("RGB", (9, 8)).save(root / "dog" / "5.png")  # of another size than the others
    with pytest.raises(InputError, match="only datasets whose images all have one size"):
        data.load_split(f"folder:{root}", "train")
    (root / "dog" / "5.png").unlink()
    crops = {**CROPS, "image_size": 0}
    for _ in range(2):
        caplog.clear()
        split, _ = data.load_split(f"folder:{root}", "train+test", **crops)
        assert f"{broken} " in caplog.text
        batches = list(split.eval_batches(16))
        assert sum(batch["mask"].sum() for batch in batches) == len(split) - 1 == 3 * COUNT - 2
    with pytest.raises(InputError, match=r"1 image of .* data.max_unreadable is 0"):
        data.load_split(f"folder:{root}", "train+test", **{**crops, "max_unreadable": 0})


def test_grey_files_have_one_channel_in_memory(tmp_path):
    for index in range(30):
        place = tmp_path / "ab"[index % 2] / f"{index}.png"
        place.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 8), index, np.uint8)).save(place)
    split, _ = data.load_split(f"folder:{tmp_path}", "all")
    assert split.image_shape == (8, 8, 1)
    assert sorted(np.asarray(split.image)[:, 0, 0, 0]) == list(range(30))


def test_a_stable_split_does_not_move_when_images_are_added(elks, tmp_path):
    def in_test(root):
        found = folder.find("x", str(root)).examples["test"].files
        return {os.path.relpath(file, root) for file in found}

    root = shutil.copytree(elks, tmp_path / "more")
    for number in range(100, 130):
        shutil.copy(root / "cat" / "0.png", root / "cat" / f"{number}.png")
    before, after = in_test(elks), in_test(root)
    assert before == {name for name in after if (elks / name).exists()}
    assert 0.1 < len(before) / (3 * COUNT) < 0.3


def test_slices_are_fair_samples_of_the_classes(elks):
    half, _ = data.load_split(f"folder:{elks}", "train[:50%]")
    assert min(np.bincount(half.label, minlength=3)) > 8


def test_classes_of_numbers_and_of_text():
    assert files.classes_of("x", ["1", "0", "2"]) == (("0", "1", "2"), [1, 0, 2])
    assert files.classes_of("x", [2, 0, 2]) == (("0", "1", "2"), [2, 0, 2])
    assert files.classes_of("x", ["b", "a ", "10"]) == (("10", "a", "b"), [2, 1, 0])
    decomposed = unicodedata.normalize("NFD", "élan")
    assert files.classes_of("x", [decomposed, "a"])[0][1] == "élan"
    assert files.classes_of("x", ["01", "00", "01.0"]) == (("0", "1"), [1, 0, 1])
    with pytest.raises(InputError, match=r"form of their letters .* .'e.u0301', '.xe9'."):
        files.classes_of("x", ["é", unicodedata.normalize("NFD", "é")])


@pytest.mark.parametrize("codes", [["007", "07", "0"], ["7", "07", "0"], [7, "07", 0], ["-0", "0"]])
def test_texts_that_are_one_number_and_may_be_two_codes_are_refused(codes):
    with pytest.raises(InputError, match=f"'{codes[0]}' and '{codes[1]}', which are one number"):
        files.classes_of("x", codes)


def test_a_table_says_its_columns_and_splits(elks):
    path = elks / "own.csv"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(("Picture", "kind", "number", "Split"))
        for index, (key, *_) in enumerate(by_key()["train"]):
            writer.writerow((key, "xy"[index % 2], index % 3, ("Train", "validation")[index % 2]))
    chosen = {"image": "Picture", "label": "number"}
    dataset = data.load_dataset(f"csv:{path}", "train", "test", **chosen)
    assert dataset.class_names == ("0", "1", "2")
    assert abs(len(dataset.train) - len(dataset.eval)) <= 1
    with pytest.raises(InputError, match=r"no image column; its columns are 'Picture'.*data.image"):
        data.load_dataset(f"csv:{path}", "train", "test")
    with pytest.raises(InputError, match=r"'knid' is no column .*; did you mean 'kind'"):
        data.load_dataset(f"csv:{path}", "train", "test", image="Picture", label="knid")


@pytest.mark.parametrize("name", ["cifar10", "fake", "hf:org/name:config", "tfds:gs://b/x", "a:b"])
def test_names_without_a_path_stay_as_they_are(name):
    assert names.absolute(name) == name


def test_names_with_a_path_are_made_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/x")
    assert names.absolute("folder:a/../b c") == f"folder:{tmp_path}/b c"
    assert names.absolute("csv:~/é.csv") == "csv:/home/x/é.csv"
    assert lookup.is_same("folder:b", f"folder:{tmp_path}/b/")
    assert not lookup.is_same("folder:b", "folder:c")


@pytest.mark.parametrize("kind", ["folder", "csv", "hf"])
def test_images_replaced_with_equal_sizes_and_times_are_read_anew(kind, tmp_path):
    """As archives and copies leave them: `tar`, `unzip`, `cp -p` and `rsync -t` set the times."""
    paths, name = [], {"folder": tmp_path, "csv": tmp_path / "t.csv", "hf": tmp_path / "hub"}[kind]
    for number in range(40):
        paths.append(path := tmp_path / "ab"[number % 2] / f"{number}.bmp")
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((4, 4, 3), number, np.uint8)).save(path)
    if kind == "csv":
        name.write_text("\n".join(["file,label", *(f"{p},{p.parent.name}" for p in paths)]))
    elif kind == "hf":
        pq = pytest.importorskip("pyarrow.parquet")
        rows = [{"image": {"bytes": None, "path": str(p)}, "label": p.parent.name} for p in paths]
        name.mkdir()
        pq.write_table(pytest.importorskip("pyarrow").Table.from_pylist(rows), name / "x.parquet")

    def levels():
        split, _ = data.load_split(f"{kind}:{name}", "train")
        return np.asarray(split.image)[:, 0, 0, 0]

    before = levels()
    for path in paths:
        times = path.stat().st_atime_ns, path.stat().st_mtime_ns
        content = np.asarray(Image.open(path))
        Image.fromarray(content + 100).save(path)
        os.utime(path, ns=times)
    np.testing.assert_array_equal(levels(), before + 100)
