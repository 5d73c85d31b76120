"""Where a run stands: its state, what the loop knows beside it, and when both are saved."""

import dataclasses
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from senet_jax import checkpoints, metrics, optim, parallel
from senet_jax.errors import Diverged
from senet_jax.prepare import Run
from senet_jax.state import TrainState
from senet_jax.steps import parts_of

ADVICE = "try a smaller optim.learning_rate"


@dataclasses.dataclass
class Progress:
    """A run between two steps.

    Attributes:
      run: what it is a run of.
      directory: of its checkpoints.
      started: when this process began with it, by time.perf_counter.
      state, step: after so many updates.
      evaluation_owed: whether the evaluation after this step is still to be done.
      pending: sums of the steps since training metrics were last written.
      measured: metrics so far, the latest of each name.
      best: lowest evaluation top-1 error in per cent, and its step.
      earlier_seconds: what earlier processes took.
    """

    run: Run
    directory: Path
    started: float
    state: TrainState
    step: int = 0
    evaluation_owed: bool = False
    pending: list[Mapping[str, Any]] = dataclasses.field(default_factory=list)
    measured: dict[str, Any] = dataclasses.field(default_factory=dict)
    best: tuple[float, int] | None = None
    earlier_seconds: float = 0.0

    def __post_init__(self) -> None:
        self._saved_at = time.perf_counter()
        self._save_best = False

    @classmethod
    def resume(cls, run: Run, directory: Path, started: float) -> "Progress":
        """From the latest checkpoint, or from the beginning where there is none.

        Raises: InputError if there are checkpoints and none can be read, or they do not fit.
        """
        if not checkpoints.complete_steps(directory):
            return cls(run, directory, started, run.initial_state)
        found = checkpoints.restore(directory, run.initial_state)
        print(f"continuing from step {found.step}/{run.total_steps}", file=sys.stderr, flush=True)
        notes = found.notes
        return cls(
            run,
            directory,
            started,
            found.state,
            found.step,
            notes["evaluation_owed"],
            [notes["pending"]] if notes["pending"] else [],
            notes["measured"],
            tuple(notes["best"]) if notes["best"] else None,
            notes["seconds"],
        )

    @property
    def seconds(self) -> float:
        """Wall time of all processes that worked on it."""
        return self.earlier_seconds + time.perf_counter() - self.started

    def training_means(self) -> dict[str, float]:
        """Metrics of the steps since the last call. Raises: Diverged, see check_finite."""
        self.check_finite()
        total = metrics.totals(self.pending)
        self.pending.clear()
        means = {f"train/{name}": value for name, value in metrics.means([total]).items()}
        self.measured["train/loss"] = means["train/loss"]
        if self.run.settings.on_nan == "skip":
            skipped = self.measured.get("train/skipped", 0) + int(total["skipped"])
            means["train/skipped"] = self.measured["train/skipped"] = skipped
        return means

    def check_finite(self) -> None:
        """Look at the steps that are not logged yet.

        Raises: Diverged, naming the step and what was not finite; where such updates are skipped,
          if all of them were.
        """
        last, count = self.step, len(self.pending)
        bad = [
            (last - count + 1 + place, parts_of(self.state.params)[int(sums["nonfinite"]) - 1])
            for place, sums in enumerate(self.pending)
            if sums["nonfinite"]
        ]
        if not bad:
            return
        step, part = bad[0]
        if self.run.settings.on_nan == "stop":
            raise Diverged(f"{part} is not finite at step {step}; {ADVICE}")
        if len(bad) == count:
            raise Diverged(
                f"no update since step {step} could be used: {part} is not finite there; {ADVICE}"
            )

    def evaluated(self, found: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        """Take note of an evaluation and return it by name, as it is logged.

        Raises: Diverged if the loss is not finite.
        """
        loss = found["eval"]["loss"]
        if not math.isfinite(loss):
            raise Diverged(f"the evaluation loss is {loss} at step {self.step}; {ADVICE}")
        self.evaluation_owed = False
        named = {f"{kind}/{name}": v for kind, means in found.items() for name, v in means.items()}
        self.measured |= named
        if self.state.plateau is not None:
            plateau = optim.after_evaluation(self.run.optim, self.state.plateau, loss)
            self.state = self.state.replace(plateau=parallel.replicate(plateau, self.run.devices))
        error = found["eval"]["top1_error"]
        if self.best is None or error < self.best[0]:
            self.best = error, self.step
            self._save_best = self.run.settings.keep_best
        return named

    def save_if_due(self, stopping: bool) -> None:
        """Save if it is time to, at the end, or when stopping; older checkpoints go.

        Raises:
          Diverged: if the loss is not finite: what was saved before stays.
          InputError: if it cannot be written.
        """
        settings = self.run.settings
        every = settings.checkpoint_every_steps
        minutes = (time.perf_counter() - self._saved_at) / 60
        at_end = self.step == self.run.total_steps and not self.evaluation_owed
        if not (
            at_end
            or stopping
            or self._save_best
            or minutes >= settings.checkpoint_every_minutes
            or (every and self.step % every == 0)
        ):
            return
        self.check_finite()
        pending = metrics.totals(self.pending) | ({"nonfinite": 0.0} if self.pending else {})
        notes = {
            "evaluation_owed": self.evaluation_owed,
            "pending": pending,
            "measured": self.measured,
            "best": self.best,
            "seconds": self.seconds,
        }
        checkpoints.save(self.directory, self.step, self.state, notes)
        kept = checkpoints.complete_steps(self.directory)[-settings.keep_checkpoints :]
        if settings.keep_best and self.best:
            kept.append(self.best[1])
        checkpoints.prune(self.directory, kept)
        self._saved_at, self._save_best = time.perf_counter(), False
