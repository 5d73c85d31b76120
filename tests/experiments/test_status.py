"""The table of runs says of each what its work directory says."""

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.runs import finish

from experiments import status
from experiments.studies import load_study
from senet_jax.errors import Diverged, Terminated
from senet_jax.runs import lock, workdir
from senet_jax.system import files

ROOT = Path(__file__).parents[2]
ABOUT = {"total_steps": 240, "steps_per_epoch": 16}


def log(directory, *lines):
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (directory / "metrics.jsonl").write_text(text + '{"step": 60, "train/lo')  # being written


@pytest.fixture
def runs(tmp_path, tiny):
    """A run in each state, of a study of three rows."""
    tiny.train.update({"epochs": 15.0, "batch_size": 32})
    places = {"queued": "2", "running": "16", "stale": "32", "failed": "8", "done": "original"}
    directories = {state: tmp_path / row / "seed0" for state, row in places.items()}
    for directory in directories.values():
        workdir.start(directory, tiny)
    for state in ("stale", "failed", "done"):
        with lock.held(directories[state], **ABOUT):
            pass
    log(
        directories["stale"],
        {"step": 8, "train/loss": 3.5, "images_per_second": 10.0},
        {"step": 16, "eval/loss": 2.0, "eval/top1_error": 25.0},
        {"step": 48, "train/loss": 1.25, "images_per_second": 640.0},
    )
    process = directories["stale"] / lock.PROCESS
    files.write_json(process, files.read_json(process) | {"ended": False})
    os.utime(process, (time.time() - 1000,) * 2)
    workdir.fail(directories["failed"], "the loss is nan at step 3\nand more")
    finish(directories["done"], tiny, step=240, **{"eval/top1_error": 5.0, "train/loss": 0.5})
    log(directories["running"], {"step": 48, "train/loss": 1.25, "images_per_second": 640.0})
    with lock.held(directories["running"], **ABOUT):
        yield directories


def test_every_state_is_told_from_the_work_directory(runs):
    for state, directory in runs.items():
        assert status.standing(directory).state == state
    running = status.standing(runs["running"])
    assert (running.step, running.total_steps, running.epoch, running.loss) == (48, 240, 3.0, 1.25)
    assert running.seconds_left == (240 - 48) * 32 / 640
    assert running.host == lock.last_process(runs["running"])["host"]
    stale = status.standing(runs["stale"])
    assert (stale.loss, stale.top1_error, stale.seconds_left) == (1.25, 25.0, None)
    done = status.standing(runs["done"])
    assert (done.step, done.epoch, done.top1_error, done.loss) == (240, 15.0, 5.0, 0.5)
    assert status.standing(runs["failed"]).reason == "the loss is nan at step 3\nand more"
    assert status.standing(runs["queued"]).step is None


def test_a_run_that_stopped_when_asked_waits_for_the_next_launch(runs):
    process = runs["stale"] / lock.PROCESS
    files.write_json(process, files.read_json(process) | {"ended": True})
    assert status.standing(runs["stale"]).state == "stopped"


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (Diverged("the loss is nan at step 3"), "failed", "the loss is nan at step 3"),
        (MemoryError(), "failed", "MemoryError"),
        (Terminated(), "stopped", None),
        (KeyboardInterrupt(), "stopped", None),
    ],
)
def test_how_a_process_without_a_launcher_ended_is_said(tmp_path, tiny, error, state, reason):
    workdir.start(tmp_path, tiny)
    with contextlib.suppress(type(error)), lock.held(tmp_path, **ABOUT):
        raise error
    assert (status.standing(tmp_path).state, status.standing(tmp_path).reason) == (state, reason)
    with lock.held(tmp_path, **ABOUT):  # trained again
        assert status.standing(tmp_path).state == "running"
    assert status.standing(tmp_path).state == "stopped"


def test_runs_behind_links_are_found_once(tmp_path, tiny):
    workdir.start(tmp_path / "elsewhere" / "seed0", tiny)
    root = tmp_path / "runs"
    workdir.start(root / "here" / "seed0", tiny)
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "here" / "above").symlink_to(root)
    found = [run.directory.relative_to(root) for run in status.find(root)]
    assert sorted(map(str, found)) == ["here/seed0", "linked/seed0"]


def test_where_there_is_no_room_for_all_the_rest_is_counted(runs, tmp_path):
    standings = status.find(tmp_path)
    drawn = status.table(tmp_path, standings, room=3)
    (names, *_) = (list(column.cells) for column in drawn.columns)
    assert [str(name) for name in names] == ["16/seed0", "32/seed0", "8/seed0"]
    assert "1 queued, 1 done" in str(drawn.caption)


def test_runs_come_in_the_order_of_the_table(tmp_path, tiny):
    labels = [row.label for row in load_study("reduction").rows]
    for label in reversed(labels):
        for seed in (10, 2):
            workdir.start(tmp_path / label / f"seed{seed}", tiny)
    workdir.start(tmp_path / "2" / "seed2" / workdir.CHECKPOINTS / "5", tiny)  # not a run
    places = [run.directory.relative_to(tmp_path) for run in status.find(tmp_path, labels)]
    assert places == [Path(label, f"seed{seed}") for label in labels for seed in (2, 10)]


def test_the_command_prints_all_runs_without_jax(runs, tmp_path):
    code = (
        "import sys; from experiments import status; status.main(sys.argv);"
        "sys.exit('jax' in sys.modules)"
    )
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    arguments = ("reduction", f"--workdir={tmp_path}", "--watch")
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "40"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    lines = {line.split()[0]: line.split() for line in done.stdout.splitlines() if "/seed0" in line}
    assert lines["16/seed0"][1:8] == ["running", "48/240", "3", "1.2500", "-", "640", "10"]
    assert lines["2/seed0"][1:] == ["queued", *["-"] * 7]
    text = " ".join(done.stdout.split())
    assert "1 running, 1 stale, 1 failed, 1 queued, 1 done" in text
    assert "8/seed0: the loss is nan at step 3" in text
