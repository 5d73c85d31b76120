"""Datasets of Hugging Face as people save them: their columns, labels and splits."""

import io
import os

import numpy as np
import pytest
from helpers.image_folders import by_key

from senet_jax import data
from senet_jax.data.image_files import open_image
from senet_jax.data.sources import lookup
from senet_jax.errors import InputError


def test_another_column_of_images_is_not_read_from_the_cache_of_the_first(tmp_path):
    datasets = pytest.importorskip("datasets")
    image, rows = datasets.Image(), [content for *_, content in by_key()["train"]]
    orders = {"left": rows, "right": rows[::-1]}
    columns = {k: [{"bytes": c, "path": None} for c in v] for k, v in orders.items()}
    columns["label"] = [row % 2 for row in range(len(rows))]
    features = datasets.Features({"left": image, "right": image, "label": datasets.Value("int64")})
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(str(tmp_path / "x"))
    for column in ("left", "right", "left"):
        source = lookup.find(f"hf:{tmp_path / 'x'}", column)
        found = zip(source.images("train"), source.examples["train"].files, strict=True)
        for pixels, row in found:
            opened = open_image(io.BytesIO(orders[column][row.number])).convert("RGB")
            np.testing.assert_array_equal(pixels, np.asarray(opened)[..., : pixels.shape[-1]])


def test_a_saved_dataset_without_splits_is_divided_as_folders_are(tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = [(content, label) for _, label, content in by_key()["train"]]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    columns = {
        "image": [{"bytes": c, "path": None} for c, _ in rows],
        "label": [n for _, n in rows],
    }
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(str(tmp_path / "x"))
    splits = lookup.find(f"hf:{tmp_path / 'x'}").splits
    assert {*splits} == {"train", "test"}
    assert 0.1 < splits["test"][0] / len(rows) < 0.3


FORMATS = {
    "none": lambda datasets, rows: rows,
    "of two": lambda datasets, rows: datasets.concatenate_datasets(
        [rows.select(range(3)), rows.select(range(3, len(rows)))]
    ),
    "cast": lambda datasets, rows: rows.cast_column("more", datasets.Value("int32")),
    "pandas": lambda datasets, rows: rows.with_format("pandas"),
    "columns": lambda datasets, rows: rows.with_format("numpy", columns=["image", "label"]),
    "labels alone": lambda datasets, rows: rows.with_format("numpy", columns=["label"]),
}


@pytest.mark.parametrize("form", FORMATS)
def test_a_format_that_was_saved_with_the_rows_changes_none_of_them(form, tmp_path):
    """`save_to_disk` keeps which columns a program asked for, and as what."""
    datasets = pytest.importorskip("datasets")
    contents = [content for *_, content in by_key()["train"]]
    kinds = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    columns = {
        "image": [{"bytes": content, "path": None} for content in contents],
        "label": [number % 2 for number in range(len(contents))],
        "more": [*range(len(contents))],
    }
    features = datasets.Features(kinds | {"more": datasets.Value("int64")})
    rows = datasets.Dataset.from_dict(columns, features=features)
    FORMATS[form](datasets, rows).save_to_disk(str(tmp_path / "x"))
    found = lookup.find(f"hf:{tmp_path / 'x'}")
    assert sum(size for size, *_ in found.splits.values()) == len(contents)
    for split, examples in found.examples.items():
        for pixels, row, label in zip(
            found.images(split), examples.files, found.labels(split), strict=True
        ):
            opened = open_image(io.BytesIO(contents[row.number])).convert("RGB")
            np.testing.assert_array_equal(pixels, np.asarray(opened)[..., : pixels.shape[-1]])
            assert label == row.number % 2


def test_a_row_without_a_label_is_of_no_class_whatever_the_labels_are(tmp_path):
    """A missing name of a class is not the class "-1", nor one without a name."""
    datasets = pytest.importorskip("datasets")
    contents = [content for *_, content in by_key()["train"]]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    for gap in (None, "", " "):
        columns = {
            "image": [{"bytes": content, "path": None} for content in contents],
            "label": [("cat", "dog", gap)[number % 3] for number in range(len(contents))],
        }
        place = tmp_path / repr(gap)
        datasets.Dataset.from_dict(columns, features=features).save_to_disk(str(place))
        found = lookup.find(f"hf:{place}")
        assert found.class_names == ("cat", "dog")
        labels = np.concatenate([found.labels(split) for split in found.splits])
        assert (labels == -1).sum() == len(range(2, len(contents), 3))
        with pytest.raises(InputError, match=r"are none of the 2 classes, the first -1"):
            data.load_dataset(f"hf:{place}", "train", "test")


def on_disk(datasets, parts, place):
    datasets.DatasetDict(parts).save_to_disk(str(place))


def in_files(datasets, parts, place):
    place.mkdir()
    for split, part in parts.items():
        part.to_parquet(str(place / f"{split}.parquet"))


def in_shards(datasets, parts, place):
    """One split, of which each part is a file."""
    place.mkdir()
    for number, part in enumerate(parts.values()):
        part.to_parquet(str(place / f"train-{number:05}-of-00002.parquet"))


@pytest.mark.parametrize("write", [on_disk, in_files, in_shards])
@pytest.mark.parametrize(
    ("label", "other", "said"),
    [
        (("cat", "dog"), ("dog", "cat"), (": classes, cat, dog", ": classes, dog, cat")),
        (
            ("cat", "dog"),
            ("cat", "dog", "eel"),
            (": classes, cat, dog", ": classes, cat, dog, eel"),
        ),
        (("cat", "dog"), "int64", (": classes, cat, dog", ": whole numbers")),
        ("string", ("cat", "dog"), (": text", ": classes, cat, dog")),
        (("cat", "dog"), "string", (": classes, cat, dog", ": text")),
    ],
)
def test_labels_that_mean_something_else_elsewhere_are_refused(label, other, said, write, tmp_path):
    """A number would be compared with that of another class, and no error would show it."""
    datasets = pytest.importorskip("datasets")
    contents = [{"bytes": content, "path": None} for *_, content in by_key()["train"]][:4]

    def part(kind):
        is_classes = isinstance(kind, tuple)
        feature = datasets.ClassLabel(names=[*kind]) if is_classes else datasets.Value(kind)
        labels = ["cat", "dog"] * 2 if kind == "string" else [0, 1] * 2
        features = datasets.Features({"image": datasets.Image(), "label": feature})
        return datasets.Dataset.from_dict({"image": contents, "label": labels}, features=features)

    write(datasets, {"train": part(label), "test": part(other)}, tmp_path / "x")
    with pytest.raises(InputError, match="has labels 'label' that differ: ") as caught:
        lookup.find(f"hf:{tmp_path / 'x'}")
    for words in said:
        assert f"{words};" in f"{caught.value};"
    write(datasets, {"train": part(label), "test": part(label)}, tmp_path / "y")
    assert lookup.find(f"hf:{tmp_path / 'y'}").class_names
    lacking = {"train": part(label), "test": part("int64").rename_column("label", "other")}
    write(datasets, lacking, tmp_path / "z")
    with pytest.raises(InputError) as caught:
        lookup.find(f"hf:{tmp_path / 'z'}")
    if write == on_disk:
        assert "has no 'label' in split 'test'" in str(caught.value)


def test_labels_of_other_programs_may_be_text_of_any_kind(tmp_path):
    """Categories of pandas, in another order in each file, are read by their names."""
    pytest.importorskip("datasets")
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    images = [{"bytes": content, "path": None} for *_, content in by_key()["train"]][:4]
    words = ["dog", "cat", "cat", "dog"]
    kinds = {"train": pa.array(words).dictionary_encode(), "test": pa.array(words[::-1])}
    kinds |= {"val": pa.array(words[1:] + words[:1], pa.large_string()).dictionary_encode()}
    kinds |= {"train-unlabelled": pa.nulls(4)}
    for split, labels in kinds.items():
        table = pa.table({"image": images, "label": labels})
        parquet.write_table(table, tmp_path / f"{split}.parquet")
    found = lookup.find(f"hf:{tmp_path}")
    kinds["train"] = pa.array([*[None] * 4, *words])  # the files in their order
    for split, labels in [*kinds.items()][:3]:
        for row, number in zip(found.examples[split].files, found.labels(split), strict=True):
            name = labels[row.number].as_py()
            assert (found.class_names[number] if name else number) == (name or -1)


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["0-of-00002"], r"lacks file 00001 of .*train-\*-of-00002.parquet \(1 of 2 are there\)"),
        (["0-of-00001", "0-of-00002", "1-of-00002"], "has the files of several exports"),
        (["0-of-00001-0abc12", "0-of-00001-9fe301"], "has the files of several exports"),
        (["0-of-00002-0abc12", "1-of-00002-9fe301"], ""),
    ],
)
def test_parquet_files_that_say_how_many_they_are_make_one_whole(tmp_path, names, sentence):
    """A copy that was cut short is no smaller dataset, and an earlier export no more images."""
    pytest.importorskip("datasets")
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [(content, label) for _, label, content in by_key()["train"]][::20]
    table = {"image": [{"bytes": c, "path": None} for c, _ in rows], "label": [n for _, n in rows]}
    files = [f"train-0000{name}" for name in names] + ["test-00000-of-00001"]
    for name in files:
        parquet.write_table(pa.table(table), tmp_path / f"{name}.parquet")
    if sentence:
        with pytest.raises(InputError, match=sentence):
            lookup.find(f"hf:{tmp_path}")
        first = f"hf:{tmp_path / files[0]}.parquet"  # one of them, by its name
        assert sum(map(sum, lookup.find(first).splits.values())) == len(rows)
    else:
        assert lookup.find(f"hf:{tmp_path}").splits["train"] == (2 * len(rows),)


def test_a_new_export_of_equal_size_and_time_is_read_anew(tmp_path):
    """Archives may give all files one time; the library keeps what it has read by that."""
    pytest.importorskip("datasets")
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    contents = [content for *_, content in by_key()["train"]][:10]
    images = [{"bytes": content, "path": None} for content in contents]
    path = tmp_path / "train.parquet"
    for labels in ([0, 1] * 5, [1, 0] * 5):
        table = pa.table({"image": images, "label": labels})
        parquet.write_table(table, path, compression=None, use_dictionary=False)
        os.utime(path, (1e9, 1e9))
        found = lookup.find(f"hf:{tmp_path}").examples["train"]
        assert [labels[row.number] for row in found.files] == found.labels.tolist()


def test_parquet_files_behind_links_are_read_once(tmp_path):
    """As of folders of images: part of a dataset may be on another disk."""
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    images = [{"bytes": content, "path": None} for *_, content in by_key()["train"]][:4]
    table = pa.table({"image": images, "label": [0, 1, 0, 1]})
    for place in ("here/train/a.parquet", "here/test/a.parquet", "other/b.parquet"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(table, tmp_path / place)
    (tmp_path / "here" / "train" / "more").symlink_to(tmp_path / "other")
    (tmp_path / "here" / "train" / "again").symlink_to(tmp_path / "here")
    (tmp_path / "here" / "train" / "above").symlink_to(tmp_path)
    (tmp_path / "here" / "a_train").symlink_to(tmp_path / "here" / "test")  # which has its own name
    splits = lookup.find(f"hf:{tmp_path / 'here'}").splits
    assert {split: sum(counts) for split, counts in splits.items()} == {"train": 8, "test": 4}


def test_parquet_files_of_several_folders_in_one_split_are_said_to_be(tmp_path, caplog):
    """A copy of a repository may have several configurations of the same images."""
    pytest.importorskip("datasets")
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    images = [{"bytes": content, "path": None} for *_, content in by_key()["train"][:4]]
    for file in ("full/train.parquet", "full/test.parquet", "cropped/train.parquet"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        parquet.write_table(pa.table({"image": images, "label": [0, 1, 0, 1]}), tmp_path / file)
    lookup.find(f"hf:{tmp_path / 'full'}")
    assert not caplog.messages
    assert lookup.find(f"hf:{tmp_path}").splits["train"] == (8,)
    (line,) = caplog.messages
    assert "split 'train' of" in line
    assert f"2 folders, {tmp_path / 'cropped'}, {tmp_path / 'full'} and so on" in line
