"""What is found in folders: every photograph or its name, each once, and nothing else."""

import io
import json
import os
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest
from helpers.photos import photo
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from senet_jax.data import image_search
from senet_jax.data.image_files import open_image
from senet_jax.data.image_search import find_images
from senet_jax.errors import InputError
from senet_jax.system import figures, readers

COLOURS = photo(1).convert("RGB")


def written(kind="PNG", **options):
    file = io.BytesIO()
    COLOURS.save(file, kind, **options)
    return file.getvalue()


def put(root, *names, content=b""):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def found(root, *others):
    """Paths found under the root, relative to it."""
    return [str(path.relative_to(root)) for path in find_images([str(root), *map(str, others)])]


def test_folders_are_searched_in_order_and_files_taken_as_they_are(tmp_path):
    put(tmp_path, "b.JPG", "a/c.png", "a/b/d.webp", "notes.txt", ".hidden.png", ".git/e.png")
    paths = find_images([str(tmp_path / "notes.txt"), str(tmp_path)])
    names = [str(path.relative_to(tmp_path)) for path in paths]
    assert names == ["notes.txt", "a/b/d.webp", "a/c.png", "b.JPG"]


def test_what_is_missing_is_refused_if_nothing_else_is_there(tmp_path):
    put(tmp_path, "x.png")
    (tmp_path / "empty").mkdir()
    nope, empty = str(tmp_path / "nope.png"), str(tmp_path / "empty")
    with pytest.raises(InputError, match=r"there is no image .*nope.png$"):
        find_images([nope])
    with pytest.raises(InputError, match=r"empty has no images in it, and there is no image"):
        find_images([empty, nope])
    paths = find_images([nope, empty, str(tmp_path / "x.png")])
    assert [path.name for path in paths] == ["nope.png", "empty", "x.png"]
    for path, sentence in zip(
        paths[:2], ("No such file", "a folder, from which no image was taken"), strict=True
    ):
        with pytest.raises(InputError, match=sentence):
            open_image(path)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP", "PPM", "JPEG2000"])
def test_a_photograph_is_known_by_its_content_under_any_name(tmp_path, kind):
    put(tmp_path, "IMG_0001", "x.photo", "y.txt", "z.jpg_original", content=written(kind))
    assert found(tmp_path) == ["IMG_0001", "x.photo", "y.txt", "z.jpg_original"]
    if kind in ("JPEG", "PNG", "GIF", "WEBP"):
        put(tmp_path, "cut", content=written(kind)[:20])
        assert "cut" in found(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.heic", b"\0\0\0\x18ftypheic\0\0\0\0"),
        ("no_suffix", b"\0\0\0\x18ftypheic\0\0\0\0"),
        ("a.avif", b"\0\0\0\x18ftypavif\0\0\0\0"),
        ("a.jxl", b"\xff\x0a\0"),
        ("a.NEF", b"?"),
        ("zero.jpg", b""),
        ("page.jpg", b"<html>"),
    ],
)
def test_a_photograph_that_cannot_be_read_is_taken_to_be_named(tmp_path, name, content):
    put(tmp_path, name, content=content)
    assert found(tmp_path) == [name]
    with pytest.raises(InputError, match="is no image of a format that can be read"):
        open_image(tmp_path / name)


def test_data_are_no_images_and_no_errors(tmp_path):
    numbers = io.BytesIO()
    np.save(numbers, np.zeros((4, 4)))
    fits = b"SIMPLE  =                    T".ljust(80) + b"BITPIX  =                  -32".ljust(80)
    contents = {
        "data.h5": b"\x89HDF\r\n\x1a\n" + bytes(100),
        "data.hdf": b"\x89HDF\r\n\x1a\n" + bytes(100),
        "sky.fits": (fits + b"NAXIS   =                    2".ljust(80)).ljust(2880) + bytes(2880),
        "wind.grib": b"GRIB\0\0\0\1" + bytes(100),
        "film.mpg": b"\0\0\1\xb3" + bytes(100),
        "film.mp4": b"\0\0\0\x18ftypisom" + bytes(100),
        "notes.txt": b"P5 is the fifth photograph\n",
        "labels.csv": b"image,label\na.jpg,1\n",
        "answers.json": json.dumps({"images": []}).encode(),
        "Thumbs.db": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600),
        "desktop.ini": b"[.ShellClassInfo]\r\n",
        "model.safetensors": b"\x02\0\0\0\0\0\0\0{}",
        "numbers.npy": numbers.getvalue(),
        "zeros.bin": bytes(1000),
        "noise": np.random.default_rng(0).bytes(1000),
        "paper.pdf": b"%PDF-1.7\n",
        "all.zip": b"PK\3\4" + bytes(30),
        "empty": b"",
    }
    for name, content in contents.items():
        put(tmp_path, name, content=content)
    put(tmp_path, "x.png")
    assert found(tmp_path) == ["x.png"]


def test_folders_behind_links_are_searched_once(tmp_path):
    """Links to a folder beside, elsewhere, to itself, in a circle, upwards, and to nothing."""
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    put(root, "z/1.png", "2.png")
    put(elsewhere, "deep/3.png")
    for name, target in (
        ("a", "z"),
        ("b", elsewhere),
        ("c", "."),
        ("z/up", ".."),
        ("d", ".."),
        ("e", "/"),
        ("f", elsewhere / "deep"),
        ("self", "self"),
    ):
        (root / name).symlink_to(target)
    (elsewhere / "back").symlink_to(root)
    assert found(root) == ["2.png", "b/deep/3.png", "self", "z/1.png"]
    assert found(root / "z") == ["1.png"]
    (tmp_path / "link").symlink_to(root)
    assert "z/1.png" in found(tmp_path / "link")


def test_what_is_no_file_is_taken_to_be_named(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "broken.jpg").symlink_to("nowhere")
    (tmp_path / "circle.jpg").symlink_to("circle.jpg")
    (tmp_path / "null.png").symlink_to("/dev/null")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket.jpg"))
    (tmp_path / "folder.jpg").mkdir()
    put(tmp_path, "folder.jpg/x.png", content=written())
    sentences = {
        "broken.jpg": "No such file",
        "circle.jpg": "Too many levels",
        "null.png": "it is a device, not a file",
        "pipe": "it is a named pipe, not a file",
        "pipe.jpg": "it is a named pipe, not a file",
        "socket.jpg": "it is a socket, not a file",
        "zero.png": "it is a device, not a file",
    }
    assert found(tmp_path) == sorted([*sentences, "folder.jpg/x.png"])
    for name, sentence in sentences.items():
        with pytest.raises(InputError, match=f"{name} cannot be read: .*{sentence}"):
            open_image(tmp_path / name)


def test_what_may_not_be_opened_is_taken_to_be_named(tmp_path, monkeypatch):
    """By a root user everything may be."""
    put(tmp_path, "x.png", "locked/1.png", "secret", content=written())

    def forbidding(function):
        def may(path, *arguments, **options):
            if os.path.basename(path) in ("locked", "secret"):
                raise PermissionError(13, "Permission denied", str(path))
            return function(path, *arguments, **options)

        return may

    monkeypatch.setattr(os, "scandir", forbidding(os.scandir))
    monkeypatch.setattr(io, "open", forbidding(io.open))
    assert found(tmp_path) == ["locked", "secret", "x.png"]
    with pytest.raises(InputError, match="locked cannot be read: Permission denied"):
        open_image(tmp_path / "locked")


def test_a_folder_and_a_file_that_never_answer_are_taken_and_cost_a_bounded_time(
    tmp_path, monkeypatch
):
    put(tmp_path, "dead/1.png", "silent", "x", "y.png", content=written())
    never = threading.Event()
    listing, wanted = image_search._listing, image_search._is_wanted
    monkeypatch.setattr(readers, "PATIENCE", 0.2)
    monkeypatch.setattr(
        image_search, "_listing", lambda p: never.wait() if p.name == "dead" else listing(p)
    )
    monkeypatch.setattr(
        image_search, "_is_wanted", lambda p: never.wait() if p.name == "silent" else wanted(p)
    )
    assert found(tmp_path) == ["dead", "silent", "x", "y.png"]
    never.set()


def test_our_own_maps_are_no_input_and_pictures_of_others_are(tmp_path):
    ours, theirs = PngInfo(), PngInfo()
    ours.add_text(*image_search.OUR_SIGN)
    theirs.add_text("Software", "another")
    COLOURS.save(tmp_path / "a_cam.png", pnginfo=ours)
    COLOURS.save(tmp_path / "a_cam-2.png", pnginfo=ours)
    COLOURS.save(tmp_path / "door_cam.png", pnginfo=theirs)
    COLOURS.save(tmp_path / "front_cam.png")
    put(tmp_path, "cut_cam.png", content=written()[:20])
    os.mkfifo(tmp_path / "pipe_cam.png")
    assert found(tmp_path) == ["cut_cam.png", "door_cam.png", "front_cam.png", "pipe_cam.png"]


def test_our_figures_are_no_input_and_pictures_of_others_of_their_names_are(tmp_path):
    figure = figures.png(figures.canvas((1, 1)), "caption", dpi=20)
    (tmp_path / "confusion.png").write_bytes(figure)
    COLOURS.save(tmp_path / "curves.png")
    assert found(tmp_path) == ["curves.png"]


@pytest.mark.parametrize(
    ("files", "is_output"),
    [
        (["x/config.json", "x/metrics.jsonl", "x/log.txt"], True),  # not yet finished
        (["x/sweep/a=1/seed0/config.json", "x/sweep/curves.png"], True),
        (["x/sweep/a=1/seed0/config.json", "x/sweep/another.png"], False),
        (["x/config.json", "x/photograph"], False),
        (["x/notes.txt"], False),
        ([], False),
    ],
)
def test_a_folder_of_our_output_has_files_of_ours_and_no_image_of_others(
    tmp_path, files, is_output
):
    ours = PngInfo()
    ours.add_text(*image_search.OUR_SIGN)
    for file in files:
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in ("", ".png"):
            COLOURS.save(path, "PNG", pnginfo=ours if path.name == "curves.png" else None)
        else:
            path.write_text("{}")
    assert image_search.is_output(tmp_path) == is_output


def test_names_of_any_length_and_bytes_are_found(tmp_path):
    names = [
        b"\xff\xfe.jpg",
        b"n" * 251 + b".jpg",
        "\u043a\u043e\u0442 \U0001f408.JPEG".encode(),
        b"a\nb.png",
        b"$x_$.PNG",
    ]
    for name in names:
        (tmp_path / os.fsdecode(name)).write_bytes(b"")
    assert {os.fsencode(path.name) for path in find_images([str(tmp_path)])} == set(names)
    assert find_images(["x" * 300, str(tmp_path)])[0].name == "x" * 300


def test_a_new_process_finds_all_formats_at_once(tmp_path):
    """Pillow knows few formats, or none, until it is asked for all."""
    for title in "ab":
        (tmp_path / title).mkdir()
        for suffix in (".bmp", ".tga", ".pcx", ".ppm", ".ico", ".jpg", ""):
            place = tmp_path / title / f"x{suffix}"
            Image.new("RGB", (16, 16)).save(place, "BMP" if not suffix else None)
    code = (
        "import sys; from senet_jax.data.sources import folder; "
        "print(sum(map(len, (e.files for e in folder.find('x', sys.argv[1]).examples.values()))))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "14\n"
