"""The trials of a search, by Optuna, in a journal that one process writes and any may read.

Trials come in waves: all of a wave are drawn before one of them trains, and are told to Optuna
together. What is drawn is a function of the trials of earlier waves and of the trial's number, and
so is what is pruned: a search that was killed and continued is the one that never was.
"""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.grid.space import Choice, Space
from senet_jax.errors import InputError
from senet_jax.system import files

NAME = "search"  # of the study in the journal
STARTUP = 5  # finished trials before one is pruned


def optuna() -> Any:
    """The package, which says nothing. Raises: InputError if it is not installed."""
    try:
        package = importlib.import_module("optuna")
        importlib.import_module("optuna.storages.journal")
    except ImportError as error:
        raise InputError(
            "experiments.search needs optuna, which is not installed: pip install -e '.[search]'"
        ) from error
    package.logging.set_verbosity(package.logging.WARNING)
    return package


def _storage(journal: Path) -> Any:
    storages = optuna().storages
    return storages.JournalStorage(storages.journal.JournalFileBackend(str(journal)))


def load(journal: Path) -> Any:
    """Read the study in a journal."""
    return optuna().load_study(
        study_name=NAME,
        storage=_storage(journal),
        pruner=optuna().pruners.MedianPruner(n_startup_trials=STARTUP),
    )


def would_prune(study: Any, errors: Sequence[float]) -> bool:
    """Whether Optuna's median rule ends a run with these errors at its evaluations so far."""
    trial = optuna().trial.create_trial(
        state=optuna().trial.TrialState.RUNNING,
        intermediate_values=dict(enumerate(errors, start=1)),
    )
    return study.pruner.prune(study, trial)


class Trials:
    """The trials of a search, those of earlier processes and new ones.

    Args:
      journal: the file; its folder is made if needed.
      space: what is searched.
      seed: the seed of what is drawn.
      identity: all that makes it this search, as flat keys and values of JSON.
      first: what the first trial tries; None to draw it as well.

    Raises: InputError if the journal is of another search, or is damaged.
    """

    def __init__(
        self,
        journal: Path,
        space: Space,
        seed: int,
        identity: Mapping[str, Any],
        first: Mapping[str, Any] | None,
    ) -> None:
        self._optuna = optuna()
        self._states = self._optuna.trial.TrialState
        self._seed, self._distributions = seed, _distributions(self._optuna, space)
        self.is_new = not journal.exists()
        with files.refused(journal):
            journal.parent.mkdir(parents=True, exist_ok=True)
            _drop_cut_line(journal)
        try:
            self._study = self._optuna.create_study(
                storage=_storage(journal), study_name=NAME, load_if_exists=True
            )
            stored = self._study.user_attrs
        except Exception as error:  # of whatever kind its parser has
            raise InputError(f"{journal} cannot be read: {error}") from error
        for key in {**identity, **stored}:
            if stored and stored.get(key) != identity.get(key):
                raise InputError(
                    f"{journal.parent} holds another search, differing in {key} "
                    f"({stored.get(key)} there, {identity.get(key)} now); choose another --workdir"
                )
        for key, value in identity.items() if not stored else ():
            self._study.set_user_attr(key, value)
        if first is not None and not self._study.trials:
            self._study.enqueue_trial(first)

    @property
    def all(self) -> list[Any]:
        """The trials that were drawn, by number; those of the latest wave may be running."""
        return [trial for trial in self._study.trials if trial.state != self._states.WAITING]

    def wave(self, size: int, most: int) -> list[Any]:
        """The trials to train next: those that were cut off, or new ones; none at the end.

        Args:
          size: number of trials of a wave.
          most: number of all trials.
        """
        trials = self.all
        running = [trial.number for trial in trials if trial.state == self._states.RUNNING]
        first = min(running, default=len(trials))
        for number in range(len(trials), min(most, (first // size + 1) * size)):
            seed = (self._seed * 1_000_003 + number) % 2**32
            self._study.sampler = self._optuna.samplers.TPESampler(seed=seed)
            self._study.ask(self._distributions)
        return [trial for trial in self.all if trial.state == self._states.RUNNING]

    def tell(self, trial: Any, errors: Sequence[float], outcome: float | str) -> None:
        """Record the end of a trial.

        Args:
          errors: the top-1 errors of its first seed at its evaluations.
          outcome: its mean error, "pruned", which a trial that diverged is as well, or "failed".
        """
        live = self._optuna.trial.Trial(self._study, trial._trial_id)
        for number, error in enumerate(errors, start=1):
            if number not in trial.intermediate_values:
                live.report(error, number)
        states = {"pruned": self._states.PRUNED, "failed": self._states.FAIL}
        if isinstance(outcome, str):
            self._study.tell(trial.number, state=states[outcome])
        else:
            self._study.tell(trial.number, outcome)

    def count(self, *states: str) -> int:
        """The number of trials in any of some states, such as "COMPLETE"."""
        return sum(trial.state.name in states for trial in self.all)


def _drop_cut_line(journal: Path) -> None:
    """Remove a last line that a full disk has cut short, which Optuna would write on to."""
    content = journal.read_bytes() if journal.exists() else b""
    if content and not content.endswith(b"\n"):
        files.write(journal, content[: content.rfind(b"\n") + 1])


def _distributions(optuna: Any, space: Space) -> dict[str, Any]:
    """The space in Optuna's terms. Choices go by their texts: it stores no tuples."""
    kinds = optuna.distributions
    found = {}
    for key, part in space.items():
        if isinstance(part, Choice):
            found[key] = kinds.CategoricalDistribution(list(part.values))
        else:
            is_whole = isinstance(part.low, int)
            kind = kinds.IntDistribution if is_whole else kinds.FloatDistribution
            found[key] = kind(part.low, part.high, log=part.log)
    return found
