"""A home folder for the libraries that keep files in one, where the user has none."""

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

# What may be read in a home that cannot be written: datasets, and weights from a hub.
KEPT = ("tensorflow_datasets", ".cache")


def ensure() -> None:
    """Let a temporary folder be the home of a user without one, and say so; call before imports.

    In a container a user may be unknown, or have a home that is not there or cannot be written.
    Some libraries refuse that, and others make a folder called "~".
    """
    home = Path(os.path.expanduser("~"))  # "~" where nobody knows
    if home.is_absolute() and home.is_dir():
        has_something = any((home / name).is_dir() for name in KEPT)
        if has_something or os.access(home, os.W_OK | os.X_OK):
            return
    try:
        folder = tempfile.mkdtemp(prefix="senet_jax_home_")
    except OSError:
        return
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["HOME"] = folder
    print(
        f"warning: there is no home folder that can be written; {folder} is it until this command "
        "ends. HOME says where it is, TFDS_DATA_DIR where datasets are",
        file=sys.stderr,
    )
