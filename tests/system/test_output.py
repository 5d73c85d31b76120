"""The output of a command on a full disk, or closed by whoever started it."""

import functools
import subprocess
import sys

import jax
import numpy as np
import pytest

from senet_jax.errors import InputError
from senet_jax.system import cli, compilation_cache

COMMAND = """
from senet_jax.system import cli, host_memory
host_memory.use_huge_pages()
cli.run(lambda argv: print("x" * %d), "")
"""


@pytest.mark.parametrize("letters", [10, 100_000])  # written at the end, and on the way
@pytest.mark.parametrize(
    ("place", "status", "said"),
    [
        (">/dev/full", 2, "error: the output cannot be written: No space left on device\n"),
        (">&-", 0, ""),
        (">&- 2>&-", 0, ""),
    ],
)
def test_output_that_goes_nowhere_ends_no_command_with_a_traceback(letters, place, status, said):
    shell = ["sh", "-c", f'exec "$0" -c "$1" {place}', sys.executable, COMMAND % letters]
    done = subprocess.run(shell, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (status, said)


@pytest.mark.parametrize("error", [AssertionError(), RuntimeError("Unable to initialize")])
def test_no_device_is_a_sentence(monkeypatch, error):
    def local_devices():
        raise error

    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    monkeypatch.setattr(jax, "local_devices", local_devices)
    with pytest.raises(InputError, match="no device: JAX_PLATFORMS is 'cuda'; unset it, or name"):
        compilation_cache.enable()


def test_a_guard_of_jax_against_transfers_is_named(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["command"])
    ask = functools.partial(cli.run, lambda _: jax.device_put(np.ones(2)) + 1, None)
    with jax.transfer_guard("disallow"):
        with pytest.raises(jax.errors.JaxRuntimeError):  # not by the environment
            ask()
        monkeypatch.setenv("JAX_TRANSFER_GUARD", "disallow")
        with pytest.raises(SystemExit) as ended:
            ask()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: JAX_TRANSFER_GUARD=disallow forbids")
