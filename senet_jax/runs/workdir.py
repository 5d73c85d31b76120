"""A run's directory: config.json first, result.json last, and never two configurations in one.

`failed.json` has the reason where an experiment's run stopped without a result. `WorkDirectory` is
what a run that trains does with its directory; the functions are what everybody else does.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from senet_jax.config import check_finite, differences, flatten, plain, with_tuples
from senet_jax.errors import InputError
from senet_jax.runs import effect, lock
from senet_jax.runs.added import ADDED, MEANS
from senet_jax.system import files, processes
from senet_jax.system.processes import on_first

if TYPE_CHECKING:
    from ml_collections import ConfigDict

CHECKPOINTS = "checkpoints"  # the folder of a run's states
NO_PLACE = re.compile(r"\\|\*\*")  # in a path, where Orbax writes no states
FINAL, EMA, BEST = WEIGHTS = ("final", "ema", "best")  # sets of weights of a run; see stored.py
# The keys of the `model` section that name weights to start from; the others are the network's.
ORIGIN = ("pretrained", "weights", "new_head")
# Values that leave a key to the weights of model.pretrained; config.json then says what it became.
LEFT = {
    "data.image_size": -1,
    "data.eval_crop": 0,
    "data.interpolation": "",
    "data.mean": (),
    "data.std": (),
}


class WorkDirectory:
    """The directory of a run while it trains; a context manager that holds its lock.

    All processes that train together call the same methods at the same places. The first one alone
    looks, locks and writes; the others hear its answers, and raise the InputErrors that it raises.
    Methods with the name of a function below do what that does.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = contextlib.ExitStack()

    @property
    def checkpoints(self) -> Path:
        """The folder of the run's states."""
        return self.path / CHECKPOINTS

    @property
    def written_here(self) -> Path | None:
        """The directory for what only the first process writes; None for the other processes."""
        return self.path if processes.is_first() else None

    def finished_result(self, config: ConfigDict) -> dict[str, Any] | None:
        """Read the result, if the run is finished. Raises: InputError for other configurations."""
        return on_first(lambda: finished_result(config, self.path))

    def check_usable(self) -> None:
        """Raises: InputError if a run cannot be written here, or others' files are here."""
        on_first(lambda: check_usable(self.path))

    def has_checkpoint(self) -> bool:
        """Whether there is a state to continue from."""
        # It brings JAX, which commands that only look at runs do without.
        from senet_jax.runs import checkpoints

        return on_first(lambda: bool(checkpoints.complete_steps(self.checkpoints)))

    def occupy(self, given: ConfigDict, filled: ConfigDict, **about: Any) -> dict[str, Any] | None:
        """Lock the directory until this context ends, and record the configuration.

        Args:
          given, filled: the configuration as the command has it, and without what that leaves to
            the weights.
          **about: facts of the run for whoever reads process.json, see `lock.held`.

        Returns: the result if another process has finished the run since `finished_result`, else
          None; only then the run is to be trained.

        Raises:
          Occupied: if another process trains there.
          InputError: if the directory cannot be written, holds another configuration, or is not
            shared by all processes.
        """
        on_first(lambda: self._lock.enter_context(lock.held(self.path, **about)))
        if result := self.finished_result(given):
            return result
        on_first(lambda: start(self.path, filled))
        on_first(lambda: forget_failure(self.path))
        check_shared(self.path, filled)
        return None

    def cut_metrics(self, step: int, evaluation_owed: bool) -> None:
        """Remove from metrics.jsonl what a run that continues from `step` will write again."""
        on_first(lambda: cut_metrics(self.path, step, evaluation_owed))

    def finish(self, result: dict[str, Any]) -> dict[str, Any]:
        """Write the result, with which the run is finished, and return it."""
        on_first(lambda: files.write_json(self.path / "result.json", result))
        return result

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        self._lock.__exit__(*error)


def is_begun(workdir: Path) -> bool:
    """Whether a run has begun there, so that config.json leaves nothing to the weights any more.

    Before that, config.json may be there as well: that of a queued run is the one that was given.
    """
    return (workdir / CHECKPOINTS).exists()


def queue(workdir: Path, config: ConfigDict) -> None:
    """Create the directory of a run that is to be trained, and record the configuration in it.

    A run that has begun keeps the configuration that was filled in then.

    Raises: InputError if it cannot be written.
    """
    if not is_begun(workdir):
        start(workdir, config)


def start(workdir: Path, config: ConfigDict) -> None:
    """Record the configuration of a run that begins. Raises: InputError if it cannot be written."""
    check_finite(config.to_dict())
    with _written(workdir):
        workdir.mkdir(parents=True, exist_ok=True)
        files.write_json(workdir / "config.json", plain(config))


def forget_failure(workdir: Path) -> None:
    """Remove failed.json: the run is trained again. Raises: InputError if it cannot be removed."""
    with _written(workdir):
        (workdir / "failed.json").unlink(missing_ok=True)


@contextlib.contextmanager
def _written(workdir: Path) -> Iterator[None]:
    """Turn what the operating system refuses inside into an InputError of one sentence."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"work directory {workdir} cannot be written: {error.strerror or error}"
        ) from error


def fail(workdir: Path, error: Exception | str) -> str:
    """Record why a run has no result, where anything can be written, and return the reason."""
    kind = "" if isinstance(error, str) else type(error).__name__
    reason = str(error) if isinstance(error, str | InputError) else f"{kind}: {error}"
    with contextlib.suppress(OSError, InputError):
        workdir.mkdir(parents=True, exist_ok=True)
        files.write_json(workdir / "failed.json", {"reason": reason, "kind": kind})
    return reason


def cut_metrics(workdir: Path, step: int, evaluation_owed: bool) -> None:
    """Remove from metrics.jsonl what a run that continues from `step` will write again.

    These are all lines about later steps, the evaluation of this one if it is still owed, and a
    line that was cut short.
    """
    path, kept = workdir / "metrics.jsonl", []
    with _written(workdir), contextlib.suppress(FileNotFoundError):
        for line in path.read_bytes().splitlines(keepends=True):
            with contextlib.suppress(ValueError, TypeError, KeyError):  # a damaged line
                values = json.loads(line)
                again = values["step"] == step and evaluation_owed and "eval/loss" in values
                if line.endswith(b"\n") and values["step"] <= step and not again:
                    kept.append(line)
    files.write(path, b"".join(kept))


def check_usable(workdir: Path) -> None:
    """Check, touching nothing, that a run can be written there, and that no others' files are.

    Call it before anything slow. Raises: InputError if not.
    """
    files.check_folder(workdir, "work directory")
    if bad := NO_PLACE.search(str(workdir.absolute())):
        raise InputError(
            f"work directory {workdir.absolute()} has {bad[0]!r} in its path, where no checkpoint "
            "can be written: choose another one"
        )
    if not (workdir / "config.json").exists():
        for pattern in ("result.json", "metrics.jsonl", "events.out.tfevents.*", CHECKPOINTS):
            if other := next(workdir.glob(pattern), None):
                raise InputError(
                    f"{workdir} holds {other.name} but no config.json, so it is not a run of ours; "
                    "choose another --workdir"
                )


def check_shared(workdir: Path, config: ConfigDict) -> None:
    """Check that processes that train together share the directory and the configuration.

    They write checkpoints together, and all must see what the first has written.

    Raises: InputError if not.
    """
    if not processes.same(json.dumps(plain(config), sort_keys=True)):
        raise InputError(
            "the processes that train together were started with different configurations"
        )
    if blind := processes.total(not (workdir / "config.json").exists()):
        raise InputError(
            f"{blind} of {processes.count()} processes do not see {workdir}/config.json, which the "
            "first has written; choose a --workdir on storage that they share"
        )


def load_config(workdir: Path) -> ConfigDict:
    """Read the configuration that `queue` recorded. Raises: InputError if there is none."""
    from ml_collections import ConfigDict

    stored = files.read_table(workdir / "config.json")
    if stored is None:
        raise InputError(f"{workdir} has no config.json, so it is not a run of ours")
    for section in ("model", "data", "optim", "train"):
        if not isinstance(stored.get(section), dict):
            raise InputError(f"{workdir / 'config.json'} is damaged: it has no section {section!r}")
    return ConfigDict(with_tuples(stored)).lock()


def finished_result(config: ConfigDict, workdir: Path) -> dict[str, Any] | None:
    """Read the result in `workdir`, if the run of exactly this configuration is finished there.

    Raises: InputError, naming the keys that differ, if the directory holds another configuration.
    """
    check_same(config, workdir)
    if not (workdir / "config.json").exists():
        return None
    return files.read_table(workdir / "result.json")


def check_same(config: ConfigDict, workdir: Path, apart_from: Sequence[str] = ()) -> None:
    """Check that the directory holds no configuration but this one.

    Keys that have no effect in either may differ: the run is the same.

    Args:
      apart_from: keys that may differ.

    Raises: InputError, naming the keys that differ.
    """
    stored = files.read_table(workdir / "config.json")
    if stored is None:
        return
    current = plain(config)
    idle = {*effect.without(flatten(stored))} & {*effect.without(flatten(current))}
    ignored = {*apart_from, *MEANS, *idle, *left_to_weights(config.to_dict()), *added_since(stored)}
    before, now = (
        {k: value for k, value in with_added(flatten(sections)).items() if k not in ignored}
        for sections in (stored, current)
    )
    if starts_from_weights(current):  # the network is theirs, where the configuration has no more
        before = {k: v for k, v in before.items() if k in now or not k.startswith("model.")}
    if changes := differences(before, now):
        raise InputError(
            f"{workdir} holds a run of another configuration, differing in {changes}; "
            "choose another --workdir"
        )


def with_added(flat: Mapping[str, Any]) -> dict[str, Any]:
    """A flat configuration with the keys of ADDED that it lacks, but those that go on as begun."""
    return {key: value for key, value in ADDED.items() if value is not None} | dict(flat)


def added_since(stored: Mapping[str, Any]) -> list[str]:
    """The keys that a stored configuration, as nested dicts, lacks and that go on as they began."""
    return [key for key, value in ADDED.items() if value is None and key not in flatten(stored)]


def starts_from_weights(sections: Mapping[str, Any]) -> bool:
    """Whether a configuration, as nested dicts, names weights to start from."""
    return bool(sections.get("model", {}).get("pretrained"))


def left_to_weights(sections: Mapping[str, Any]) -> list[str]:
    """The keys that a configuration, as nested dicts, leaves to the weights it starts from."""
    if not starts_from_weights(sections):
        return []
    flat = flatten(sections)
    return [key for key, value in LEFT.items() if key in flat and flat[key] == value]
