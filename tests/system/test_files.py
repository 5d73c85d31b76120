"""A file that is written is there as a whole, or as it was before."""

import os
from pathlib import Path

import pytest

from senet_jax.errors import InputError
from senet_jax.system import files


@pytest.fixture
def order(monkeypatch):
    """What is synced and renamed, in turn: names of files, and of folders with a slash."""
    happened = []

    def fsync(descriptor):
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        happened.append(("sync", f"{path.name}/" if path.is_dir() else path.read_text("utf-8")))

    def replace(source, target):
        happened.append(("rename", Path(target).name))
        os.rename(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    return happened


def test_content_is_on_the_disk_before_the_name_and_the_name_before_the_next_line(order, tmp_path):
    files.write(tmp_path / "a.txt", b"new")
    assert order == [("sync", "new"), ("rename", "a.txt"), ("sync", f"{tmp_path.name}/")]


def test_what_cannot_be_written_leaves_what_was_there(order, tmp_path, monkeypatch):
    files.write(tmp_path / "a.txt", b"old")

    def no_room(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", no_room)
    with pytest.raises(InputError, match=r"a\.txt"):
        files.write(tmp_path / "a.txt", b"new")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]
