"""Whatever lies in a folder or a table ends in one sentence, or is read to the last image."""

import contextlib
import itertools
import os
import re
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
from helpers.photos import CROPS
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from PIL import Image

from senet_jax import data
from senet_jax.errors import InputError

WAYS = {"in memory": {**CROPS, "image_size": 0}, "streamed": {**CROPS, "image_size": 8}}


def write(root):
    """Two classes of eight images each, and a table of them."""
    for label, number in itertools.product("ab", range(8)):
        place = root / label / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng([ord(label), number]).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(place)
    write_table(root, "file,label,split", [])
    return root


def write_table(root, heading, more):
    rows = [f"{c}/{i}.png,{c},{'train' if i < 6 else 'test'}" for c in "ab" for i in range(8)]
    columns = heading.count(",") + 1
    rows = [",".join(row.split(",")[:columns]) for row in rows]
    (root / "table.csv").write_text("\n".join([heading, *rows, *more]) + "\n", "utf-8")


def images(root):
    return sorted((root / "a").rglob("*.png"))


def cut(share):
    def damage(root):
        for path in images(root)[:2]:
            path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])

    return damage


def named(name, content=b"nothing"):
    """A file of this name beside the images of a class."""

    def damage(root):
        path = root / "a" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    return damage


def table(heading="file,label,split", *more):
    return lambda root: write_table(root, heading, more)


def socket_at(root):
    with socket.socket(socket.AF_UNIX) as listening, contextlib.chdir(root / "a"):
        listening.bind("socket.png")


DAMAGES = {
    "cut at once": cut(0),
    "cut in its header": cut(0.1),
    "cut in the middle": cut(0.6),
    "cut at its end": cut(0.98),
    "no image": named("99.png"),
    "a JPEG that ends": named("99.jpg", b"\xff\xd8\xff\xe0" + bytes(40)),
    "a GIF that ends": named("99.gif", b"GIF89a\x08\0\x08\0"),
    "a WebP that ends": named("99.webp", b"RIFF\x10\0\0\0WEBPVP8 "),
    "a TIFF that ends": named("99.tif", b"II*\0\x08\0\0\0\xff\xff"),
    "an AVIF": named("99.avif", b"\0\0\0\x1cftypavif" + bytes(40)),
    "an empty file": named("empty.bmp", b""),
    "a text": named("README.txt"),
    "what Windows leaves": named("Thumbs.db", b"\xd0\xcf\x11\xe0" + bytes(99)),
    "what macOS leaves": named("__MACOSX/._1.png"),
    "a hidden file": named(".hidden.png"),
    "a name with a line break": named("a\nb.png"),
    "a long name": named("x" * 240 + ".png"),
    "a name that is no text": lambda root: shutil.copy(
        images(root)[0], os.fsencode(root / "a") + b"/\xff.png"
    ),
    "an accent": lambda root: (root / "a").rename(root / "é"),
    "a class that is no text": lambda root: shutil.copytree(
        os.fsencode(root / "a"), os.fsencode(root) + b"/\xff"
    ),
    "an empty class": lambda root: (root / "c").mkdir(),
    "a class of texts": lambda root: [(root / "c").mkdir(), (root / "c/x.txt").write_text("x")],
    "one class": lambda root: shutil.rmtree(root / "b"),
    "no class": lambda root: [shutil.rmtree(root / label) for label in "ab"],
    "case alone": lambda root: shutil.copytree(root / "a", root / "A"),
    "a space alone": lambda root: shutil.copytree(root / "a", root / "a "),
    "space and case": lambda root: shutil.copytree(root / "a", root / "A\u00a0"),
    "an image of no class": lambda root: shutil.copy(images(root)[0], root / "stray.png"),
    "a circle": lambda root: (root / "a" / "loop").symlink_to(root),
    "a link to itself": lambda root: (root / "a" / "x.png").symlink_to(root / "a" / "x.png"),
    "a link to nothing": lambda root: (root / "a" / "x.png").symlink_to(root / "gone.png"),
    "one folder twice": lambda root: (root / "c").symlink_to(root / "a"),
    "a pipe": lambda root: os.mkfifo(root / "a" / "pipe.png"),
    "a socket": socket_at,
    "a folder like an image": lambda root: (root / "a" / "folder.png").mkdir(),
    "another size": lambda root: Image.new("RGB", (9, 8)).save(root / "a" / "9.png"),
    "one pixel": lambda root: Image.new("RGB", (1, 1)).save(root / "a" / "9.png"),
    "32 bits": lambda root: Image.new("F", (8, 8), 0.5).save(root / "a" / "9.tiff"),
    "grey": lambda root: Image.new("L", (8, 8)).save(root / "a" / "9.png"),
    "transparency": lambda root: Image.new("RGBA", (8, 8)).save(root / "a" / "9.png"),
    "two splits of one name": lambda root: [
        shutil.copytree(root / "a", root / split / label)
        for split in ("val", "valid")
        for label in "ab"
    ],
    "a split beside classes": lambda root: shutil.copytree(root / "a", root / "train" / "a"),
    "a missing file": lambda root: images(root)[0].unlink(),
    "no table": lambda root: (root / "table.csv").unlink(),
    "an empty table": lambda root: (root / "table.csv").write_text(""),
    "a heading alone": lambda root: (root / "table.csv").write_text("file,label\n"),
    "bytes for a table": lambda root: (root / "table.csv").write_bytes(bytes(range(256))),
    "wrong columns": table("x,y,split"),
    "no split": table("file,label"),
    "no label": table("file"),
    "one column twice": table("file,file,split"),
    "a row too long": table("file,label,split", "a/0.png,a,train,more"),
    "a row too short": table("file,label,split", "a/0.png"),
    "a row without a label": table("file,label,split", "a/0.png,,train"),
    "a row without a file": table("file,label,split", ",a,train"),
    "a row without a split": table("file,label,split", "a/0.png,a,"),
    "a row of nowhere": table("file,label,split", "nowhere/0.png,a,train"),
    "an open quotation": table("file,label,split", '"a/0.png,a,train'),
    "a row elsewhere": table("file,label,split", "/dev/null,a,train", "~/x.png,a,test"),
    "case alone in a table": table("file,label,split", "a/0.png,A,train"),
}


def contents(root):
    """All that is in a folder, by name."""
    found = {}
    for folder, _, names in os.walk(os.fsencode(root)):
        for name in names:
            path = os.path.join(folder, name)
            is_file = os.path.isfile(path) and not os.path.islink(path)
            kept = Path(os.fsdecode(path)).read_bytes() if is_file else os.lstat(path).st_mode
            found[path] = kept
    return found


def look(root, road, way):
    """Read a dataset to the end; gives the sentence with which it was refused, or ""."""
    name = f"folder:{root}" if road == "folder" else f"csv:{root / 'table.csv'}"
    before, said = contents(root), ""
    try:
        dataset = data.load_dataset(name, "train", "test", **WAYS[way])
        assert next(dataset.train.train_batches(2, seed=0))["image"].shape == (2, 8, 8, 3)
        batches = list(dataset.eval.eval_batches(4))
        places = [int(p) for b in batches for p in b["place"][b["mask"] == 1]]
        assert len(places) == len(set(places)) >= len(dataset.eval) - CROPS["max_unreadable"]
    except InputError as error:
        said = str(error)
    assert said == "" or len(said) > 20
    assert "\n" not in said.replace("a\nb.png", "")
    assert contents(root) == before
    return said


ROADS = st.sampled_from(["folder", "csv"])
LISTS = st.lists(st.sampled_from(sorted(DAMAGES)), min_size=1, max_size=3, unique=True)
KEEP = settings(deadline=None, suppress_health_check=list(HealthCheck), database=None)


def check(folder, damages, road, way):
    root = write(folder / "x")
    try:
        for damage in damages:
            try:
                DAMAGES[damage](root)
            except (OSError, IndexError):
                continue  # what was damaged before is not there any more
        first = look(root, road, way)
        assert look(root, road, way) == first, "the second start says something else"
    finally:
        shutil.rmtree(root)


@seed(20)
@settings(KEEP, max_examples=25)
@given(damages=LISTS, road=ROADS, way=st.sampled_from(sorted(WAYS)))
def test_bad_input_ends_in_a_sentence_and_loses_nothing(tmp_path_factory, damages, road, way):
    check(tmp_path_factory.getbasetemp(), damages, road, way)


@pytest.mark.slow(reason="two hundred datasets, read twice each")
@seed(21)
@settings(KEEP, max_examples=200)
@given(damages=LISTS, road=ROADS, way=st.sampled_from(sorted(WAYS)))
def test_two_hundred_bad_inputs_end_in_a_sentence(tmp_path_factory, damages, road, way):
    check(tmp_path_factory.getbasetemp(), damages, road, way)


@pytest.mark.parametrize(
    ("damage", "road", "sentence"),
    [
        ("cut in the middle", "folder", ""),
        ("what Windows leaves", "folder", ""),
        ("what macOS leaves", "folder", ""),
        ("a circle", "folder", ""),
        ("an accent", "folder", ""),
        ("transparency", "folder", ""),
        ("an empty class", "folder", "the class 'c' has no images"),
        ("one class", "folder", "has one class, 'a'"),
        ("no class", "folder", "has no folders, of which each is a class"),
        ("case alone", "folder", "'A' and 'a' differ in case alone"),
        ("a space alone", "folder", "'a' and 'a ' differ in spaces or case alone"),
        ("space and case", "folder", "and 'a' differ in spaces or case alone"),
        ("an image of no class", "folder", "has images of no class: .*stray.png"),
        ("one folder twice", "folder", "the classes 'a' and 'c' are the same folder"),
        ("a split beside classes", "folder", "has splits .train. and beside them the folder 'a'"),
        ("another size", "folder", "only datasets whose images all have one size"),
        ("a class that is no text", "folder", "is no text"),
        ("no table", "csv", "cannot be read: No such file"),
        ("bytes for a table", "csv", "is no (.csv table|text in UTF-8)"),
        ("a heading alone", "csv", "has no rows"),
        ("wrong columns", "csv", "has no image column; its columns are 'x', 'y', 'split'"),
        ("no label", "csv", "has no label column"),
        ("a row too long", "csv", "has 4 values in line 18, not 3"),
        ("a row without a label", "csv", "has no label in row 17"),
        ("a row without a file", "csv", "has no image in row 17"),
        ("a row without a split", "csv", "has no split in row 17"),
        ("a row of nowhere", "csv", ""),
        ("case alone in a table", "csv", "'A' and 'a' differ in case alone"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, damage, road, sentence):
    root = write(tmp_path / "x")
    DAMAGES[damage](root)
    said = look(root, road, "in memory")
    assert re.search(sentence, said) if sentence else said == "", said


def test_a_dataset_that_changes_between_two_starts_is_read_anew(tmp_path):
    root = write(tmp_path / "x")
    before, _ = data.load_split(f"folder:{root}", "all")
    image = np.asarray(before.image)
    path = root / "a" / "3.png"
    Image.new("RGB", (8, 8), (1, 2, 3)).save(path)
    after, _ = data.load_split(f"folder:{root}", "all")
    changed = (np.asarray(after.image) != image).any((1, 2, 3))
    assert changed.sum() == 1
    assert (after.image[np.flatnonzero(changed)] == (1, 2, 3)).all()
    path.unlink()
    fewer, _ = data.load_split(f"folder:{root}", "all")
    assert len(fewer) == len(before) - 1


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("folder:", "lacks what it is of: folder: is a folder"),
        ("folder:/nowhere", "is no folder"),
        ("folder:\0", "is no folder"),
        (f"folder:{'x' * 5000}", "is no folder"),
        ("csv:/nowhere.csv", "cannot be read: No such file"),
        ("csv:/etc", "must end in .csv, .tsv, .parquet"),
        ("csv:/nowhere.xlsx", "must end in .csv, .tsv, .parquet"),
        ("tfds:/nowhere", "is no folder of a prepared dataset"),
        ("hf:", "lacks what it is of"),
        ("hf:/nowhere", "datasets|is no folder"),
    ],
)
def test_names_of_nothing_are_refused(name, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        data.load_dataset(name, "train", "test")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_folds_have_the_same_images_in_memory_and_streamed(number, tmp_path):
    """The last of a class is damaged: what stands in for it in memory is of the other class."""
    root = write(tmp_path)
    for name in ("a/7.png", "b/2.png"):
        (root / name).write_bytes(b"nothing")
    found = []
    for keys in WAYS.values():
        asked = {**keys, "eval_crop": 1.0, "max_unreadable": 2, "fold": (number, 3)}
        evaluation = data.load_dataset(f"folder:{root}", "train", "train", **asked).eval
        (batch,) = evaluation.eval_batches(len(evaluation))
        found.append(batch["image"][batch["mask"] > 0])
    np.testing.assert_array_equal(*found)
