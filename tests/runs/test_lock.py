"""One process at a time in a work directory, whatever became of the one before."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from helpers.runs import contents

from senet_jax.errors import InputError, Occupied
from senet_jax.runs import lock
from senet_jax.system import files
from senet_jax.training import loop
from senet_jax.training.loop import train_and_evaluate

ROOT = Path(__file__).parents[2]
HOLD = (
    "import sys, time, pathlib; from senet_jax.runs import lock\n"
    "with lock.held(pathlib.Path(sys.argv[1]), total_steps=3):\n"
    "    print('held', flush=True); time.sleep(100)\n"
)


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_is_told_of_the_first_and_a_killed_one_holds_nothing(holder, tmp_path):
    before = contents(tmp_path)
    with (
        pytest.raises(Occupied, match=rf"{holder.pid} on {socket.gethostname()}, is training in"),
        lock.held(tmp_path),
    ):
        pytest.fail("both are in")
    assert contents(tmp_path) == before
    found = lock.last_process(tmp_path)
    assert (found["total_steps"], found["alive"]) == (3, True)
    holder.kill()
    holder.wait()
    with lock.held(tmp_path):
        assert lock.last_process(tmp_path)["pid"] == os.getpid()
    assert lock.last_process(tmp_path)["alive"] is False


def test_an_error_inside_gives_the_directory_free(tmp_path):
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), lock.held(tmp_path):
            raise KeyboardInterrupt
        assert lock.last_process(tmp_path)["ended"]


@pytest.mark.parametrize("alive", [True, False])
def test_a_process_on_another_machine_holds_it_as_long_as_it_breathes(tmp_path, monkeypatch, alive):
    """As on a file system that does not pass locks on: `.lock` is free."""
    monkeypatch.setattr(lock, "BEAT", 0.1)
    process = tmp_path / lock.PROCESS
    files.write_json(process, {"host": "elsewhere", "pid": 7, "ended": False})
    ended = threading.Event()

    def breathe():
        while not ended.wait(0.05):
            os.utime(process)

    thread = threading.Thread(target=breathe)
    if alive:
        thread.start()
    try:
        refused = pytest.raises(Occupied, match="another process, 7 on elsewhere, is training")
        with refused if alive else contextlib.nullcontext(), lock.held(tmp_path):
            assert not alive
    finally:
        ended.set()
        if alive:
            thread.join()


def test_a_process_that_is_busy_breathes(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "BEAT", 0.02)
    with lock.held(tmp_path):
        first = lock._last_beat(tmp_path)
        deadline = time.monotonic() + 10
        while lock._last_beat(tmp_path) == first:
            assert time.monotonic() < deadline
            sum(range(1000))


def test_a_run_is_refused_where_another_process_trains_and_writes_nothing(
    tiny, tmp_path, one_device, holder
):
    before = contents(tmp_path)
    with pytest.raises(Occupied, match=f"another process, {holder.pid} on"):
        train_and_evaluate(tiny, tmp_path, one_device)
    assert contents(tmp_path) == before
    assert issubclass(Occupied, InputError)


def test_what_another_process_has_finished_meanwhile_is_not_done_again(
    tiny, tmp_path, one_device, monkeypatch
):
    @contextlib.contextmanager
    def after_another(directory, **about):
        loop.workdir.start(directory, tiny)
        files.write_json(directory / "result.json", {"step": 8})
        yield

    monkeypatch.setattr(lock, "held", after_another)
    assert train_and_evaluate(tiny, tmp_path, one_device) == {"step": 8}
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "result.json"}
