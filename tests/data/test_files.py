"""Folders, tables and datasets of Hugging Face: the same images by all roads, bad ones survived."""

import csv
import io
import os
import shutil
import unicodedata

import numpy as np
import pytest
import tensorflow_datasets as tfds
from helpers.image_folders import CLASSES, COUNT, by_key, by_row, write_folder, write_table
from helpers.photos import BROKEN, CROPS, encoded, torchvisions_window
from helpers.runs import tiny_config
from PIL import Image

from senet_jax import data
from senet_jax.data import file_stream, files, folder, image_files, lookup, names, pillow_views
from senet_jax.data.split import Share
from senet_jax.data.views import CropSpec
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


@pytest.mark.parametrize("kind", ["tfds", "folder", ".csv", ".tsv", ".parquet", "hf"])
def test_a_run_ends_with_the_same_weights_by_every_road(kind, elks, by_tfds, tmp_path):
    result = train(tmp_path / "run", road(kind, elks, tmp_path))
    for key in ("params_sha256", "eval/right", "class_names", "mean", "std"):
        assert result[key] == by_tfds[key], key


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


# ---- streams -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """60 photographs of many sizes in two classes, three of them cut short."""
    root = tmp_path_factory.mktemp("photographs")
    for index in range(60):
        place = root / "train" / "ab"[index % 2] / f"{index}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(encoded(index))
    shutil.copytree(root / "train", root / "val")
    return root


def load(photographs, **options):
    return data.load_dataset(f"folder:{photographs}", "train", "validation", **{**CROPS, **options})


def batches(split, count, size=8, **options):
    found = split.train_batches(size, **{"seed": 3, **options})
    return [next(found) for _ in range(count)]


def test_a_stream_can_continue_at_any_step_and_epochs_differ(photographs, caplog):
    train = load(photographs).train
    whole = batches(train, 16)  # 7 steps an epoch
    for start in (0, 1, 6, 7, 12):
        for one, other in zip(batches(train, 2, start=start), whole[start:], strict=False):
            for key in one:
                np.testing.assert_array_equal(one[key], other[key])
    assert any((a["label"] != b["label"]).any() for a, b in zip(whole[:7], whole[7:], strict=False))
    other = batches(train, 1, seed=4)[0]
    assert (other["image"] != whole[0]["image"]).any()
    assert "cannot be read" in caplog.text
    assert "3 images of 'folder:" in caplog.text


def test_processes_together_have_the_batches_of_one(photographs):
    one = load(photographs)
    parts = [load(photographs, share=Share(index, 2)) for index in range(2)]
    for step in (0, 9):
        (whole,) = batches(one.train, 1, start=step)
        halves = [batches(part.train, 1, start=step)[0] for part in parts]
        together = np.concatenate([half["label"] for half in halves])
        assert (together == whole["label"]).mean() > 0.8  # but what stands in for unreadable ones
    seen = [list(part.eval.eval_batches(8)) for part in parts]
    for number, whole in enumerate(one.eval.eval_batches(8)):
        for key, values in whole.items():
            halves = np.concatenate([part[number][key] for part in seen])
            np.testing.assert_array_equal(halves, values)


def test_evaluation_sees_every_readable_image_once_as_predict_does(photographs):
    from senet_jax.inference.preprocessing import Preprocessing

    dataset = load(photographs)
    source = lookup.find(f"folder:{photographs}")
    spec = (32, 32, 3), CROPS["eval_crop"], CROPS["interpolation"], (0.0,) * 3, (1.0,) * 3
    predict, places = Preprocessing(*spec), []
    for batch in dataset.eval.eval_batches(7):
        for image, place, mask in zip(batch["image"], batch["place"], batch["mask"], strict=True):
            if mask:
                places.append(int(place))
                file = source.examples["val"].files[place]
                np.testing.assert_array_equal(image, predict(image_files.open_image(file)))
    assert len(places) == len(set(places)) == 60 - len(BROKEN)


def test_corners_are_of_the_resized_image(photographs):
    five = load(photographs, corners=True).eval
    middle = load(photographs).eval
    batch, other = (next(split.eval_batches(16)) for split in (five, middle))
    assert batch["image"].shape == (16, 5, 32, 32, 3)
    np.testing.assert_array_equal(batch["image"][:, 4], other["image"])


def test_too_many_unreadable_images_are_an_error(photographs):
    with pytest.raises(InputError, match=r"3 images of .*max_unreadable is 2 \(last: .*cannot be"):
        list(load(photographs, max_unreadable=2).eval.eval_batches(30))


def test_random_windows_are_distributed_as_torchvisions():
    spec = CropSpec(**CROPS)
    ours, theirs = [], []
    for number in range(3000):
        left, top, right, bottom = pillow_views.random_window(
            spec, (90, 60), np.random.default_rng(number)
        )
        assert 0 <= left < right <= 90
        assert 0 <= top < bottom <= 60
        ours.append((top, left, bottom - top, right - left))
        theirs.append(torchvisions_window(60, 90, np.random.default_rng([number, 1])))
    from scipy.stats import ks_2samp

    for one, other in zip(np.array(ours).T, np.array(theirs).T, strict=True):
        assert ks_2samp(one, other).pvalue > 1e-3
    assert pillow_views.random_window(spec, (1000, 1), np.random.default_rng(0)) == (499, 0, 500, 1)


# ---- unreadable images in memory ---------------------------------------------------------------


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
    with pytest.raises(InputError, match=r"1 images of .* data.max_unreadable is 0"):
        data.load_split(f"folder:{root}", "train+test", **{**crops, "max_unreadable": 0})


def test_grey_files_have_one_channel_in_memory(tmp_path):
    for index in range(30):
        place = tmp_path / "ab"[index % 2] / f"{index}.png"
        place.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 8), index, np.uint8)).save(place)
    split, _ = data.load_split(f"folder:{tmp_path}", "all")
    assert split.image_shape == (8, 8, 1)
    assert sorted(np.asarray(split.image)[:, 0, 0, 0]) == list(range(30))


# ---- names, splits and tables ------------------------------------------------------------------


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


def test_a_stream_in_memory_order(elks):
    """An epoch of a stream has the order of one in memory."""
    crops = {**CROPS, "image_size": 8}
    streamed = data.load_dataset(f"folder:{elks}", "train", "test", **crops)
    kept = data.load_dataset(f"folder:{elks}", "train", "test")
    assert isinstance(streamed.train, file_stream.FileStream)
    for one, other in zip(batches(streamed.train, 5), batches(kept.train, 5), strict=True):
        np.testing.assert_array_equal(one["label"], other["label"])
