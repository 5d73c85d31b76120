"""A run between two steps: its state, what the loop knows beside it, and when both are saved."""

import dataclasses
import math
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from senet_jax.errors import Diverged
from senet_jax.evaluation import metrics
from senet_jax.runs import checkpoints, provenance
from senet_jax.system import processes
from senet_jax.system.devices import replicate, to_global, to_local
from senet_jax.system.processes import on_first
from senet_jax.training import optim, seen, teacher
from senet_jax.training.prepare import Run
from senet_jax.training.state import TrainState
from senet_jax.training.step import parts_of
from senet_jax.training.steps import Step

ADVICE = "try a smaller optim.learning_rate"
PRETRAINED = ("pretrained_sha256", "pretrained_channels", *teacher.RECORDS, seen.RECORD)
NORMS = ("gradient_norm", "parameter_norm")
MAX_SKIPPED = 20  # updates one after another that on_nan="skip" may skip: then nothing is learned


@dataclasses.dataclass
class Session:
    """The training of a run, by this process and those that it continues, up to some step.

    Attributes:
      run: data, model and steps.
      directory: folder of the run's checkpoints.
      started: when this process began, by time.perf_counter.
      state: the state after `step` updates.
      step: number of updates done.
      evaluation_owed: whether the evaluation after this step is still to be done.
      pending: what the latest calls returned beside the state, on the device; see `settle`.
      window: sums over the steps before them since training metrics were last written.
      skipped_in_a_row: number of the latest updates, one after another, that were skipped.
      measured: metrics so far, the latest of each name.
      best: lowest evaluation top-1 error in per cent, and its step.
      environments: what the run was computed with, see provenance.environment, from its beginning
        on; more than one if it was continued with something else.
      earlier_seconds: time that earlier processes took, up to their last checkpoints.
      pretrained: what the result says of the weights that the run started from and of its teacher;
        {} for none.
    """

    run: Run
    directory: Path
    started: float
    state: TrainState
    step: int = 0
    evaluation_owed: bool = False
    pending: list[Mapping[str, Any]] = dataclasses.field(default_factory=list)
    window: dict[str, float] = dataclasses.field(default_factory=dict)
    skipped_in_a_row: int = 0
    measured: dict[str, Any] = dataclasses.field(default_factory=dict)
    best: tuple[float, int] | None = None
    environments: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    earlier_seconds: float = 0.0
    pretrained: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self.latest: dict[str, float] = {}  # what is not summed, of the latest step
        self._settled_sums: list[Mapping[str, Any]] = []  # not in `window` yet
        self._saved_at = time.perf_counter()
        self._save_best = False

    @classmethod
    def resume(cls, run: Run, directory: Path, started: float) -> "Session":
        """Continue from the latest checkpoint, or start from the beginning where there is none.

        Raises: InputError if there are checkpoints and none can be read, they do not fit, or the
          dataset has changed since.
        """
        # At once: files may change while it trains.
        now = provenance.environment(run.devices, run.model)
        if not on_first(lambda: checkpoints.complete_steps(directory)):
            return cls(
                run,
                directory,
                started,
                run.initial_state,
                environments=[now],
                pretrained=run.pretrained,
            )
        saved = checkpoints.restore(directory, to_global(run.initial_state.saved, run.devices))
        say(f"continuing from step {saved.step}/{run.plan.total_steps}")
        notes = saved.notes
        run.dataset.check_unchanged(notes.get("dataset", {}), directory.parent)
        teacher.check_unchanged(run.pretrained, notes, directory.parent)
        environments = notes["environments"]
        if changed := provenance.changes(environments[-1], now):
            say(
                f"warning: this run was begun with another {changed}; result.json will have both, "
                "and its bits are not those of a run in one environment"
            )
            environments.append(now)
        return cls(
            run,
            directory,
            started,
            run.initial_state.resumed(to_local(saved.state, run.devices)),
            saved.step,
            notes["evaluation_owed"],
            window=notes["window"],
            skipped_in_a_row=notes["skipped_in_a_row"],
            measured=notes["measured"],
            best=tuple(notes["best"]) if notes["best"] else None,
            environments=environments,
            earlier_seconds=notes["seconds"],
            pretrained={key: notes[key] for key in PRETRAINED if notes.get(key)},
        )

    @property
    def seconds(self) -> float:
        """Wall time of all processes that worked on the run; not what a killed one did in vain."""
        return self.earlier_seconds + time.perf_counter() - self.started

    def advance(self, step: Step, batch: Any, count: int) -> None:
        """Call a step function, which does `count` steps. The call is queued, not waited for."""
        self.state, sums = step(self.state, batch)
        self.step += count
        self.pending.append(sums)
        # Two calls in the queue keep the device busy; more would only hold their batches in memory.
        jax.block_until_ready(self.pending[-3:-2])

    def lines(self) -> Iterator[tuple[int, dict[str, float]]]:
        """Each step after which the plan has a line of metrics, with the means since the last one.

        Raises: Diverged, see `settle`.
        """
        for step in self._settled():
            if self.run.plan.has_line(step):
                yield step, self._means()

    def _means(self) -> dict[str, float]:
        self._add_up()
        means = metrics.means([self.window]) | self.latest
        means = {f"train/{name}": value for name, value in means.items() if math.isfinite(value)}
        if self.run.settings.on_nan == "skip":
            skipped = self.measured.get("train/skipped", 0) + int(self.window["skipped"])
            means["train/skipped"] = self.measured["train/skipped"] = skipped
        self.window = {}
        self.measured |= {name: means[name] for name in ("train/loss",) if name in means}
        return means

    def settle(self) -> None:
        """Wait for the steps so far, look whether they are finite, and add up their sums.

        Raises: Diverged, naming the step and what was not finite. Where such updates are skipped it
          is raised if there were too many one after another.
        """
        for _ in self._settled():
            pass
        self._add_up()

    def _settled(self) -> Iterator[int]:
        """The steps so far, each when its sums are among those of `_add_up`."""
        steps = [sums for call in jax.device_get(self.pending) for sums in each_step(call)]
        self.pending.clear()
        for step, sums in enumerate(steps, start=self.step + 1 - len(steps)):
            nonfinite = int(sums.pop("nonfinite"))
            self.latest = {name: float(sums.pop(name)) for name in NORMS}
            self.skipped_in_a_row = self.skipped_in_a_row + 1 if nonfinite else 0
            self._settled_sums.append(sums)
            if not nonfinite:
                yield step
                continue
            part = parts_of(self.state.params)[nonfinite - 1]
            if self.run.settings.on_nan == "stop":
                raise Diverged(f"{part} is not finite at step {step}; {ADVICE}")
            if self.skipped_in_a_row > MAX_SKIPPED:
                raise Diverged(
                    f"the last {self.skipped_in_a_row} updates were skipped: {part} is not finite "
                    f"at step {step}; {ADVICE}"
                )
            yield step

    def _add_up(self) -> None:
        sums = self._settled_sums
        self.window = metrics.totals([self.window, *sums] if self.window else sums)
        sums.clear()

    def record_evaluation(self, evaluations: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
        """Take note of an evaluation and return its metrics by name, as they are logged.

        Args:
          evaluations: what `evaluate` gives for the weights, "eval", and for their moving averages,
            if any.

        Raises: Diverged if the loss is not finite.
        """
        loss = evaluations["eval"]["loss"]
        if not math.isfinite(loss):
            raise Diverged(f"the evaluation loss is {loss} at step {self.step}; {ADVICE}")
        self.evaluation_owed = False
        named = {
            f"{kind}/{name}": value
            for kind, means in evaluations.items()
            for name, value in means.items()
        }
        self.measured |= named
        if self.state.plateau is not None:
            plateau = optim.after_evaluation(self.run.optim, self.state.plateau, loss)
            self.state = self.state.replace(plateau=replicate(plateau, self.run.devices))
        error = evaluations["eval"]["top1_error"]
        if self.best is None or error < self.best[0]:
            self.best = error, self.step
            self._save_best = self.run.settings.keep_best
        return {name: value for name, value in named.items() if not name.endswith("/right")}

    @property
    def stopped_early(self) -> bool:
        """Whether the last `train.patience` evaluations have brought no lower top-1 error.

        It is a function of the step and of what is saved beside it, so that a run that continues
        stops where it would have.
        """
        patience, plan = self.run.settings.patience, self.run.plan
        if not patience or self.best is None or self.evaluation_owed:
            return False
        waited = self.step - self.best[1]
        return self.step < plan.total_steps and waited >= patience * plan.eval_every_steps

    @property
    def ended(self) -> bool:
        """Whether all steps are done, or those before an early stop, and the last evaluation."""
        is_last = self.step == self.run.plan.total_steps or self.stopped_early
        return is_last and not self.evaluation_owed

    @property
    def late(self) -> bool:
        """Whether the last checkpoint was made long ago, by the clock of this process."""
        minutes = (time.perf_counter() - self._saved_at) / 60
        return minutes >= self.run.settings.checkpoint_every_minutes

    def save_if_due(self, asked: bool) -> bool:
        """Save if asked to, every so many steps, at the end, or the best; remove older checkpoints.

        Returns whether it has saved.

        Raises:
          Diverged: if the loss is not finite; what was saved before stays.
          InputError: if the checkpoint cannot be written.
        """
        settings = self.run.settings
        every = settings.checkpoint_every_steps
        if not (self.ended or asked or self._save_best or (every and self.step % every == 0)):
            return False
        self.settle()
        notes = {
            "evaluation_owed": self.evaluation_owed,
            "window": self.window,
            "skipped_in_a_row": self.skipped_in_a_row,
            "measured": self.measured,
            "best": self.best,
            "environments": self.environments,
            "seconds": self.seconds,
            **self.pretrained,
            "dataset": self.run.dataset.identity,
        }
        state = to_global(self.state.saved, self.run.devices)
        checkpoints.save(self.directory, self.step, state, notes)
        on_first(self._prune)
        self._saved_at, self._save_best = time.perf_counter(), False
        return True

    def _prune(self) -> None:
        # Later ones are damaged, or they would have been continued from.
        steps = [step for step in checkpoints.complete_steps(self.directory) if step <= self.step]
        kept = steps[-self.run.settings.keep_checkpoints :]
        if self.run.settings.keep_best and self.best:
            kept.append(self.best[1])
        checkpoints.prune(self.directory, kept)


def each_step(call: Mapping[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    """What a call returned, step by step; a call of one step has scalars, a call of K steps [K]."""
    if call["loss"].ndim == 0:
        return [dict(call)]
    return [{name: v[place] for name, v in call.items()} for place in range(len(call["loss"]))]


def say(text: str) -> None:
    """Print a line for whoever watches the run, once for all processes."""
    if processes.is_first():
        print(text, file=sys.stderr, flush=True)
