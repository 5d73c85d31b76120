"""The cache of compiled programs, kept between starts of a command."""

import os
import platform
import stat
import sys
import tempfile
import warnings
from pathlib import Path

from senet_jax.errors import InputError, first_line


def enable() -> Path | None:
    """Keep what takes long to compile in a folder of the user's own; call before compiling.

    The folder is `$XDG_CACHE_HOME/senet_jax/<machine>` (by default under `~/.cache`), one per
    machine, since programs are compiled for its processor. A compiled program is code that will be
    run, so the folder must be the user's and nobody else may write to it; where that cannot be had,
    nothing is kept. `JAX_COMPILATION_CACHE_DIR`, if set, is left as it is, unless it cannot be
    written, which is said.

    Returns the folder; None where nothing is kept, or where the user has chosen.

    Raises: InputError if JAX has no device to compile for.
    """
    import jax

    try:
        jax.local_devices()
    except (RuntimeError, AssertionError) as error:  # the latter says nothing
        raise InputError(
            f"JAX finds no device: JAX_PLATFORMS is {os.environ.get('JAX_PLATFORMS', '')!r}; unset "
            f"it, or name what this machine has, such as cpu ({first_line(error)})"
        ) from error
    # JAX writes entries in place: of one that is being written by another process, or was cut off
    # by a full disk, it says so, compiles, and is right. That is no news for whoever trains.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")
    if chosen := os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        if "://" not in chosen and not _is_writable(Path(chosen)):
            print(
                f"warning: JAX_COMPILATION_CACHE_DIR={chosen} cannot be written; compiled programs "
                "are not kept",
                file=sys.stderr,
            )
            jax.config.update("jax_enable_compilation_cache", False)
        return None
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(home).absolute() / "senet_jax" / (platform.node() or "machine")
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.stat()
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        return None
    is_ours = not hasattr(os, "getuid") or status.st_uid == os.getuid()
    if not is_ours or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) or not _is_writable(folder):
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    return folder


def _is_writable(folder: Path) -> bool:
    """Whether a folder, made if need be, takes a page; not on a full disk or a read-only one."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
    except OSError:
        return False
    return True
