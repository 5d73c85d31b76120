"""A file that is several examples is counted, by whatever paths and links they lead to it."""

import os
import shutil

import pytest
from helpers.image_folders import CLASSES, COUNT, write_folder

from senet_jax import data
from senet_jax.errors import InputError

MAKE = {
    "symbolic": os.symlink,
    "hard": os.link,
}


@pytest.fixture
def elks(tmp_path):
    return write_folder(tmp_path / "elks")


def linked_again(make, elks, titles=CLASSES[:1]):
    """Link the first image of the first class once more into each of the classes of these names."""
    for title in titles:
        make(elks / CLASSES[0] / "0.png", elks / title / "again.png")


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_links_between_splits_are_counted_as_evaluated_and_trained_on(make, elks, tmp_path, caplog):
    (tmp_path / "photos").mkdir()
    train = elks.rename(tmp_path / "photos" / "train")
    for title in CLASSES:
        (test := tmp_path / "photos" / "test" / title).mkdir(parents=True)
        for number in range(3):
            make(train / title / f"{number}.png", test / f"held-out-{number}.png")
    dataset = data.load_dataset(f"folder:{tmp_path / 'photos'}", "train", "test")
    assert (len(dataset.train), len(dataset.eval)) == (3 * COUNT, 9)
    assert "9 of the 129 examples" in caplog.text
    assert "9 in another split, 0 with another label" in caplog.text


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_links_between_classes_are_counted_with_their_labels(make, elks, caplog):
    linked_again(make, elks, titles=CLASSES[1:2])
    data.load_split(f"folder:{elks}", "train")
    assert "1 of the 121 examples" in caplog.text
    assert "1 with another label" in caplog.text


def test_folds_are_refused_as_those_of_a_file_that_is_listed_again(elks):
    linked_again(os.symlink, elks)
    with pytest.raises(InputError, match="has 1 more than once"):
        data.load_dataset(f"folder:{elks}", "train+test", "test", fold=(1, 3))


def test_copies_and_folders_behind_links_are_files_of_their_own(elks, tmp_path, caplog):
    shutil.copy2(elks / CLASSES[0] / "0.png", elks / CLASSES[0] / "copy.png")
    (tmp_path / "link").symlink_to(elks)
    dataset = data.load_dataset(f"folder:{tmp_path / 'link'}", "train", "test")
    assert len(dataset.train) + len(dataset.eval) == 3 * COUNT + 1
    assert "there already" not in caplog.text


def test_a_table_knows_a_file_by_any_of_its_paths(elks, tmp_path, caplog):
    first = elks / CLASSES[0] / "0.png"
    rows = [
        (path, number) for number, title in enumerate(CLASSES) for path in elks.glob(f"{title}/*")
    ]
    (tmp_path / "link").symlink_to(elks)
    again = [tmp_path / "link" / CLASSES[0] / "0.png", os.path.relpath(first, tmp_path)]
    lines = [f"{path},{number},train" for path, number in rows]
    lines += [f"{path},0,val" for path in again]
    (tmp_path / "x.csv").write_text("\n".join(["file,label,split", *lines]))
    data.load_dataset(f"csv:{tmp_path / 'x.csv'}", "train", "val")
    assert f"2 of the {len(lines)} examples" in caplog.text
    assert "2 in another split" in caplog.text
