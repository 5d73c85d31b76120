"""Tables as people write them: odd columns, labels, splits, names."""

import csv
import os
import re
import shutil

import numpy as np
import pytest
from helpers.image_folders import by_key, by_row, write_folder, write_table
from helpers.photos import CROPS
from PIL import Image

from senet_jax import data
from senet_jax.data.sources import lookup, same_files
from senet_jax.errors import InputError


@pytest.fixture(scope="module")
def elks(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("elks"))


def write_rows(path, rows, **how):
    with path.open("w", newline="", encoding=how.pop("encoding", "utf-8")) as file:
        csv.writer(file, **how).writerows(rows)
    return f"csv:{path}"


def labelled(elks, tmp_path, title_of=str):
    """Rows of a table: the path of each image, and its class as `title_of` writes its number."""
    return [(os.path.relpath(elks / key, tmp_path), title_of(n)) for key, n, _ in by_key()["train"]]


def test_a_column_without_a_name_is_not_taken_for_one_that_is_not_asked_for(elks, tmp_path):
    rows = [(index, *row) for index, row in enumerate(labelled(elks, tmp_path))]
    name = write_rows(tmp_path / "x.csv", [("", "file", "label"), *rows])
    assert data.load_split(name, "train")[1] == ("0", "1", "2")


@pytest.mark.parametrize(
    ("titles", "said"),
    [
        (("file", "Label", "label"), "'Label' and 'label': choose with data.label"),
        (("FILE", "file", "label"), "'FILE' and 'file': choose with data.image"),
        (("file", "label", "Split", "split"), "'Split' and 'split': rename one"),
    ],
)
def test_of_two_columns_that_could_be_meant_none_is_guessed(titles, said, tmp_path):
    name = write_rows(tmp_path / "x.csv", [titles, [f"{title}.png" for title in titles]])
    with pytest.raises(InputError, match=f"has the columns {said}"):
        data.load_split(name, "train")


@pytest.mark.parametrize("titles", [("subset", "split"), ("split", "subset")])
def test_the_column_of_splits_does_not_depend_on_the_order_of_columns(titles, elks, tmp_path):
    rows = labelled(elks, tmp_path)
    splits = {"split": ("train", "val"), "subset": ("val", "train")}
    rows = [(*row, *(splits[title][n % 3 == 0] for title in titles)) for n, row in enumerate(rows)]
    name = write_rows(tmp_path / "x.csv", [("file", "label", *titles), *rows])
    assert len(data.load_split(name, "val")[0]) == len(rows[::3])


@pytest.mark.parametrize("titles", [("file", "label", "label"), ("file", "file", "label")])
def test_two_columns_of_one_name_are_refused_in_every_kind_of_table(titles, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    names = [write_rows(tmp_path / "x.csv", [titles, ("a.png", "b.png", "c")])]
    table = pyarrow.table([pyarrow.array(["a", "b"])] * 3, names=titles)
    parquet.write_table(table, tmp_path / "x.parquet")
    names.append(f"csv:{tmp_path / 'x.parquet'}")
    for name in names:
        with pytest.raises(InputError, match=r"has two columns '(file|label)'"):
            data.load_split(name, "train")


def test_text_that_a_table_has_as_bytes_is_text(elks, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    files, labels = zip(*labelled(elks, tmp_path, "kätzchen {}".format), strict=True)
    columns = {"file": files, "label": [label.encode() for label in labels]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "x.parquet")
    _, names = data.load_split(f"csv:{tmp_path / 'x.parquet'}", "train")
    assert names == ("kätzchen 0", "kätzchen 1", "kätzchen 2")


@pytest.mark.parametrize("write", [str, "{}.0".format, " {}. ".format])
def test_whole_numbers_are_classes_however_a_table_writes_them(write, elks, tmp_path):
    rows = labelled(elks, tmp_path, write)
    name = write_rows(tmp_path / "x.csv", [("file", "label"), *rows])
    assert data.load_split(name, "train")[1] == ("0", "1", "2")


def test_a_file_with_two_labels_is_refused_and_one_listed_again_counted(elks, tmp_path, caplog):
    head, rows = ("file", "label", "split"), labelled(elks, tmp_path)
    rows = [(*row, "train" if index % 4 else "val") for index, row in enumerate(rows)]
    again = [(f"./{rows[0][0]}", rows[0][1], "train"), rows[1]]
    dataset = data.load_dataset(
        write_rows(tmp_path / "x.csv", [head, *rows, *again]), "train", "val"
    )
    assert len(dataset.train) + len(dataset.eval) == len(rows) + 2
    assert f"2 of the {len(rows) + 2} examples of" in caplog.text
    assert "1 in another split" in caplog.text
    other = (rows[0][0], str((int(rows[0][1]) + 1) % 3), "train")
    with pytest.raises(InputError, match=r"with the labels '\d' and '\d'; an image has one"):
        data.load_split(write_rows(tmp_path / "x.csv", [head, *rows, other]), "train")


LISTS = [[0, 1], ["cat", "dog"], [], {"a": 1}, [0.0, 1.0], "[0, 1]", "['cat', 'dog']", "(0, 1)"]
LISTS += ["[0. 1. 0.]", "['cat' 'dog']", "[true, false]", '{"a": null}', " [0] ", "{'a', 'b'}"]


@pytest.mark.parametrize("value", LISTS, ids=str)
def test_several_labels_of_an_image_are_refused_and_no_class(value, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"file": ["a.png", "b.png"], "tags": [value, value]})
    parquet.write_table(table, tmp_path / "x.parquet")
    rows = [("file", "tags"), ("a.png", str(value)), ("b.png", str(value))]
    for name in (f"csv:{tmp_path / 'x.parquet'}", write_rows(tmp_path / "x.csv", rows)):
        with pytest.raises(InputError, match=r"no single label in row 1, but .* column 'tags'"):
            data.load_split(name, "train", label="tags")


@pytest.mark.parametrize("label", ["[none]", "(cat)", "cat [big]", "[a, b", "{x}", "(1)"])
def test_a_name_in_brackets_is_a_class(label, elks, tmp_path):
    rows = labelled(elks, tmp_path, lambda number: label if number == 1 else str(number))
    name = write_rows(tmp_path / "x.csv", [("file", "label"), *rows])
    assert label in data.load_split(name, "train")[1]


def test_a_table_of_files_none_of_which_can_be_read_says_why(tmp_path):
    rows = [(f"https://example.org/{index}.png", "ab"[index % 2]) for index in range(9)]
    name = write_rows(tmp_path / "x.csv", [("file", "label"), *rows])
    with pytest.raises(InputError, match=r"no image of dataset .* can be read; .*No such file"):
        data.load_dataset(name, "train", "test", **{**CROPS, "image_size": 0})


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_a_table_in_another_encoding_is_refused_in_a_sentence(encoding, tmp_path):
    name = write_rows(tmp_path / "x.csv", [("file", "label"), ("é.png", "é")], encoding=encoding)
    with pytest.raises(InputError, match=r"is no text in UTF-8"):
        data.load_split(name, "train")


def test_classes_without_training_images_are_named(elks, tmp_path, caplog):
    rows = labelled(elks, tmp_path, lambda number: str(number + 1))
    name = write_rows(tmp_path / "x.csv", [("file", "label"), *rows])
    data.load_dataset(name, "train", "test")
    assert "1 of the 4 classes of" in caplog.text
    assert "have no training examples, such as '0'" in caplog.text


def test_a_name_of_files_without_its_kind_says_what_is_meant(elks):
    table = write_table(elks)
    for name, meant in {
        str(elks): f"folder:{elks}",
        str(table): f"csv:{table}",
        f"Folder:{elks}": f"folder:{elks}",
    }.items():
        with pytest.raises(InputError, match=r"did you mean '(.*)'\?$") as caught:
            lookup.find(name)
        assert f"did you mean {meant!r}" in str(caught.value)


def test_parquet_files_with_images_in_them_need_no_more(elks, tmp_path):
    pytest.importorskip("datasets")
    import pyarrow
    from pyarrow import parquet

    (tmp_path / "data").mkdir()
    (tmp_path / "README.md").write_text("what hubs put beside the data")
    (tmp_path / "other.csv").write_text("no,image\n")
    for split, rows in by_row().items():
        columns = {
            "image": [{"bytes": content, "path": None} for *_, content in rows],
            "label": [label for _, label, _ in rows],
        }
        place = tmp_path / "data" / f"{split}-00000-of-00001.parquet"
        parquet.write_table(pyarrow.table(columns), place)
    hub = data.load_dataset(f"hf:{tmp_path}", "train", "test")
    own = data.load_dataset(f"folder:{elks}", "train", "test")
    for one, other in ((hub.train, own.train), (hub.eval, own.eval)):
        np.testing.assert_array_equal(np.asarray(one.image), np.asarray(other.image))
    with pytest.raises(InputError, match=r"has images, not paths .* hf: reads that"):
        lookup.find(f"csv:{place}")
    assert {*lookup.find(f"hf:{place}").splits} == {"test"}


@pytest.mark.parametrize("options", [{}, {**CROPS, "image_size": 8}], ids=["memory", "stream"])
def test_a_label_that_changes_between_two_starts_is_noticed(options, elks, tmp_path):
    rows = labelled(elks, tmp_path)

    def load():
        name = write_rows(tmp_path / "x.csv", [("file", "label"), *rows])
        return data.load_dataset(name, "train", "test", **options)

    known = load().identity
    load().check_unchanged(known, tmp_path)
    load().check_unchanged({key: known[key] for key in known if key != "labels"}, tmp_path)
    rows[0] = (rows[0][0], str((int(rows[0][1]) + 1) % 3))
    with pytest.raises(InputError, match=r"in a digest of the labels of the (train|evaluat)"):
        load().check_unchanged(known, tmp_path)


@pytest.mark.parametrize("options", [{}, {**CROPS, "image_size": 8}], ids=["memory", "stream"])
@pytest.mark.parametrize(("place", "form"), [(0, "BMP"), (1, "BMP"), (0, "PNG"), (1, "PNG")])
def test_an_image_that_is_edited_between_two_starts_is_noticed(
    options, place, form, elks, tmp_path, monkeypatch
):
    """By its bytes, also where they are as many as before; among many files by their number."""
    root = shutil.copytree(elks, tmp_path / "edited")
    for path in root.glob("*/*.png"):
        Image.open(path).save(path, form)
    monkeypatch.setattr(same_files, "READ", same_files.READ if form == "BMP" else 0)

    def load(name=f"folder:{root}", **part):
        own = {"mean": (0.5,) * 3, "std": (0.2,) * 3}
        return data.load_dataset(name, "train", "test", **own, **options, **part)

    known = load().identity
    moved = shutil.copytree(root, tmp_path / "moved")
    load(f"folder:{moved}").check_unchanged(known, tmp_path)  # on another disk, at another time
    (folds := load(fold=(1, 3))).check_unchanged(folds.identity, tmp_path)
    load().check_unchanged({key: known[key] for key in known if key != "files"}, tmp_path)
    source = lookup.find(f"folder:{root}")
    path = source.examples[("train", "test")[place]].files[0]
    pixels = np.asarray(Image.open(path))
    Image.fromarray(pixels // 64 * 64).save(path, form)
    split = ("training", "evaluation")[place]
    with pytest.raises(InputError, match=f"a digest of the files of the {split} images"):
        load().check_unchanged(known, tmp_path)


def test_folds_of_a_stream_of_files_are_those_in_memory(elks, caplog):
    name, crops = f"folder:{elks}", {**CROPS, "image_size": 8, "eval_crop": 1.0}
    for fold in ((1, 3), (3, 3, 5)):
        streamed = data.load_dataset(name, "train", "test", fold=fold, **crops)
        kept = data.load_dataset(name, "train", "test", fold=fold)
        assert len(streamed.train) + len(streamed.eval) == len(data.load_split(name, "train")[0])
        for one, other in ((streamed.train, kept.train), (streamed.eval, kept.eval)):
            for seen, known in zip(one.eval_batches(7), other.eval_batches(7), strict=True):
                for key in known:
                    np.testing.assert_array_equal(seen[key], known[key], key)
        part, _ = data.load_split(name, "train", fold=fold, **crops)
        np.testing.assert_array_equal(part.labels(), kept.eval.labels())
        batch = next(streamed.train.train_batches(8, seed=1))
        other = next(kept.train.train_batches(8, seed=1))
        np.testing.assert_array_equal(batch["label"], other["label"])


def test_a_file_is_in_one_split_however_often_and_in_whatever_way_it_is_listed(elks, tmp_path):
    rows = labelled(elks, tmp_path)
    again = [(f"./x/../{file}", label) for file, label in rows]
    name = write_rows(tmp_path / "x.csv", [("file", "label"), *rows, *again])
    found = lookup.find(name)
    of_splits = [{*map(os.path.normpath, part.files)} for part in found.examples.values()]
    assert not of_splits[0] & of_splits[1]
    assert sum(map(len, of_splits)) == len(rows)
    assert found.repeated("train+test") == (len(rows), 0)


@pytest.mark.parametrize("twice", ["in the table", "by the split"])
@pytest.mark.parametrize("options", [{}, {**CROPS, "image_size": 8}], ids=["memory", "stream"])
def test_folds_of_images_that_are_there_twice_are_refused(twice, options, elks, tmp_path):
    """Another fold would train on an image to evaluate on."""
    rows = labelled(elks, tmp_path)
    listed = [*rows, *rows[:3]] if twice == "in the table" else rows
    name = write_rows(tmp_path / "x.csv", [("file", "label"), *listed])
    split = "train+test" if twice == "in the table" else "train+test[:2]+test"
    number = 3 if twice == "in the table" else 2
    with pytest.raises(InputError, match=rf"data\.fold would .* has {number} more than once"):
        data.load_dataset(name, split, "", fold=(1, 2), **options)
    name = write_rows(tmp_path / "y.csv", [("file", "label"), *rows])
    assert data.load_dataset(name, "train+test", "", fold=(1, 2), **options)


def test_a_dataset_with_one_split_alone_says_how_to_cut_it(elks, tmp_path):
    rows = [(*row, "train") for row in labelled(elks, tmp_path)]
    name = write_rows(tmp_path / "x.csv", [("file", "label", "split"), *rows])
    with pytest.raises(InputError) as caught:
        data.load_dataset(name, "train", "test")
    parts = re.findall(r"'(train\[.*?\])'", str(caught.value))
    dataset = data.load_dataset(name, *parts)
    assert len(dataset.train) + len(dataset.eval) == len(rows)
