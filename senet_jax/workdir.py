"""A run's directory: config.json first, result.json last, and never two configurations in one."""

import json
import os
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from senet_jax.errors import InputError


def start(workdir: Path, config: ConfigDict) -> None:
    """Create the directory and record the configuration in it.

    Raises: InputError if the directory cannot be made or written to.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        write_json(workdir / "config.json", plain(config))
    except OSError as error:
        raise InputError(
            f"work directory {workdir} cannot be written: {error.strerror or error}"
        ) from error


def write_json(path: Path, value: Any) -> None:
    """Write atomically: a reader, or a restart, sees the whole file or none."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def read_json(path: Path) -> Any:
    """The file's content, or None if it is not there."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def plain(config: ConfigDict) -> Any:
    """As JSON gives it back, so that stored and given configurations compare equal."""
    return json.loads(json.dumps(config.to_dict()))


def flatten(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dicts to one dict with dotted keys."""
    flat = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        flat.update(flatten(value, f"{name}.") if isinstance(value, dict) else {name: value})
    return flat


def finished_result(config: ConfigDict, workdir: Path) -> dict[str, Any] | None:
    """The result stored in `workdir`, if the run of exactly this configuration is finished there.

    Raises: InputError, naming the keys that differ, if the directory holds another configuration.
    """
    stored = read_json(workdir / "config.json")
    if stored is None:
        return None
    old, new = flatten(stored), flatten(plain(config))
    if differing := sorted(k for k in old.keys() | new.keys() if old.get(k) != new.get(k)):
        changes = ", ".join(f"{k} ({old.get(k)} there, {new.get(k)} now)" for k in differing[:5])
        more = f" and {len(differing) - 5} more" if len(differing) > 5 else ""
        raise InputError(
            f"{workdir} holds a run of another configuration, differing in {changes}{more}; "
            "choose another --workdir"
        )
    return read_json(workdir / "result.json")
