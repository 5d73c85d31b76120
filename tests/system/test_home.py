"""A user without a home has one while a command runs, and hears of it once."""

import os
import tempfile
from pathlib import Path

import pytest
from helpers.disks import mounted

from senet_jax.system import home


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))  # is put back after the test
    return lambda: os.environ["HOME"] if "senet_jax_home_" in os.environ["HOME"] else None


def test_a_home_that_can_be_written_stays(stand_in, capfd):
    home.ensure()
    assert stand_in() is None
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("where", ["nowhere", "file", "missing"])
def test_no_home_is_a_temporary_one_and_said_once(stand_in, tmp_path, monkeypatch, capfd, where):
    if where == "nowhere":  # as for an unknown user
        monkeypatch.delenv("HOME")
        monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])
    else:
        monkeypatch.setenv("HOME", str(tmp_path / where))
        (tmp_path / "file").write_text("")
    home.ensure()
    home.ensure()  # in a command that this one starts
    assert Path.home() == Path(stand_in())
    assert Path.home().is_dir()
    assert capfd.readouterr().err.count("warning: there is no home folder") == 1


def test_a_home_that_can_only_be_read_stays_if_there_is_something_to_read(
    stand_in, tmp_path, monkeypatch
):
    with mounted(tmp_path / "disk", "ro") as disk:
        monkeypatch.setenv("HOME", str(disk))
        home.ensure()
        assert stand_in()
        monkeypatch.setenv("HOME", str(disk))
        monkeypatch.setattr(home, "KEPT", (".",))
        home.ensure()
        assert stand_in() is None
