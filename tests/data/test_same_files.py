"""An image that is several examples is counted, by whatever paths, links and copies they have."""

import os
import shutil

import numpy as np
import pytest
from helpers.image_folders import CLASSES, COUNT, write_folder

from senet_jax import data
from senet_jax.data.sources import same_files
from senet_jax.errors import InputError

MAKE = {"symbolic": os.symlink, "hard": os.link, "copy": shutil.copyfile}


@pytest.fixture
def elks(tmp_path):
    return write_folder(tmp_path / "elks")


def linked_again(make, elks, titles=CLASSES[:1]):
    """Link the first image of the first class once more into each of the classes of these names."""
    for title in titles:
        make(elks / CLASSES[0] / "0.png", elks / title / "again.png")


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_images_in_two_splits_are_counted_as_evaluated_and_trained_on(make, elks, tmp_path, caplog):
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
def test_images_in_two_classes_are_counted_with_their_labels(make, elks, caplog):
    linked_again(make, elks, titles=CLASSES[1:2])
    data.load_split(f"folder:{elks}", "train")
    assert "1 of the 121 examples" in caplog.text
    assert "1 with another label" in caplog.text
    assert all(str(elks / title / "again.png") in caplog.text for title in CLASSES[1:2])


@pytest.mark.parametrize("make", [os.symlink, os.link])
def test_folds_are_refused_as_those_of_a_file_that_is_listed_again(make, elks):
    linked_again(make, elks)
    with pytest.raises(InputError, match="has 1 more than once"):
        data.load_dataset(f"folder:{elks}", "train+test", "test", fold=(1, 3))


def test_folds_with_copies_say_so(elks, caplog):
    for titles, count in ((CLASSES[:1], 1), (CLASSES[1:], 3)):
        linked_again(shutil.copyfile, elks, titles)
        data.load_dataset(f"folder:{elks}", "train+test", "test", fold=(1, 3))
        assert f"part the copies of an image: {count} in split 'train+test'" in caplog.text


def test_a_folder_behind_a_link_has_each_of_its_files_once(elks, tmp_path, caplog):
    (tmp_path / "link").symlink_to(elks)
    dataset = data.load_dataset(f"folder:{tmp_path / 'link'}", "train", "test")
    assert len(dataset.train) + len(dataset.eval) == 3 * COUNT
    assert "there already" not in caplog.text


@pytest.fixture
def found(tmp_path):
    """The originals of files with these contents, as places."""

    def find(*contents, known=True):
        paths = [str(tmp_path / f"{place}.bin") for place in range(len(contents))]
        for path, content in zip(paths, contents, strict=True):
            if content is not None:
                with open(path, "wb") as file:
                    file.write(content)
        look = same_files.look_at(paths)
        of_all = same_files.originals(paths, look)
        if known:
            of_digests = same_files.originals(paths, look, same_files.digests(paths, look))
            np.testing.assert_array_equal(of_all, of_digests)
        return of_all.tolist()

    return find


def test_copies_are_told_from_files_of_their_size_and_with_their_ends(found):
    long = bytes(3 * same_files.END)
    others = [b"1" + long[1:], long[:-1] + b"1", long[: same_files.END], long + b"0"]
    assert found(b"ab", b"ac", b"ab", b"abc", b"ac", b"ab") == [0, 1, 0, 3, 1, 0]
    assert found(long, *others, long, others[0]) == [0, 1, 2, 3, 4, 0, 1]
    assert found(b"", b"", None, None) == [0, 1, 2, 3]  # nothing, which is no image


def test_links_to_copies_are_the_first_of_them(tmp_path):
    names = ("first", "copy", "link", "other")
    first, copy, link, other = paths = [str(tmp_path / name) for name in names]
    for path, content in ((first, b"x"), (copy, b"x"), (other, b"y")):
        (tmp_path / path).write_bytes(content)
    os.symlink(copy, link)
    for order in (paths, paths[::-1]):
        of = same_files.originals(order, same_files.look_at(order))
        same = [order.index(path) for path in (first, copy, link)]
        assert {*of[same].tolist()} == {min(same)}
        assert of[order.index(other)] == order.index(other)


def test_copies_are_not_looked_for_in_more_files_than_said(found, monkeypatch, caplog):
    monkeypatch.setattr(same_files, "MOST", 2)
    caplog.set_level("INFO")
    assert found(b"x", b"x", b"ab", known=False) == [0, 0, 2]
    assert not caplog.messages
    assert found(b"x", b"x", b"y", known=False) == [0, 1, 2]
    assert "3 files are as long as another, and 2 are read" in caplog.text


def test_files_are_read_for_it_once_and_again_when_they_change(elks, caplog, monkeypatch):
    linked_again(MAKE["copy"], elks, titles=CLASSES[1:2])
    images, reads = [*elks.glob("*/*.png")], []
    original = same_files._digest_of_all
    monkeypatch.setattr(same_files, "_digest_of_all", lambda x: [reads.append(x), original(x)][1])
    for _ in range(2):
        data.load_split(f"folder:{elks}", "train")
        assert len(reads) == len(images)
    shutil.copyfile(elks / CLASSES[2] / "0.png", elks / CLASSES[1] / "again.png")
    data.load_split(f"folder:{elks}", "train")
    assert len(reads) == 2 * len(images)


def test_of_many_bytes_the_sizes_stand_for_the_contents_and_copies_are_found(found, monkeypatch):
    for most in (same_files.READ, 0):
        monkeypatch.setattr(same_files, "READ", most)
        assert found(b"ab", b"ac", b"ab", b"abc", b"") == [0, 1, 0, 3, 4]


def test_contents_are_told_apart_and_what_cannot_be_read_is_0(tmp_path):
    paths = [str(tmp_path / name) for name in "abcde"]
    os.mkfifo(paths[4])  # which never answers
    for path, content in zip(paths, (b"x", b"y", b"x"), strict=False):
        with open(path, "wb") as file:
            file.write(content)
    x, y, again, *others = same_files.digests(paths, same_files.look_at(paths)).tolist()
    assert len({x, y, 0}) == 3
    assert (again, others) == (x, [0, 0])


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
