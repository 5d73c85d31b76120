"""Folders of the user's own for what is made once and kept: compiled programs, decoded images."""

import os
import stat
import tempfile
from pathlib import Path


def own_folder(name: str) -> Path | None:
    """The folder `$XDG_CACHE_HOME/senet_jax/<name>` (by default under `~/.cache`), made if need be.

    What lies there is run or trained on, so the folder must be the user's and nobody else may write
    to it. Returns None where that cannot be had: then nothing is kept.
    """
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(home).absolute() / "senet_jax" / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.stat()
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        return None
    is_ours = not hasattr(os, "getuid") or status.st_uid == os.getuid()
    if not is_ours or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return None
    return folder


def is_writable(folder: Path) -> bool:
    """Whether a folder, made if need be, takes a page; not on a full disk or a read-only one."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
    except OSError:
        return False
    return True
