"""A command in a process, and called as a function, which takes a tenth of the time."""

import contextlib
import importlib
import io
import os
import subprocess
import sys
import warnings
from pathlib import Path
from unittest import mock

from senet_jax.system import cli

ROOT = Path(__file__).parents[2]


def start(module, *arguments):
    """The outcome of `python -m MODULE ARGUMENT ...` at the root of the checkout, in a process."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def call(module, *arguments):
    """The outcome of `python -m MODULE ARGUMENT ...` at the root of the checkout, in this process.

    Not for commands that keep their flags in absl's global ones, as senet_jax.main does, and
    without what they do before their imports: a test of each that starts it sees to that.
    """
    command = importlib.import_module(module)
    out, err, status = io.StringIO(), io.StringIO(), 0
    argv = [module, *map(str, arguments)]
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.dict(os.environ, COLUMNS="120"))
        stack.enter_context(mock.patch.object(sys, "argv", argv))
        stack.enter_context(contextlib.chdir(ROOT))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore", DeprecationWarning)  # as Python does, and pytest does not
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        try:
            cli.run(command.main, command.__doc__)
        except SystemExit as ended:
            status = ended.code
    return subprocess.CompletedProcess(argv, status, out.getvalue(), err.getvalue())
