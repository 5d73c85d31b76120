"""What is kept of a dataset is what it was made of, or made again; several may come at once."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers.disks import mounted

from senet_jax.data.sources import kept
from senet_jax.system import cache_folder


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "senet_jax" / kept.FOLDER


class Maker:
    """Makes two arrays, and counts how often."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return np.arange(24, dtype=np.uint8).reshape(2, 3, 4), np.array([5, -1])

    def get(self, stamp=("x", 1)):
        return kept.arrays("place", stamp, ["image", "label"], self)


def check(arrays):
    for array, expected in zip(arrays, Maker()(), strict=True):
        np.testing.assert_array_equal(array, expected)
        assert array.dtype == expected.dtype
        assert not array.flags.writeable


def test_an_array_is_made_once_and_then_mapped_from_disk():
    make = Maker()
    for _ in range(3):
        check(arrays := make.get())
        assert all(isinstance(array.base, np.memmap) for array in arrays)
    assert make.calls == 1


def test_another_stamp_makes_it_anew_in_the_place_of_the_one_before(folder):
    make = Maker()
    make.get()
    files = sorted(folder.glob("*.npy"))
    check(make.get(["x", 2]))
    assert make.calls == 2
    assert sorted(folder.glob("*.npy")) == files
    make.get(["x", 2])
    assert make.calls == 2


@pytest.mark.parametrize("at", [0, 9, 60, -40, -3])
def test_a_changed_byte_is_noticed(folder, at):
    make = Maker()
    make.get()
    for path in folder.glob("*.npy"):
        content = bytearray(path.read_bytes())
        content[at] ^= 1
        path.write_bytes(content)
    check(make.get())
    assert make.calls == 2


@pytest.mark.parametrize("size", [0, 5, 100, 130, 150])
def test_a_file_cut_short_is_noticed(folder, size):
    make = Maker()
    make.get()
    for path in folder.glob("*.npy"):
        os.truncate(path, size)
    check(make.get())
    assert make.calls == 2


def test_nothing_is_kept_without_a_stamp_or_a_folder(folder, monkeypatch):
    make = Maker()
    for _ in range(2):
        check(make.get(None))
    assert not folder.exists() or not list(folder.glob("*.npy"))
    monkeypatch.setattr(cache_folder, "own_folder", lambda name: None)
    check(make.get())
    assert make.calls == 3


@pytest.mark.parametrize("options", ["ro", "size=64k"])
def test_a_disk_that_takes_nothing_is_no_error(tmp_path, monkeypatch, options):
    """What does not fit is made each time, and no part of it stays behind."""
    with mounted(tmp_path / "disk", options) as disk:
        monkeypatch.setenv("XDG_CACHE_HOME", str(disk))
        calls = []

        def make():
            calls.append(1)
            return [np.ones(2**18, np.uint8)]

        for _ in range(2):
            (array,) = kept.arrays("place", 1, ["image"], make)
            assert array.sum() == 2**18
        assert len(calls) == 2
        assert not list(disk.rglob("*.tmp"))


def test_of_several_that_come_at_once_one_makes_it():
    made = []

    def make():
        made.append(1)
        time.sleep(0.2)
        return [np.arange(5)]

    def come(_):
        return kept.arrays("place", 1, ["image"], make)[0].tolist()

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(come, range(3))) == [[0, 1, 2, 3, 4]] * 3
    assert made == [1]
