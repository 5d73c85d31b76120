"""What the flags of a launcher say of every run."""

import itertools

import pytest
from absl import flags

from experiments.grid.plan import PlannedRun
from experiments.grid.study import Row
from experiments.launch import choice, local, worker
from senet_jax.runs import workdir
from senet_jax.system import cli


def test_every_launcher_passes_loggers_on(tmp_path, monkeypatch, tiny):
    class Ended:
        stdin, wait = None, staticmethod(lambda: 0)

    got = []

    def train(config, directory, *, log, group, after_evaluation):
        got.append((directory.name, list(log), group))

    monkeypatch.setattr("senet_jax.training.loop.train_and_evaluate", train)
    monkeypatch.setattr("senet_jax.training.result.in_words", lambda *_: "")
    run = PlannedRun(Row("ratio=4", {}), 1, tiny, tmp_path / "ratio=4" / "seed1")
    workdir.start(run.workdir, run.config)

    def start(directory, log, flags, environment, answers):
        worker.main(["worker", str(directory), f"--log={','.join(log)}"])
        return Ended()

    monkeypatch.setattr(worker, "start", start)
    monkeypatch.setattr(local, "slices_of_machine", lambda jobs: [local.Slice([], [])] * jobs)
    for jobs, log in itertools.product(([], ["--jobs=2"]), (["tensorboard"], [])):
        values = flags.FlagValues()
        choice.define_flags(values)
        cli.parse_flags(["x", f"--log={','.join(log)}", *jobs], values)
        assert choice.launcher_of(values, [], tmp_path)([run]) == {}
        assert got.pop() == ("seed1", log, "ratio=4")


@pytest.mark.parametrize(
    ("size", "jobs", "alone", "each"),
    [
        (0, [], True, 3),
        (0, [], False, None),
        (0, ["--jobs=1"], True, None),
        (0, ["--jobs=2"], True, 2),
        (64, [], True, None),
        (-1, [], True, None),
    ],
)
def test_small_networks_have_a_processor_each(tmp_path, monkeypatch, tiny, size, jobs, alone, each):
    got = []
    monkeypatch.setattr(local, "has_processors_alone", lambda: alone)
    monkeypatch.setattr(local.processors, "usable", lambda: [1, 4, 6, 7])
    monkeypatch.setattr(local.processors, "at_once", lambda: 3)
    monkeypatch.setattr(local, "visible_gpus", list)
    monkeypatch.setattr(choice.serial, "train", lambda runs, **_: got.append(None) or {})
    monkeypatch.setattr(
        choice.local, "train", lambda runs, parts, **_: got.append([p.processors for p in parts])
    )
    monkeypatch.setattr(choice, "in_waves", lambda launcher: launcher)
    tiny.data.image_size = size
    runs = [PlannedRun(Row("a", {}), seed, tiny, tmp_path / str(seed)) for seed in range(5)]
    values = flags.FlagValues()
    choice.define_flags(values)
    cli.parse_flags(["x", *jobs], values)
    choice.launcher_of(values, [], tmp_path, chooses=True)(runs)
    expected = {None: [None], 2: [[[1, 4], [6, 7]]], 3: [[[1], [4], [6]]]}
    assert got == expected[each]
    choice.launcher_of(values, [], tmp_path)(runs)  # who does not let it choose
    assert got[1:] == ([None] if not jobs else got[:1])


def test_no_more_runs_at_once_than_there_is_memory_for(monkeypatch):
    monkeypatch.setattr(local.processors, "usable", lambda: list(range(64)))
    monkeypatch.setattr(local.processors, "at_once", lambda: 64)
    for gibibytes, most, count in ((1000, 100, 64), (1000, 18, 18), (24, 18, 6), (1, 18, 1)):
        monkeypatch.setattr(local.host_memory, "available", lambda g=gibibytes: g * 2**30)
        parts = local.processor_each(most)
        assert [part.processors for part in parts] == [[number] for number in range(count)]
