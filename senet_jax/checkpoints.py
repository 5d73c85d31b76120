"""A run's checkpoints: whole training states on disk. The only file that says orbax.

A directory has one folder a step, complete where `SHA256SUMS` is in it, which is written last. It
is there because Orbax does not notice a changed byte in an array, and answers a file that is cut
short with a traceback from each of its threads.
"""

import contextlib
import hashlib
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from senet_jax.errors import InputError

SUMS = "SHA256SUMS"


def save(directory: Path, step: int, state: Any) -> None:
    """Write a state, a pytree of arrays and random keys, as `directory/<step>`.

    Raises: InputError if it cannot be written, or is there already.
    """
    from orbax.checkpoint import v1 as ocp  # a tenth of a second, which other commands do not need

    folder = directory.absolute() / str(step)
    with _one_sentence(f"checkpoint {folder} cannot be written"):
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Where it cannot make a folder, Orbax has threads that wait for it for five minutes.
        with tempfile.TemporaryDirectory(dir=folder.parent):
            pass
        with ocp.training.Checkpointer(str(folder.parent)) as checkpointer:
            checkpointer.save(step, state, force=True)
        (folder / SUMS).write_text("".join(f"{hash}  {name}\n" for name, hash in _sums(folder)))


def restore(directory: Path, abstract_state: Any) -> Any:
    """The state of the latest complete step.

    Args:
      abstract_state: what to expect: the shape, dtype and sharding of every leaf; a state will do.

    Raises: InputError if there is no checkpoint, or if it is damaged or of another model.
    """
    from orbax.checkpoint import v1 as ocp

    step = latest_step(directory)
    if step is None:
        raise InputError(
            f"there is no complete checkpoint in {directory}: its run is not finished, or of a "
            "version that kept none"
        )
    folder = directory.absolute() / str(step)
    expected = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding),
        abstract_state,
    )
    with _one_sentence(f"checkpoint {folder} cannot be read"):
        _check_undamaged(folder)
        with ocp.training.Checkpointer(str(folder.parent)) as checkpointer:
            _check_fits(folder, checkpointer.metadata(step).metadata, expected)
            state = checkpointer.load(step, expected)
    # Orbax forgets the sharding of a random key on one device; a step would compile twice for it.
    return jax.device_put(state, jax.tree.map(lambda leaf: leaf.sharding, expected))


def latest_step(directory: Path) -> int | None:
    """The last step with a complete checkpoint; None if there is none."""
    folders = directory.iterdir() if directory.is_dir() else ()
    steps = [int(f.name) for f in folders if f.name.isdecimal() and (f / SUMS).is_file()]
    return max(steps, default=None)


def discard(directory: Path) -> None:
    """Remove all checkpoints, those of a run that starts again from its beginning.

    Raises: InputError if they cannot be removed.
    """
    with _one_sentence(f"the checkpoints in {directory} cannot be removed"):
        if directory.is_dir():
            shutil.rmtree(directory)


def _sums(folder: Path) -> list[tuple[str, str]]:
    """Every file in the folder, by its path in there, with its SHA-256."""
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            hash = hashlib.file_digest(file, "sha256").hexdigest()
        found.append((path.relative_to(folder).as_posix(), hash))
    return found


def _check_undamaged(folder: Path) -> None:
    found = dict(_sums(folder))
    for line in (folder / SUMS).read_text().splitlines():
        hash, _, name = line.partition("  ")
        if found.get(name) != hash:
            damage = "was changed" if name in found else "is missing"
            raise InputError(f"checkpoint {folder} is damaged: {name} {damage}")


def _check_fits(folder: Path, stored: Any, expected: Any) -> None:
    """Raises: InputError, naming the first array that differs, with both types and shapes."""
    there, here = _arrays(stored), _arrays(expected)
    if not there:
        raise InputError(f"checkpoint {folder} cannot be read: Orbax finds no arrays in it")
    differing = [path for path in there | here if there.get(path) != here.get(path)]
    differing.sort(key=lambda path: (not path.startswith("params/"), path))
    if differing:
        path = differing[0]
        more = f", and {len(differing) - 1} more differ" if len(differing) > 1 else ""
        raise InputError(
            f"checkpoint {folder} does not fit the model: {path} is {there.get(path, 'missing')} "
            f"there and {here.get(path, 'missing')} in the model{more}"
        )


def _arrays(tree: Any) -> dict[str, str]:
    """Path to type and shape of every array; random keys are stored as the numbers they are."""
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.eval_shape(jax.random.key_data, leaf)
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        found[name] = f"{leaf.dtype} {tuple(leaf.shape)}"
    return found


@contextlib.contextmanager
def _one_sentence(problem: str) -> Iterator[None]:
    """Whatever is raised inside becomes an InputError of one sentence, and Orbax's log is off."""
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # Orbax has no common base class: OSError, ValueError, KeyError, ...
        raise InputError(f"{problem}: {_reason(error)}") from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _reason(error: BaseException) -> str:
    while cause := error.__cause__ or error.__context__:  # what Orbax says of it is "no handler"
        error = cause
    # Of an operating system's error Orbax passes on the number, within a page of settings.
    if number := re.search(r"os_error_code='(\d+)'", str(error)):
        return os.strerror(int(number[1]))
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
