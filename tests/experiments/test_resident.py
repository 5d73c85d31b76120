"""Processes that train one run after the other: which runs, and what ends one and not another."""

import json
import signal
import subprocess
import sys

import pytest
from helpers.studies import grid

from experiments.launch import LOG, launch, local, worker
from senet_jax.errors import InputError

pytestmark = pytest.mark.usefixtures("hangup_is_answered")

ANSWERING = """
import json, os, pathlib, sys, time
def named():
    yield sys.argv[1]
    yield from map(json.loads, sys.stdin)
answers = open(int(sys.argv[2]), "w")
for path in map(pathlib.Path, named()):
    with open(sys.argv[3], "a") as order:
        print(os.getpid(), path.parent.name, path.name, file=order)
    act = path / "act"
    pathlib.Path(f"{sys.argv[3]} {path.parent.name} {path.name}").touch()
    does, status, reason = json.loads(act.read_text()) if act.exists() else ("answer", 0, "")
    act.unlink(missing_ok=True)
    while does == "wait" and not os.path.exists(reason):
        time.sleep(0.01)
    if status and reason:
        (path / "failed.json").write_text(json.dumps({"reason": reason, "kind": "InputError"}))
    if does == "die":
        sys.exit(status)
    if not status:
        (path / "result.json").write_text('{"wall_time_seconds": 61, "eval/top1_error": 4.5}')
    print(status, file=answers, flush=True)
"""


@pytest.fixture
def answering(monkeypatch, tmp_path):
    """Workers that train nothing, and do what a run's file "act" says.

    Gives a function that reads which processes had which runs, and a list of the processes.
    """
    processes, order = [], tmp_path / "order"

    def start(directory, log, flags, environment, answers):
        arguments = (str(directory), str(answers), str(order))
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", ANSWERING, *arguments],
                stdin=subprocess.PIPE,
                pass_fds=(answers,),
            )
        )
        return processes[-1]

    monkeypatch.setattr(worker, "start", start)
    return lambda: [line.split() for line in order.read_text().splitlines()], processes


def acts(run, *act):
    """Have a worker do something other with a run than answer that it is trained."""
    (run.workdir / "act").write_text(json.dumps(act))


def test_a_worker_trains_one_run_after_the_other(tiny, tmp_path, answering, capfd):
    had, processes = answering
    runs = grid(tiny, tmp_path / "a\nb", range(4))
    for run in runs:
        run.workdir.mkdir(parents=True)
    taken, bad, dying = runs[1], runs[2], runs[4]
    acts(taken, "answer", worker.OCCUPIED, "")
    acts(bad, "answer", worker.REFUSED, "it is too small")
    acts(dying, "die", 1, "a surprise")
    failures = local.train(runs, [local.Slice([0], [])])
    assert failures == {bad.workdir: "it is too small", dying.workdir: "a surprise"}
    said = capfd.readouterr().out
    assert said.count(": started") == len(runs)
    assert said.count(": done in 61 s, top-1 error 4.50 %\n") == len(runs) - 3
    assert f"{taken.row.label}, seed 0: skipped: another process" in said
    # One process until it died, and another for the rest; both have ended, by themselves.
    numbers = [number for number, *_ in had()]
    assert numbers == [str(processes[0].pid)] * 5 + [str(processes[1].pid)] * 3
    assert [process.returncode for process in processes] == [1, 0]


def test_a_run_without_its_folder_or_its_log_or_ended_alone_stops_no_other(
    tiny, tmp_path, answering
):
    had, processes = answering
    runs = grid(tiny, tmp_path / "runs", range(3))
    removed, occupied, told = runs[1], runs[2], runs[3]
    for run in runs:
        run.workdir.mkdir(parents=True)
    removed.workdir.rmdir()
    (occupied.workdir / LOG).mkdir()
    acts(told, "die", 128 + signal.SIGTERM, "")
    failures = local.train(runs, [local.Slice([0], [])])
    assert failures == {
        removed.workdir: f"{removed.workdir / LOG} cannot be written: No such file or directory",
        occupied.workdir: f"{occupied.workdir / LOG} cannot be written: Is a directory",
        told.workdir: "its process alone was told to end",
    }
    assert len(had()) == len(runs) - 2
    assert len(processes) == 2  # another one after that which was told to end, and only then


def test_a_row_stays_with_the_worker_that_compiled_it(tiny, tmp_path, answering):
    """But no seed begins before all runs of the one before are taken."""
    had, _ = answering
    runs = grid(tiny, tmp_path / "runs", range(3))
    for run in runs:
        run.workdir.mkdir(parents=True)
    (first, second), (later, again) = runs[:2], runs[2:4]
    acts(first, "wait", 0, str(again.workdir / "result.json"))
    begun = f"{tmp_path / 'order'} {first.row.label} {first.workdir.name}"
    acts(second, "wait", 0, begun)  # its process may start sooner
    assert local.train(runs, [local.Slice([0], []), local.Slice([0], [])]) == {}
    workers = {(row, seed): number for number, row, seed in had()}
    assert workers[second.row.label, "seed0"] == workers[again.row.label, "seed1"]
    seeds = [seed for *_, seed in had()]
    assert seeds.index("seed2") > max(place for place, seed in enumerate(seeds) if seed == "seed0")
    assert later.row == first.row


def test_a_first_run_that_is_refused_ends_all_and_leaves_nothing(tiny, tmp_path, answering):
    had, processes = answering

    def train(runs):
        acts(runs[0], "answer", worker.REFUSED, "it is too small")
        return local.train(runs, [local.Slice([0], [])])

    runs = grid(tiny, tmp_path / "runs" / "of" / "it", (0, 1))
    with pytest.raises(InputError, match="it is too small"):
        launch(runs, train)
    assert len(had()) == len(processes) == 1
    assert processes[0].returncode is not None
    assert not (tmp_path / "runs").exists()
