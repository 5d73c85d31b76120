"""Filesystems that a test has to itself, for what a disk may refuse."""

import contextlib
import subprocess

import pytest


@contextlib.contextmanager
def mounted(path, options):
    """Mount an empty filesystem inside; skip the test where that is not permitted."""
    path.mkdir()
    command = ("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path))
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"there is no mount: {error}")
    if done.returncode:
        pytest.skip(f"mounting is not permitted: {done.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(("umount", "-l", str(path)), check=True)
