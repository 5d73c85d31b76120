"""What the flags of a launcher say of every run."""

import itertools

from absl import flags

from experiments.grid.plan import PlannedRun
from experiments.grid.study import Row
from experiments.launch import choice, local, worker
from senet_jax.runs import workdir
from senet_jax.system import cli


def test_every_launcher_passes_loggers_on(tmp_path, monkeypatch, tiny):
    class Ended:
        wait = staticmethod(lambda: 0)

    got = []

    def train(config, directory, *, log, group, after_evaluation):
        got.append((directory.name, list(log), group))

    monkeypatch.setattr("senet_jax.training.loop.train_and_evaluate", train)
    monkeypatch.setattr("senet_jax.training.result.in_words", lambda *_: "")
    run = PlannedRun(Row("ratio=4", {}), 1, tiny, tmp_path / "ratio=4" / "seed1")
    workdir.start(run.workdir, run.config)

    def start(directory, log, flags, environment):
        worker.main(["worker", str(directory), f"--log={','.join(log)}"])
        return Ended()

    monkeypatch.setattr(local.worker, "start", start)
    monkeypatch.setattr(local, "slices_of_machine", lambda jobs: [local.Slice([], [])] * jobs)
    for jobs, log in itertools.product(([], ["--jobs=2"]), (["tensorboard"], [])):
        values = flags.FlagValues()
        choice.define_flags(values)
        cli.parse_flags(["x", f"--log={','.join(log)}", *jobs], values)
        assert choice.launcher_of(values, [], tmp_path)([run]) == {}
        assert got.pop() == ("seed1", log, "ratio=4")
