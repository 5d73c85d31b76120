"""The cache of compiled programs, kept between starts of a command."""

import contextlib
import os
import platform
import stat
from pathlib import Path


def enable() -> Path | None:
    """Keep what takes long to compile in a folder of the user's own; call before compiling.

    The folder is `$XDG_CACHE_HOME/senet_jax/<machine>` (by default under `~/.cache`), one per
    machine, since programs are compiled for its processor. A compiled program is code that will be
    run, so the folder must be the user's and nobody else may write to it; where that cannot be had,
    nothing is kept. `JAX_COMPILATION_CACHE_DIR`, if set, is left as it is.

    Returns the folder; None where nothing is kept, or where the user has chosen.
    """
    import jax

    if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return None
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(home).absolute() / "senet_jax" / (platform.node() or "machine")
    with contextlib.suppress(OSError):
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.stat()
        is_ours = not hasattr(os, "getuid") or status.st_uid == os.getuid()
        if is_ours and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            jax.config.update("jax_compilation_cache_dir", str(folder))
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
            return folder
    return None
