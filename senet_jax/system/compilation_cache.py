"""The cache of compiled programs, kept between starts of a command."""

import os
import platform
import sys
import warnings
from pathlib import Path

from senet_jax.errors import InputError, first_line
from senet_jax.system.cache_folder import is_writable, own_folder


def enable() -> Path | None:
    """Keep what takes long to compile in a folder of the user's own; call before compiling.

    The folder is that of `own_folder` for this machine, since programs are compiled for its
    processor. `JAX_COMPILATION_CACHE_DIR`, if set, is left as it is, unless it cannot be
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
        if "://" not in chosen and not is_writable(Path(chosen)):
            print(
                f"warning: JAX_COMPILATION_CACHE_DIR={chosen} cannot be written; compiled programs "
                "are not kept",
                file=sys.stderr,
            )
            jax.config.update("jax_enable_compilation_cache", False)
        return None
    folder = own_folder(platform.node() or "machine")
    if folder is None or not is_writable(folder):
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    return folder
