"""Folders that are splits, or domains, are not taken for classes without a word."""

import pytest
from PIL import Image

from senet_jax.data.sources import folder
from senet_jax.errors import InputError
from senet_jax.system import figures


def folders_of_images(root, *paths):
    for number, path in enumerate(paths):
        (root / path).mkdir(parents=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(root / path / "1.png")
    return str(root)


@pytest.mark.parametrize(
    "names",
    [
        *[("training_set", "test_set"), ("seg_train", "seg_test"), ("Train Image", "Val-Images")],
        *[("2019_train", "2019_val"), ("train.v2", "test.v2", "val.v2")],
    ],
)
def test_splits_by_other_names_are_no_classes(names, tmp_path):
    root = folders_of_images(tmp_path, *(f"{name}/{c}" for name in names for c in ("elk", "moose")))
    (tmp_path / "docs").mkdir()
    with pytest.raises(InputError, match="look like splits: call them train, val and test"):
        folder.find("x", root)


def test_classes_with_the_same_folders_in_each_are_said_to_be_classes(tmp_path, caplog):
    """They may be domains, sites or years, with the folders of the classes in them."""
    root = tmp_path / "domains"
    paths = [f"{domain}/{c}" for domain in ("photo", "sketch") for c in ("elk", "moose")]
    assert folder.find("x", folders_of_images(root, *paths)).class_names == ("photo", "sketch")
    (line,) = caplog.messages
    assert "its folders, 'photo', 'sketch' and so on, and in each of these are 'elk' and" in line
    caplog.clear()
    others = ("train_station/old", "test_tube", "animal/elk", "animal/moose", "car/old", "car/new")
    found = folder.find("x", folders_of_images(tmp_path / "classes", *others))
    assert found.class_names == ("animal", "car", "test_tube", "train_station")
    Image.new("RGB", (8, 8), "white").save(root / "photo" / "1.png")
    folder.find("x", str(root))
    assert not caplog.messages


@pytest.mark.parametrize(
    "places", [("elk", "moose"), ("train/elk", "train/moose", "test/elk", "test/moose")]
)
def test_work_directories_and_reports_beside_the_classes_are_no_classes(places, tmp_path):
    """Whoever works in the folder of the images has the figures of earlier runs there."""
    root = folders_of_images(tmp_path, *places)
    before = folder.find("x", root)
    for output, file in (("runs/x", "config.json"), ("report", "calibration.csv")):
        (tmp_path / output).mkdir(parents=True)
        (tmp_path / output / file).write_text("{}")
        figure = figures.png(figures.canvas((1, 1)), "caption", dpi=20)
        (tmp_path / output / "confusion.png").write_bytes(figure)
    after = folder.find("x", root)
    assert after.class_names == before.class_names == ("elk", "moose")
    assert after.splits == before.splits


def test_a_class_in_another_form_of_unicode_in_one_split_is_told_from_a_missing_one(tmp_path):
    """Both look alike on a screen: macOS takes letters apart, and archives keep that."""
    paths = ("train/Caf\xe9", "train/elk", "test/Cafe\u0301", "test/elk")
    with pytest.raises(InputError, match=r"'Caf\\xe9' there is another form of 'Cafe\\u0301'"):
        folder.find("x", folders_of_images(tmp_path, *paths))
