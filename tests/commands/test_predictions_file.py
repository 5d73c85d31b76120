"""The file that --predictions names: what it may replace, and what it survives."""

import csv
import errno
import os
import shutil

import pytest

from senet_jax import evaluate
from senet_jax.errors import InputError

pytestmark = pytest.mark.usefixtures("_leave_the_process_as_it_is")


def write(run, path):
    evaluate.main(["evaluate", f"--workdir={run}", "--split=test[:3]", f"--predictions={path}"])


def rows(path):
    with path.open(newline="") as file:
        return len(list(csv.DictReader(file)))


@pytest.fixture
def files(run, tmp_path):
    """Files that are no predictions: one that hangs, one of a run, somebody's, and an output."""
    os.mkfifo(tmp_path / "pipe")
    shutil.copy(run / "result.json", tmp_path)
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "output").touch()
    return tmp_path


@pytest.mark.parametrize("name", ["pipe", "result.json", "notes.txt", "output"])
def test_predictions_replace_nothing_but_predictions(run, files, monkeypatch, name):
    before = (files / name).lstat()
    with (files / "output").open("a") as output, monkeypatch.context() as patched:
        patched.setattr(os, "fstat", lambda _, fstat=os.fstat: fstat(output.fileno()))
        with pytest.raises(InputError, match=f"--predictions=.*{name} cannot be written: "):
            evaluate.check_writable(files / name)
    assert (files / name).lstat()[:7] == before[:7]  # all but its times


def test_they_replace_older_ones_and_what_a_link_leads_to(run, tmp_path):
    (tmp_path / "empty").touch()
    (tmp_path / "link").symlink_to("linked.csv")
    for name in ("new.csv", "empty", "link", "link"):
        write(run, tmp_path / name)
        assert rows(tmp_path / name) == 3
    assert (tmp_path / "link").is_symlink()


def test_output_that_cannot_be_written_does_not_take_them_with_it(run, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("builtins.print", full)
    with pytest.raises(OSError, match="No space"):
        write(run, tmp_path / "predictions.csv")
    assert rows(tmp_path / "predictions.csv") == 3
