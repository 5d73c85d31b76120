"""The image and the label of a dataset are chosen by name; labels are classes, or it is refused."""

import shutil

import helpers.peculiar
import numpy as np
import pytest
from helpers.peculiar import CLASSES, COUNT, UNKNOWN, picture
from helpers.photos import CROPS

from senet_jax import data
from senet_jax.data import streaming
from senet_jax.data.sources import features, tfds_source
from senet_jax.data.sources.tfds_description import Description
from senet_jax.data.split import check_labels
from senet_jax.errors import InputError

CHOSEN = {"image": "image", "label": "label"}
WAYS = {"in memory": {}, "streamed": {**CROPS, "image_size": 8, "eval_crop": 1.0}}
ways = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


def load(train="train", test="train", name="peculiar", **options):
    return data.load_dataset(name, train, test, **{**CHOSEN, **options})


def labels_of(split):
    return sorted(int(y) for b in split.eval_batches(5) for y in b["label"][b["mask"] == 1])


@pytest.mark.parametrize(
    ("label", "names", "way"),
    [
        ("coarse_label", "01", WAYS["in memory"]),
        ("label", "abcd", WAYS["in memory"]),
        ("number", "0123", WAYS["in memory"]),
        pytest.param(
            *("coarse_label", "01", WAYS["streamed"]),
            marks=pytest.mark.slow(reason="starts a pipeline of TensorFlow"),
        ),
    ],
)
def test_the_label_is_what_is_asked_for(way, label, names):
    dataset = load(label=label, **way)
    assert dataset.class_names == tuple(names)
    assert labels_of(dataset.eval) == sorted(i % len(names) for i in range(COUNT))
    batch = next(dataset.train.train_batches(8, seed=0))
    assert batch["label"].dtype == np.int32
    split, known = data.load_split("peculiar", "train", image="image", label=label, **way)
    assert (known, labels_of(split)) == (tuple(names), labels_of(dataset.eval))


@ways
def test_the_image_is_what_is_asked_for_and_upright(way):
    (plain,), (turned,) = (
        load(image=image, **way).eval.eval_batches(COUNT) for image in ("image", "lying")
    )
    np.testing.assert_array_equal(plain["image"], turned["image"])
    pictures = {picture(index).tobytes() for index in range(COUNT)}
    assert {image.tobytes() for image in plain["image"]} == pictures


@pytest.mark.parametrize(
    ("chosen", "sentence"),
    [
        ({"image": ""}, "which feature is its image: choose 'image' or 'lying' with data.image"),
        ({"label": ""}, "choose 'label' or 'coarse_label' or 'number' with data.label"),
        ({"label": "lable"}, r"data.label 'lable' is no label .*; did you mean 'label'"),
        ({"label": "several"}, "data.label 'several' is no label of dataset 'peculiar'"),
        ({"image": "label"}, "data.image 'label' is no image"),
        ({"name": "fake"}, "have no effect on 'fake'"),
        ({"name": "peculiar:1.0.0"}, "prepared is data.name=peculiar:2.0.0"),
        ({"name": "/nowhere/at/all"}, "is no folder of a prepared dataset"),
        ({"name": "~nobody/data"}, "is no folder of a prepared dataset"),
    ],
)
def test_what_cannot_be_chosen_is_refused_with_what_can(chosen, sentence):
    load()
    with pytest.raises(InputError, match=sentence) as caught:
        load(**chosen)
    assert "\n" not in str(caught.value)


def test_supervised_keys_are_taken_or_else_what_is_the_only_one():
    source = tfds_source.find("peculiar", **CHOSEN)
    assert (source.image_key, source.label_key) == ("image", "label")

    def chosen(names, keys, image="", label=""):
        there = {name: source.known.features[name] for name in names.split()}
        return features.choose(there, keys, "x", image, label)

    assert chosen("image lying label number", ("lying", "number")) == ("lying", "number")
    assert chosen("image label number several", None) == ("image", "label")
    assert chosen("image label number", ("image", "several")) == ("image", "label")
    assert chosen("image label", ("image", "label"), label="label") == ("image", "label")
    with pytest.raises(InputError, match=r"choose 'number' with data.label"):
        chosen("image number", None)
    for names in ("image several", "label number"):
        with pytest.raises(InputError, match=r"not an image-classification.*it has .*\("):
            chosen(names, None)


@pytest.mark.parametrize("labels", [[1, 2, 70], [-5, -1]])
def test_numbers_that_are_no_classes_are_refused(labels):
    with pytest.raises(InputError, match="these are no classes"):
        features.count_classes(np.array(labels), "x")


def test_classes_whose_names_tfds_has_lost_have_numbers(monkeypatch):
    load()
    builder = tfds_source.find("peculiar", **CHOSEN).builder
    monkeypatch.setattr(builder.info.features["label"], "_int2str", ["a", "d"])  # blank ones lack
    known = Description.of_builder(builder)
    source = tfds_source.TfdsSource("peculiar", known, "image", "label")
    assert source.class_names == ("0", "1", "2", "3")


def test_a_prepared_folder_is_a_dataset():
    load()
    folder = tfds_source.find("peculiar", **CHOSEN).builder.data_path
    assert labels_of(load(name=str(folder)).eval) == labels_of(load().eval)
    with pytest.raises(InputError, match=f"in it are {folder}"):
        load(name=str(folder.parent))


def test_another_version_on_disk_is_named_where_the_default_one_is_missing(monkeypatch, tmp_path):
    load()
    folder = tfds_source.find("peculiar", **CHOSEN).builder.data_path
    older = folder.parent / "1.0.0"
    shutil.copytree(folder, older)

    def no_network(*args, **kwargs):
        raise OSError("no route to host")

    try:
        monkeypatch.setattr(tfds_source, "_is_prepared", lambda builder: False)
        monkeypatch.setattr(helpers.peculiar.Peculiar, "download_and_prepare", no_network)
        with pytest.raises(InputError, match=r"data.name=peculiar:1.0.0 or peculiar:2.0.0"):
            load()
    finally:
        shutil.rmtree(older)


def test_a_remote_folder_of_datasets_is_not_locked_and_not_made_here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    class Builder:
        data_dir_root, name = "gs://bucket/data", "x"

    with tfds_source._alone(Builder()):
        assert not list(tmp_path.iterdir())


@ways
@pytest.mark.parametrize("key", ["train_split", "eval_split"])
@pytest.mark.parametrize("label", ["label", "number"])
def test_labels_of_no_class_are_refused_with_their_number(way, key, label):
    train, test = ("some", "train") if key == "train_split" else ("train", "some")
    with pytest.raises(InputError, match=rf"data.{key}: 4 of .*32 labels .*the first -1") as caught:
        load(train, test, label=label, **way)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"^4 of .*32 labels"):
        data.load_split("peculiar", "some", image="image", label=label, **way)


@pytest.mark.parametrize("batches", ["train_batches", "eval_batches"])
def test_streamed_labels_of_no_class_are_refused_where_they_are_read(batches, monkeypatch):
    monkeypatch.setattr(streaming, "FIRST", 1)  # a good one, in the order of the files
    first = tfds_source.find("peculiar", **CHOSEN).first_labels("some", 1)
    assert first >= 0
    split = load(test="some", **WAYS["streamed"]).eval
    arguments = (COUNT, 0) if batches == "train_batches" else (COUNT,)
    with pytest.raises(InputError, match=r"4 of the 32 labels in a batch of 'peculiar', 'some'"):
        next(getattr(split, batches)(*arguments))


def test_data_classes_leave_out_what_is_of_no_class_and_say_so(caplog):
    dataset = load(test="some", classes=(0, CLASSES))
    assert len(dataset.eval) == COUNT - len(UNKNOWN)
    assert "4 of 32 labels of 'peculiar', split 'some', are no class" in caplog.text
    known = [index % CLASSES for index in range(COUNT) if index not in UNKNOWN]
    of_two = load(test="some", classes=(1, 3)).eval
    assert labels_of(of_two) == sorted(label - 1 for label in known if label in (1, 2))


@pytest.mark.parametrize(
    ("shares", "ends"), [((0.0, 0.5), (0, 5)), ((0.5, 1.0), (5, 10)), ((0.29, 0.7), (3, 7))]
)
def test_shares_of_the_classes_are_whole_numbers_of_them(shares, ends):
    """Also where a share times their number is not quite whole, as 0.7 * 10 is."""
    of_shares, of_ends = (data.load_split("digits", "test", classes=c) for c in (shares, ends))
    assert of_shares[1] == of_ends[1]
    assert labels_of(of_shares[0]) == labels_of(of_ends[0])


@pytest.mark.parametrize(("labels", "count"), [([0, 4], 1), ([-1, 2**32, 3], 2)])
def test_labels_beyond_the_last_class_are_refused_too(labels, count):
    with pytest.raises(InputError, match=f"^{count} of these labels are none of the 4 classes"):
        check_labels(np.array(labels), 4, "these labels", "choose others")


def test_images_that_cannot_be_read_into_memory_are_refused_with_a_sentence():
    with pytest.raises(InputError, match=r"data.eval_split: .*cannot be decoded.*set data.image_"):
        load(test="cut", image="lying")
