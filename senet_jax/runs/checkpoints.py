"""A run's checkpoints: whole training states on disk. The only file that says orbax.

A directory has one folder per step: the state, and in `notes.json` what the loop knows beside it. A
folder is complete where `SHA256SUMS` is in it, which is written when all else is on the disk. These
sums are there because Orbax does not notice a changed byte in an array, and answers a file that is
cut short with a traceback from each of its threads.

A folder is written as `<step>.new` and renamed when it is complete, so an older folder of the same
step stays until then. While both are there `<step>.new` is the one that counts.
"""

import contextlib
import dataclasses
import errno
import json
import logging
import os
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from senet_jax.errors import InputError, first_line
from senet_jax.runs import checksums
from senet_jax.runs.checksums import SUMS, Damaged
from senet_jax.system import files, processes

NOTES = "notes.json"
NEW = ".new"
PATTERN = re.compile(r"[*?[]")  # in a path, of which Orbax then makes a pattern
ROOM = 2**20  # bytes on the disk for what Orbax writes beside the arrays


@dataclasses.dataclass(frozen=True)
class Restored:
    """A checkpoint that was read.

    Attributes:
      step: step of the run when it was saved.
      state, notes: what was given to `save`.
    """

    step: int
    state: Any
    notes: dict[str, Any]


def save(directory: Path, step: int, state: Any, notes: Mapping[str, Any] | None = None) -> None:
    """Write a state, a pytree of arrays and random keys, as `directory/<step>`.

    An older one of this step is replaced when this one is complete; other steps stay (see `prune`).
    Where several processes train together all must call it, with arrays on the devices of all.

    Args:
      notes: values that JSON can hold, stored beside the state.

    Raises: InputError if it cannot be written.
    """
    from orbax.checkpoint import v1 as ocp  # a tenth of a second, which other commands do not need

    folder = directory.absolute() / str(step)
    new = folder.with_name(f"{step}{NEW}")
    problem = f"checkpoint {folder} cannot be written"

    def make_room() -> None:
        with _one_sentence(problem):
            folder.parent.mkdir(parents=True, exist_ok=True)
            # Where it cannot make a folder, Orbax has threads that wait for it for five minutes.
            with tempfile.TemporaryDirectory(dir=folder.parent):
                pass
            if _complete(new):  # a kill came before it was renamed: it may be the only one
                _put_in_place(new, folder)
            _remove(new)
            # On a full disk Orbax leaves threads behind that print tracebacks for a while.
            needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state)) + ROOM
            if (free := shutil.disk_usage(folder.parent).free) < needed:
                raise OSError(
                    errno.ENOSPC, f"No space left on device ({free:,} bytes, {needed:,} needed)"
                )

    def complete() -> None:
        with _one_sentence(problem):
            _check_fits(new, ocp.metadata(str(new)).metadata, state)  # as whoever reads it does
            files.write(new / NOTES, json.dumps(dict(notes or {})).encode())
            for path in new.rglob("*"):
                files.sync(path)
            checksums.write(new)
            _put_in_place(new, folder)

    processes.on_first(make_room)
    # Orbax gathers what processes have written by a pattern of the whole path, which fails without
    # a word where it has "[...]" in it. With a file for each array there is nothing to gather.
    saving = ocp.options.ArrayOptions.Saving(use_ocdbt=not PATTERN.search(str(new)))
    options = ocp.options.ArrayOptions(saving=saving)
    with _one_sentence(problem), ocp.Context(array_options=options):
        ocp.save(str(new), state)
    processes.on_first(complete)


def _put_in_place(new: Path, folder: Path) -> None:
    _remove(folder)
    new.rename(folder)
    files.sync(folder.parent)


def restore(directory: Path, abstract_state: Any, step: int | None = None) -> Restored:
    """Read the latest complete step that is not damaged; a warning names each newer one that is.

    Args:
      abstract_state: the shape, dtype and sharding of every leaf to expect; a state will do.
      step: the only step to read, if not the latest.

    Raises: InputError if there is no checkpoint, if all are damaged, or if it is of another model.
    """
    from orbax.checkpoint import v1 as ocp

    expected = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding),
        abstract_state,
    )
    folder, notes = processes.on_first(lambda: _latest_undamaged(directory, expected, step))
    with _one_sentence(f"checkpoint {folder} cannot be read"):
        state = ocp.load(folder, expected)
    # Orbax forgets the sharding of a random key on one device; a step would compile twice for it.
    state = jax.device_put(state, jax.tree.map(lambda leaf: leaf.sharding, expected))
    return Restored(_step_of(Path(folder)) or 0, state, notes)


def _latest_undamaged(
    directory: Path, expected: Any, only: int | None
) -> tuple[str, dict[str, Any]]:
    """Folder and notes of the checkpoint to restore; `expected` is None where anything fits."""
    steps = [step for step in _steps(directory) if only in (None, step)]
    for step in reversed(steps):
        try:
            folder = _folder(directory, step)
            return str(folder), _checked_notes(folder, expected)
        except Damaged as error:
            if step == steps[0]:
                raise
            print(f"warning: {error}; trying the one before it", file=sys.stderr, flush=True)
    raise AssertionError("the loop returns or raises")


def read(directory: Path, names: Collection[str], step: int | None = None) -> Restored:
    """Read parts of a state as `restore` does, knowing nothing of the run.

    The state is nested dicts of arrays on the first device, by name. A part that it lacks is left
    out.

    Raises: InputError if there is no checkpoint, or all are damaged.
    """
    from orbax.checkpoint import v1 as ocp

    folder, notes = _latest_undamaged(directory, None, step)
    place = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    with _one_sentence(f"checkpoint {folder} cannot be read"):
        stored: Any = ocp.metadata(folder).metadata

        def wanted(path: Any, leaf: Any) -> Any:
            if path[0].key not in names:
                return ocp.PLACEHOLDER
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place)

        state: Any = ocp.load(folder, jax.tree_util.tree_map_with_path(wanted, stored))
    parts = {name: state[name] for name in names if state.get(name) is not None}
    return Restored(_step_of(Path(folder)) or 0, parts, notes)


def _steps(directory: Path) -> list[int]:
    if steps := complete_steps(directory):
        return steps
    raise InputError(
        f"there is no complete checkpoint in {directory}: its run is not finished, or of a "
        "version that kept none"
    )


def _folder(directory: Path, step: int) -> Path:
    folder = directory.absolute() / str(step)
    new = folder.with_name(f"{step}{NEW}")
    return new if _complete(new) else folder


def _checked_notes(folder: Path, expected: Any) -> dict[str, Any]:
    from orbax.checkpoint import v1 as ocp

    with _one_sentence(f"checkpoint {folder} cannot be read"):
        checksums.check(folder, f"checkpoint {folder}")
        if expected is not None:
            _check_fits(folder, ocp.metadata(str(folder)).metadata, expected)
        return json.loads((folder / NOTES).read_text("utf-8"))


def complete_steps(directory: Path) -> list[int]:
    """The steps that have a complete checkpoint, in order."""
    steps = {_step_of(folder) for folder in files.children(directory) if _complete(folder)}
    return sorted(step for step in steps if step is not None)


def _step_of(folder: Path) -> int | None:
    name = folder.name.removesuffix(NEW)
    return int(name) if name.isdecimal() else None


def _complete(folder: Path) -> bool:
    return bool(files.children(folder, SUMS))


def prune(directory: Path, keep: Collection[int]) -> None:
    """Remove every step but those to keep, and what interrupted attempts left.

    Raises: InputError if they cannot be removed.
    """
    with _one_sentence(f"the old checkpoints in {directory} cannot be removed"):
        for folder in directory.iterdir():
            attempt = "orbax-checkpoint-tmp" in folder.name
            step = _step_of(folder)
            if attempt or (step is not None and not (step in keep and _complete(folder))):
                _remove(folder)


def _remove(folder: Path) -> None:
    if folder.exists():
        # First of all it is no longer complete, should this be interrupted, too.
        (folder / SUMS).unlink(missing_ok=True)
        shutil.rmtree(folder)


def _check_fits(folder: Path, stored: Any, expected: Any) -> None:
    """Raises: InputError, naming the first array that differs, with both types and shapes."""
    in_file, in_model = _arrays(stored), _arrays(expected)
    if not in_file:
        raise InputError(f"checkpoint {folder} cannot be read: Orbax finds no arrays in it")
    paths = in_file | in_model
    differing = [path for path in paths if in_file.get(path) != in_model.get(path)]
    differing.sort(key=lambda path: (not path.startswith("params/"), path))
    if differing:
        path = differing[0]
        more = f", and {len(differing) - 1} more differ" if len(differing) > 1 else ""
        raise InputError(
            f"checkpoint {folder} does not fit the model: {path} is {in_file.get(path, 'missing')} "
            f"there and {in_model.get(path, 'missing')} in the model{more}"
        )


def _arrays(tree: Any) -> dict[str, str]:
    """Path to type and shape of every array; random keys are stored as the numbers they are."""
    arrays = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.eval_shape(jax.random.key_data, leaf)
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        arrays[name] = f"{leaf.dtype} {tuple(leaf.shape)}"
    return arrays


@contextlib.contextmanager
def _one_sentence(problem: str) -> Iterator[None]:
    """Turn whatever is raised inside into an InputError of one sentence; Orbax's log is off."""
    running = set(threading.enumerate())
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # Orbax has no common base class: OSError, ValueError, KeyError, ...
        # Its other threads come to the same error a little later, and log it with a traceback.
        until = time.monotonic() + 2
        for thread in set(threading.enumerate()) - running:
            thread.join(max(0, until - time.monotonic()))
        raise InputError(f"{problem}: {_reason(error)}") from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _reason(error: BaseException) -> str:
    """The first cause of an error, in words."""
    while cause := error.__cause__ or error.__context__:  # what Orbax says of it is "no handler"
        error = cause
    # Of an operating system's error Orbax passes on the number, within a page of settings.
    if number := re.search(r"os_error_code='(\d+)'", str(error)):
        return os.strerror(int(number[1]))
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return first_line(error)
