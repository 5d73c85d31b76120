"""Search values of a configuration's keys by Optuna, and print the table of what was tried.

    python -m experiments.search --config=configs/cifar.py:seresnet20,cifar100_half \\
        --space='optim.learning_rate=log(0.01,1)' --space='model.se.ratio=2|4|8|16' --trials=30
    python -m experiments.search --config=... --space=... --seeds=0,1 --jobs=4
    python -m experiments.search --config=... --space=... --launcher=slurm --slurm.time=1:00:00

`--space=KEY=VALUES` says what a key may be: `log(LOW,HIGH)`, `uniform(LOW,HIGH)`, `int(LOW,HIGH)`,
or values with | between them. The first trial is the configuration as it is, if the space has it.
`--trials=N` is the number of all trials, those of earlier calls included: the same command
continues. A trial's error is the mean over `--seeds`; the first of them is trained first, and ended
where it is worse than the median of the trials before (`--noprune` keeps all). `--at_once=N` trials
are drawn together, without knowing of each other: by default as many as `--jobs`.

`--launcher`, `--jobs`, `--log`, `--smoke` and `--config.KEY=VALUE` are those of experiments.run,
and so are the files.
"""

if __name__ == "__main__":
    from senet_jax.system import startup

    startup.begin()

import contextlib
import copy
import itertools
import json
import os
import re
import shlex
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from experiments.grid import space, sweep
from experiments.grid.override import override, parse_seeds
from experiments.grid.plan import PlannedRun, plan
from experiments.grid.study import Row, Study
from experiments.grid.trials import STARTUP, Trials
from experiments.launch import Launcher, choice, kind_of_failure, launch, pruning
from senet_jax.config import flatten, plain
from senet_jax.errors import Diverged, InputError, Pruned, counted, refuse
from senet_jax.system import cli, files

CONFIG_FLAG = re.compile(r"--?config=")
JOURNAL = "trials.journal"
MOST_CORNERS = 64  # combinations of values to look at before the first trial
WITH_SLURM = 8  # trials at once on a cluster, where --jobs does not say how many


def main(argv: list[str]) -> None:
    values = define_all_flags()
    rest = cli.parse_flags(argv, values, known_only=True)
    search = Search(values, rest)
    if values.smoke:  # optimised compilation would take most of the time
        os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # in the runs' processes, too
    search.run()

    # These import JAX and the models.
    from experiments.reporting.collect import collect
    from experiments.reporting.write import write_report

    study = search.study(search.rows)
    collected = collect(study, search.directory)
    study = search.reported(study, collected.results)
    problems = [*collected.damaged]
    if collected.results:
        problems += write_report(study, collected.results, search.directory, collected.unfinished)
        print(f"-> {search.directory}/table.md, table.png, curves.png, and CSV of all runs")
        print(search.best(study, collected.results))
    refuse([*problems, *search.failures])


def define_all_flags() -> flags.FlagValues:
    """Define the flags of the command."""
    values = flags.FlagValues()
    cli.define_path("workdir", None, "Default: runs/search-...", flag_values=values)
    flags.DEFINE_multi_string("space", [], "KEY=VALUES.", flag_values=values)
    flags.DEFINE_integer("trials", 20, "All trials.", lower_bound=1, flag_values=values)
    flags.DEFINE_list("seeds", ["0"], "Seeds of each trial.", flag_values=values)
    flags.DEFINE_integer(
        "at_once", None, "Trials drawn together.", lower_bound=1, flag_values=values
    )
    flags.DEFINE_integer(
        "sampler_seed", 0, "Seed of what is drawn.", lower_bound=0, flag_values=values
    )
    flags.DEFINE_bool("prune", True, "End runs worse than the median.", flag_values=values)
    flags.DEFINE_bool("smoke", False, "In miniature.", flag_values=values)
    choice.define_flags(values)
    return values


class Search:
    """A search as the command line describes it.

    Args:
      values: the flags.
      rest: what else is on the command line.

    Raises: InputError if any of it is not valid; nothing has been written then.
    """

    def __init__(self, values: flags.FlagValues, rest: Sequence[str]) -> None:
        others = [argument for argument in rest if not choice.SLURM_FLAG.match(argument)]
        given = [argument.partition("=")[2] for argument in others if CONFIG_FLAG.match(argument)]
        self._overrides = [a for a in others if not CONFIG_FLAG.match(a)]
        if len(given) != 1 or any(not argument.startswith("-") for argument in others):
            raise InputError("a search needs one --config=FILE, and no study or other argument")
        self._values, self._rest, (self._file,) = values, rest, given
        self._seeds = parse_seeds(values.seeds)
        self._base = sweep.load(self._file, smoke=values.smoke)
        with self._base.unlocked():
            self._space = space.parse(self._base, values.space)
        self._first = space.own_values(self._space, self._base)
        corners = itertools.islice(space.corners(self._space), MOST_CORNERS)
        study = self.study([space.row_of(self._space, drawn) for drawn in corners])
        given_base, *_ = self._bases(study)  # which refuses what cannot hold for all rows
        name = study.name + ("-smoke" if values.smoke else "")
        self.directory = Path(values.workdir or Path("runs", name))
        self._identity = {
            **{k: json.dumps(v) for k, v in flatten(plain(given_base)).items() if k != "seed"},
            "--space": " ".join(values.space),
            "--seeds": ",".join(values.seeds),
            "--sampler_seed": values.sampler_seed,
            "--prune": values.prune,
        }
        for key in (*self._space, "seed"):
            self._identity.pop(key, None)
        self.failures: list[str] = []
        self._launcher(keep_going=False)  # before anything is written
        files.check_folder(self.directory, "work directory")

    def study(self, rows: Sequence[Row], **fields: Any) -> Study:
        """The study of some rows."""
        return sweep.study_from("search", self._file, self._base, rows, **fields)

    def _bases(self, study: Study) -> list[Any]:
        bases = [copy.deepcopy(self._base) for _ in study.rows]  # with their references
        return override(bases, self._overrides, study, list(self._values))

    def _launcher(self, *, keep_going: bool) -> Launcher:
        return choice.launcher_of(self._values, self._rest, self.directory, keep_going=keep_going)

    def run(self) -> None:
        """Train what is missing of all trials.

        Raises: InputError if the first trials are refused, which most likely others would be, too;
          if no trial could be trained; or if another process trains some.
        """
        journal, values = self.directory / JOURNAL, self._values
        self._trials = Trials(
            journal, self._space, values.sampler_seed, self._identity, self._first
        )
        alone = values.jobs or (WITH_SLURM if values.launcher == "slurm" else 1)
        size = values.at_once or alone
        try:
            while wave := self._trials.wave(size, values.trials):
                self._train(wave)
        except InputError:
            if self._trials.is_new and not self._trials.count("COMPLETE", "PRUNED", "FAIL"):
                journal.unlink()
                with contextlib.suppress(OSError):  # there is something in it
                    self.directory.rmdir()
            raise

    def _train(self, wave: Sequence[Any]) -> None:
        """Train a wave of trials, first seeds first, and tell how they ended."""
        runs = {trial.number: self._planned(trial) for trial in wave}
        finished = self._trials.count("COMPLETE")
        launcher = self._launcher(keep_going=finished > 0)
        firsts = [each[0] for each in runs.values()]
        if self._values.prune and finished >= STARTUP:
            for run in firsts:
                run.workdir.mkdir(parents=True, exist_ok=True)
                pruning.mark(run.workdir, self.directory / JOURNAL)
        self._launch(firsts, launcher)
        if not finished and all(_failed(run) for run in firsts):
            raise InputError(f"no trial could be trained: {_failed(firsts[0])}")
        lasting = [each for each in runs.values() if _error(each[0]) is not None]
        self._launch([run for each in lasting for run in each[1:]], launcher)
        for trial in wave:
            self._tell(trial, runs[trial.number])

    def _planned(self, trial: Any) -> list[PlannedRun]:
        """The runs of a trial, one for each seed."""
        study = self.study([space.row_of(self._space, trial.params)])
        return plan(study, self._bases(study), self._seeds, self.directory)

    def _launch(self, runs: Sequence[PlannedRun], launcher: Launcher) -> None:
        """Train runs that have not ended; two trials may have drawn the same."""
        by_place = {run.workdir: run for run in runs if _error(run) is None and not _was_worse(run)}
        if by_place:
            launch([*by_place.values()], launcher)

    def _tell(self, trial: Any, runs: Sequence[PlannedRun]) -> None:
        """Say how a trial ended. Raises: InputError if it has not."""
        errors = [error for run in runs if (error := _error(run)) is not None]
        curve = pruning.evaluations(runs[0].workdir)
        reported = [curve[step] for step in sorted(curve)]
        if len(errors) == len(runs):
            self._trials.tell(trial, reported, statistics.fmean(errors))
        elif any(map(_was_worse, runs)):
            self._trials.tell(trial, reported, "pruned")
        elif reasons := [*filter(None, map(_failed, runs))]:
            self.failures.append(f"{runs[0].row.label} failed: {reasons[0]}")
            self._trials.tell(trial, reported, "failed")
        else:
            raise InputError(
                f"trial {trial.number}, {runs[0].row.label}, has not ended, perhaps because "
                "another process trains it; the same command continues"
            )

    @property
    def rows(self) -> list[Row]:
        """The rows of all trials that have ended, each once."""
        rows = [space.row_of(self._space, t.params) for t in self._trials.all]
        return [*{row.label: row for row in rows}.values()]

    def reported(self, study: Study, results: Mapping[str, Any]) -> Study:
        """The study with the best rows first, compared with the configuration as it is."""
        trials = self._trials
        rows = sorted(study.rows, key=lambda row: self.mean(row, results))
        own = None if self._first is None else space.row_of(self._space, self._first).label
        pruned, failed = trials.count("PRUNED"), trials.count("FAIL")
        notes = [
            f"A search of {counted(len(trials.all), 'trial')} by Optuna's TPE (sampler seed "
            f"{self._values.sampler_seed}), of which {pruned} were pruned or diverged and {failed} "
            "failed; rows by their errors, lowest first.",
            "The first row was selected on the split that it is measured on: its error is too low, "
            "the more so the more trials there are, and so are tests and intervals of its gain. "
            "Measure it on images that selected nothing.",
        ]
        if self._overrides:
            notes.append(f"All rows with {' '.join(self._overrides)}.")
        return self.study(rows, notes=tuple(notes), reference=own)

    def mean(self, row: Row, results: Mapping[str, Any]) -> float:
        """The mean error of a row over all seeds; infinite where one has no result."""
        errors = [run["eval/top1_error"] for run in results.get(row.label, [])]
        return statistics.fmean(errors) if len(errors) == len(self._seeds) else float("inf")

    def best(self, study: Study, results: Mapping[str, Any]) -> str:
        """A sentence on the row with the lowest error, with the flags that give it."""
        row = study.rows[0]
        error = self.mean(row, results)
        if error == float("inf"):
            return "lowest: none, as no trial has a result with each seed"
        given = [shlex.quote(f"--config.{key}={value}") for key, value in row.overrides.items()]
        if self._values.smoke:  # whose other values are those of a run in miniature
            given.insert(0, "--smoke")
        others = sum(self.mean(row, results) == error for row in study.rows) - 1
        alike = f", as of {counted(others, 'other row')}" if others else ""
        return (
            f"lowest: top-1 error {error:.2f} %{alike}, selected on these images: "
            f"{' '.join([*self._overrides, *given])}"
        )


def _error(run: PlannedRun) -> float | None:
    """The top-1 error of a finished run; None for others."""
    return (files.read_table(run.workdir / "result.json") or {}).get("eval/top1_error")


def _was_worse(run: PlannedRun) -> bool:
    """Whether a run was pruned or diverged, which says something of its values."""
    return kind_of_failure(run.workdir) in (Pruned.__name__, Diverged.__name__)


def _failed(run: PlannedRun) -> str:
    """The reason why a run failed; "" for one that did not, or diverged."""
    failed = files.read_table(run.workdir / "failed.json") or {}
    return "" if _was_worse(run) else failed.get("reason", "")


if __name__ == "__main__":
    cli.run(main, __doc__, continues=True)
