"""A run's directory: config.json first, result.json last, and never two configurations in one.

`failed.json` has the reason where an experiment's run stopped without a result.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from senet_jax.config import differences, flatten, plain, with_tuples
from senet_jax.errors import InputError
from senet_jax.system import files, processes

if TYPE_CHECKING:
    from ml_collections import ConfigDict

CHECKPOINTS = "checkpoints"  # the folder of a run's states
# Values that leave a key to the weights of model.pretrained; what it is then, config.json says.
LEFT = {
    "data.image_size": -1,
    "data.eval_crop": 0,
    "data.interpolation": "",
    "data.mean": (),
    "data.std": (),
}


def queue(workdir: Path, config: ConfigDict) -> None:
    """Create the directory and record the configuration in it.

    Raises: InputError if it cannot be written.
    """
    with _written(workdir):
        workdir.mkdir(parents=True, exist_ok=True)
        files.write_json(workdir / "config.json", plain(config))


def start(workdir: Path, config: ConfigDict) -> None:
    """The same, and an earlier failure is forgotten. Raises: InputError, as `queue` does."""
    queue(workdir, config)
    forget_failure(workdir)


def forget_failure(workdir: Path) -> None:
    """The run is to be trained again. Raises: InputError if the directory cannot be written."""
    with _written(workdir):
        (workdir / "failed.json").unlink(missing_ok=True)


@contextlib.contextmanager
def _written(workdir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"work directory {workdir} cannot be written: {error.strerror or error}"
        ) from error


def fail(workdir: Path, error: Exception | str) -> str:
    """Record why a run has no result, for the report, and return it.

    Where nothing can be written, nothing is.
    """
    known = isinstance(error, str | InputError)
    reason = str(error) if known else f"{type(error).__name__}: {error}"
    with contextlib.suppress(OSError, InputError):
        workdir.mkdir(parents=True, exist_ok=True)
        files.write_json(workdir / "failed.json", {"reason": reason})
    return reason


def cut_metrics(workdir: Path, step: int, evaluation_owed: bool) -> None:
    """Remove from metrics.jsonl what a run that continues from `step` will write again.

    That is all about later steps, the evaluation of this one if it is still owed, and a line that
    was cut short.
    """
    path, kept = workdir / "metrics.jsonl", []
    with contextlib.suppress(FileNotFoundError):
        for line in path.read_text("utf-8").splitlines(keepends=True):
            with contextlib.suppress(ValueError):
                values = json.loads(line)
                again = values["step"] == step and evaluation_owed and "eval/loss" in values
                if line.endswith("\n") and values["step"] <= step and not again:
                    kept.append(line)
    files.write(path, "".join(kept).encode())


def check_usable(workdir: Path) -> None:
    """Raises: InputError, touching nothing, if runs cannot be written there or others' files are.

    Call before anything slow: what is refused should be refused at once.
    """
    files.check_folder(workdir, "work directory")
    if not (workdir / "config.json").exists():
        for pattern in ("result.json", "metrics.jsonl", "events.out.tfevents.*", CHECKPOINTS):
            if found := next(workdir.glob(pattern), None):
                raise InputError(
                    f"{workdir} holds {found.name} but no config.json, so it is not a run of ours; "
                    "choose another --workdir"
                )


def check_shared(workdir: Path, config: ConfigDict) -> None:
    """Raises: InputError if processes that train together do not share the directory or disagree.

    They write checkpoints together, and all must see what the first has written.
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
    """The configuration that `start` recorded. Raises: InputError if there is none."""
    from ml_collections import ConfigDict

    stored = files.read_json(workdir / "config.json")
    if stored is None:
        raise InputError(f"{workdir} has no config.json, so it is not a run of ours")
    return ConfigDict(with_tuples(stored)).lock()


def finished_result(config: ConfigDict, workdir: Path) -> dict[str, Any] | None:
    """The result stored in `workdir`, if the run of exactly this configuration is finished there.

    Raises: InputError, naming the keys that differ, if the directory holds another configuration.
    """
    check_same(config, workdir)
    if not (workdir / "config.json").exists():
        return None
    return files.read_json(workdir / "result.json")


def check_same(config: ConfigDict, workdir: Path, apart_from: Sequence[str] = ()) -> None:
    """Raises: InputError if the directory holds a configuration that differs in any other key."""
    stored = files.read_json(workdir / "config.json")
    if stored is None:
        return
    given = plain(config)
    left = left_to_weights(config.to_dict())
    there, now = (
        {k: v for k, v in flatten(c).items() if k not in apart_from and k not in left}
        for c in (stored, given)
    )
    if starts_from_weights(given):  # the network is theirs, where the configuration has no more
        there = {k: v for k, v in there.items() if k in now or not k.startswith("model.")}
    if changes := differences(there, now):
        raise InputError(
            f"{workdir} holds a run of another configuration, differing in {changes}; "
            "choose another --workdir"
        )


def starts_from_weights(sections: Mapping[str, Any]) -> bool:
    """Whether a configuration, as nested dicts, names any."""
    return bool(sections.get("model", {}).get("pretrained"))


def left_to_weights(sections: Mapping[str, Any]) -> list[str]:
    """The keys that a configuration, as nested dicts, leaves to the weights it starts from."""
    if not starts_from_weights(sections):
        return []
    flat = flatten(sections)
    return [key for key, value in LEFT.items() if key in flat and flat[key] == value]
