"""A search loses no trial and has none twice, and says what its numbers are worth.

The file is long because all its tests search with the same stand-in for training.
"""

import csv
import json
import math
import sys

import numpy as np
import pytest
from helpers.runs import finish

from experiments import search
from experiments.grid import space, sweep, trials
from experiments.grid.plan import PlannedRun
from experiments.grid.study import Row
from experiments.launch import is_pruned, kind_of_failure, launch, pruning, serial
from senet_jax.errors import Diverged, InputError
from senet_jax.system import files

FILE = "configs/digits.py:seresnet20"
RATE, RATIO = "optim.learning_rate=log(0.001,1)", "model.se.ratio=2|4|8|16"

try:
    import optuna
except ImportError:
    optuna = None
needs_optuna = pytest.mark.skipif(optuna is None, reason="no optuna")


# --- Trials, with runs that need no training ------------------------------------------------------


class Fake:
    """In place of training: a curve that goes down to an error that depends on the values."""

    def __init__(self, at=None, outcome=None):
        self.calls, self.at, self.outcome = [], at, outcome

    def __call__(self, config, directory, *, log, group, after_evaluation):
        self.calls.append(directory)
        if self.outcome and (error := self.outcome(config)):
            raise error
        if self.at is not None and len(self.calls) > self.at:
            raise KeyboardInterrupt
        last = 20 + 10 * abs(math.log10(config.optim.learning_rate / 0.03)) + config.seed
        curve = [last + 30 / n for n in (1, 2, 3)]
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "metrics.jsonl").write_text("")
        for number, error in enumerate(curve, start=1):
            with (directory / "metrics.jsonl").open("a") as file:
                line = {"step": 10 * number, "eval/top1_error": error, "eval/loss": 1.0}
                file.write(json.dumps(line) + "\n")
            if after_evaluation:
                after_evaluation(10 * number, {"top1_error": error})
        finish(directory, config, curve, **{"eval/top1_error": curve[-1]})


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Search in a folder below, by `train` in place of training."""

    def go(train, folder="s", *flags, spaces=(RATE, RATIO), trials=12, draw=False):
        monkeypatch.setattr("senet_jax.training.loop.train_and_evaluate", train)
        if not draw:  # it takes longer than all else
            monkeypatch.setattr("experiments.reporting.write.figure_files", lambda *_: {})
        argv = ["search", f"--config={FILE}", f"--workdir={tmp_path / folder}"]
        argv.append(f"--trials={trials}")
        argv += [*(f"--space={text}" for text in spaces), *flags]
        monkeypatch.setattr(sys, "argv", argv)
        search.main(argv)
        return trials_of(tmp_path / folder)

    return go


def trials_of(directory):
    study = trials.load(directory / search.JOURNAL)
    return [(t.params, t.state.name, t.value, t.intermediate_values) for t in study.trials]


@needs_optuna
def test_killed_and_continued_it_is_the_search_that_never_was(run, tmp_path, capsys):
    flags = ("--seeds=0,1", "--at_once=3")
    whole = run(Fake(), "whole", *flags)
    assert len(whole) == 12
    states = [state for _, state, _, _ in whole]
    assert {*states} == {"COMPLETE", "PRUNED"}
    for at in (1, 9):
        with pytest.raises(KeyboardInterrupt):
            run(Fake(at), f"cut{at}", *flags)
        with pytest.raises(KeyboardInterrupt):
            run(Fake(2), f"cut{at}", *flags)
        train = Fake()
        assert run(train, f"cut{at}", *flags) == whole
        assert len({*train.calls}) == len(train.calls)
    train = Fake()
    assert run(train, "whole", *flags) == whole
    assert train.calls == []
    more = run(train, "whole", *flags, trials=15)
    assert more[:12] == whole
    assert len(more) == 15
    tables = [(tmp_path / folder / "table.csv").read_text() for folder in ("cut1", "cut9")]
    assert tables[0] == tables[1]


@needs_optuna
def test_the_first_trial_is_the_configuration_and_values_are_means_over_seeds(run, tmp_path):
    found = run(Fake(), "s", "--seeds=0,4", "--noprune", trials=3, draw=True)
    assert found[0][0] == {"optim.learning_rate": 0.1, "model.se.ratio": "16"}
    own = "learning_rate=0.1,ratio=16"
    errors = [
        json.loads((tmp_path / "s" / own / f"seed{seed}" / "result.json").read_text())
        for seed in (0, 4)
    ]
    mean = sum(error["eval/top1_error"] for error in errors) / 2
    assert found[0][2] == pytest.approx(mean)
    with (tmp_path / "s" / "table.csv").open() as file:
        rows = [*csv.DictReader(file)]
    means = [float(row["our_top1_error_mean"]) for row in rows]
    assert means == sorted(means)
    assert [float(row["our_gain"]) for row in rows if row["our_gain"]]
    text = (tmp_path / "s" / "table.md").read_text()
    assert "selected on the split that it is measured on" in text
    assert f"top-1 error of {own} less" in text
    assert {"table.png", "curves.png", "runs.csv"} <= {p.name for p in (tmp_path / "s").iterdir()}


@needs_optuna
def test_what_is_pruned_was_worse_than_the_median_of_finished_trials(run, tmp_path):
    """By NumPy on the curves, one trial after the other."""
    found = run(Fake(), trials=16)
    finished = []
    for _, state, value, curve in found:
        errors = [curve[number] for number in sorted(curve)]
        worse = [
            len(finished) >= 5 and min(errors[:n]) > np.median([f[n - 1] for f in finished])
            for n in range(1, len(errors) + 1)
        ]
        if state == "COMPLETE":
            assert not any(worse)
            assert (len(errors), value) == (3, errors[-1])
            finished.append(errors)
        else:
            assert worse == [False] * (len(errors) - 1) + [True]
    assert 5 <= len(finished) < 16
    text = (tmp_path / "s" / "table.md").read_text()
    assert text.count("seed 0 was pruned at evaluation") > 0
    assert "failed:" not in text
    pruned = [path for path in (tmp_path / "s").glob("*/seed0") if is_pruned(path)]
    assert len(pruned) == sum(state == "PRUNED" for _, state, _, _ in found)


@needs_optuna
def test_a_trial_that_diverges_or_fails_does_not_end_the_search(run, tmp_path):
    def outcome(config):
        if config.optim.learning_rate > 0.3:
            return Diverged("the loss is not finite")
        if config.model.se.ratio == 8:
            return InputError("no 8")
        return None

    with pytest.raises(InputError, match="ratio=8 failed: no 8") as caught:
        run(Fake(outcome=outcome), trials=16)
    found = trials_of(tmp_path / "s")
    for params, state, _, _ in found:
        if params["optim.learning_rate"] > 0.3:
            assert state == "PRUNED"
        elif params["model.se.ratio"] == "8":
            assert state == "FAIL"
    assert {"COMPLETE", "FAIL", "PRUNED"} == {state for _, state, _, _ in found}
    assert "not finite" not in str(caught.value)
    assert (tmp_path / "s" / "table.md").exists()


@needs_optuna
def test_the_flags_of_the_lowest_are_those_of_its_runs(run, monkeypatch, capsys):
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # as --smoke sets it, for longer
    for flags, given in (((), "images: --config"), (("--smoke",), "images: --smoke --config")):
        run(Fake(), f"s{len(flags)}", *flags, spaces=(RATIO,), trials=1)
        assert f"{given}.model.se.ratio=" in capsys.readouterr().out


@needs_optuna
def test_a_lowest_error_that_several_rows_have_is_said_to_be(run, capsys):
    """The error of `Fake` does not depend on the ratio."""
    rows = len({params["model.se.ratio"] for params, *_ in run(Fake(), "s", spaces=(RATIO,))})
    assert f"as of {rows - 1} other row" in capsys.readouterr().out
    run(Fake(), "rates", spaces=(RATE,), trials=4)
    assert "as of" not in capsys.readouterr().out


@needs_optuna
@pytest.mark.parametrize("first_lacks", ["its first seed", "its second seed"])
def test_a_trial_that_lacks_a_seed_is_never_the_lowest(run, first_lacks, capsys):
    """Its mean would be that of other seeds than the mean of the others."""

    def outcome(config):
        is_first = config.optim.learning_rate == 0.1
        lacking = 0 if is_first and first_lacks == "its first seed" else 1
        return Diverged("the loss is not finite") if config.seed == lacking else None

    run(Fake(outcome=outcome), "s", "--seeds=0,1", trials=3)
    assert "lowest: none, as no trial has a result with each seed" in capsys.readouterr().out


@needs_optuna
def test_a_refused_first_trial_leaves_nothing(run, tmp_path):
    for jobs in ([], ["--at_once=2"]):
        with pytest.raises(InputError, match="bad batch"):
            run(Fake(outcome=lambda _: InputError("bad batch")), "a", *jobs)
        assert not [*tmp_path.iterdir()]


@needs_optuna
@pytest.mark.parametrize(
    ("flags", "spaces", "differs"),
    [
        (["--config.train.epochs=7"], (RATE, RATIO), r"train\.epochs \(\S+ there, 7\.0 now\)"),
        (["--seeds=0,1"], (RATE, RATIO), r"--seeds \(0 there, 0,1 now\)"),
        (["--sampler_seed=1"], (RATE, RATIO), "--sampler_seed"),
        ([], (RATE, "model.se.ratio=2|4"), "--space"),
    ],
)
def test_another_search_is_refused_and_loses_nothing(run, flags, spaces, differs, tmp_path):
    before = run(Fake(), trials=2)
    with pytest.raises(InputError, match=f"holds another search, differing in {differs}"):
        run(Fake(), "s", *flags, spaces=spaces)
    assert trials_of(tmp_path / "s") == before


@needs_optuna
def test_a_journal_that_was_cut_short_or_damaged(run, tmp_path):
    before = run(Fake(), trials=3)
    journal = tmp_path / "s" / search.JOURNAL
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code": 4, "wor')
    assert run(Fake(), trials=3) == before
    assert run(Fake(), trials=5)[:3] == before
    journal.write_bytes(b"nonsense\n" + whole)
    with pytest.raises(InputError, match=r"trials\.journal cannot be read"):
        run(Fake(), trials=5)


@needs_optuna
@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["reduction"], "needs one --config=FILE, and no study"),
        (["--config=x.py"], "needs one --config"),
        (["--config.seed=3"], r"--config\.seed is what the study varies"),
        (["--config.model.se.ratio=3"], r"model\.se\.ratio is what the study varies"),
        (["--config.train.epoch=3"], r"unknown key --config\.train\.epoch"),
        (["--spac=x"], "unknown flag --spac; did you mean 'space'"),
        (["--seeds=a"], "whole numbers from 0"),
        (["--trials=0"], "trials"),
        (["--slurm.time=3"], "--slurm.time needs --launcher=slurm"),
        (["--log=tb"], "--log takes tensorboard"),
        (["--jobs=1000"], "--jobs must be from 1"),
        (["--space=optim.factor=0.1|0.2", "--space=optim.schedule=step|cosine"], "has no effect"),
    ],
)
def test_bad_flags_are_one_sentence_before_anything_is_written(run, flags, sentence, tmp_path):
    with pytest.raises(InputError, match=sentence):
        run(Fake(), "s", *flags)
    assert not [*tmp_path.iterdir()]


def test_without_optuna_it_is_one_sentence(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match=r"needs optuna, which is not installed: pip install -e"):
        run(Fake())
    assert not [*tmp_path.iterdir()]


# --- With training --------------------------------------------------------------------------------


@needs_optuna
def test_a_real_run_is_pruned_at_its_evaluation_and_continues_to_be(tiny, tmp_path, capsys):
    journal = tmp_path / search.JOURNAL
    found = trials.Trials(
        journal, space.parse(sweep.load(FILE, smoke=False), [RATE]), 0, {"a": 1}, None
    )
    for wave in iter(lambda: found.wave(1, trials.STARTUP), []):
        found.tell(wave[0], [99.0, 1.0], 1.0)
    run = PlannedRun(Row("x", {}), 0, tiny, tmp_path / "x" / "seed0")
    run.workdir.mkdir(parents=True)
    pruning.mark(run.workdir, journal)
    assert launch([run], serial.train) == {}
    assert is_pruned(run.workdir)
    assert not (run.workdir / "result.json").exists()
    assert "pruned at evaluation 2, step 8: its lowest" in capsys.readouterr().out
    assert kind_of_failure(run.workdir) == "Pruned"
    assert len(pruning.evaluations(run.workdir)) == 2
    assert "pruned" in files.read_json(run.workdir / "failed.json")["reason"]


@needs_optuna
@pytest.mark.slow(reason="eight real runs in processes of their own")
def test_several_at_once_on_this_machine(tmp_path, monkeypatch):
    argv = ["search", f"--config={FILE}", "--smoke", "--jobs=2", "--trials=8", f"--space={RATIO}"]
    argv += [f"--space={RATE}", f"--workdir={tmp_path / 's'}"]
    monkeypatch.setattr(sys, "argv", argv)
    search.main(argv)
    states = [state for _, state, _, _ in trials_of(tmp_path / "s")]
    assert len(states) == 8
    assert {*states} <= {"COMPLETE", "PRUNED"}
    assert (tmp_path / "s" / "table.md").exists()
