"""Huge pages are asked for once, where they are on offer, and an earlier choice stands."""

import os
import resource
import subprocess
import sys
import types

import numpy as np
import pytest

from senet_jax.system import device_memory, host_memory


@pytest.fixture
def offered(tmp_path, monkeypatch):
    def offer(choices, libc="glibc 2.39"):
        (tmp_path / "enabled").write_text(choices)
        monkeypatch.setattr(host_memory, "CHOICES", tmp_path / "enabled")
        monkeypatch.setattr(os, "confstr", lambda name: libc)

    return offer


def test_they_join_the_other_tunables(offered):
    offered("always [madvise] never\n")
    assert host_memory.tunables_for_huge_pages("") == "glibc.malloc.hugetlb=1"
    both = "glibc.malloc.check=0:glibc.malloc.hugetlb=1"
    assert host_memory.tunables_for_huge_pages("glibc.malloc.check=0") == both
    assert host_memory.tunables_for_huge_pages(both) is None  # or it would start again for ever
    assert host_memory.tunables_for_huge_pages("glibc.malloc.hugetlb=0") is None


@pytest.mark.parametrize(
    ("choices", "libc"),
    [
        ("[always] madvise never", "glibc 2.39"),
        ("always madvise [never]", "glibc 2.39"),
        ("always [madvise] never", "glibc 2.31"),
        ("always [madvise] never", None),
    ],
)
def test_not_where_they_are_there_anyway_or_cannot_be_had(offered, choices, libc):
    offered(choices, libc)
    assert host_memory.tunables_for_huge_pages("") is None


def test_the_command_starts_again_as_it_was(tmp_path):
    """Same process, same arguments, with the tunable; with the user's own choice, not at all."""
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys\n"
        "from senet_jax.system import host_memory\n"
        "print(os.getpid(), *sys.argv[1:], os.environ.get('GLIBC_TUNABLES'))\n"
        "host_memory.use_huge_pages()\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}

    def lines(**changes):
        command = [sys.executable, str(script), "a b", "--c=1"]
        return subprocess.check_output(command, env=environment | changes, text=True).splitlines()

    assert len(lines(GLIBC_TUNABLES="glibc.malloc.hugetlb=0")) == 1
    expected = host_memory.tunables_for_huge_pages("")
    first, *again = lines()
    assert first.endswith("a b --c=1 None")
    assert again == ([first.replace("None", expected)] if expected else [])


@pytest.mark.skipif(not host_memory.FORGET.exists(), reason="a process has one peak here")
def test_the_peak_of_a_run_is_not_that_of_another_before_it_in_its_process():
    host_memory.forget_peak()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + 2**17  # kibibytes
    earlier = np.ones(2**25)  # twice as much
    del earlier
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > most
    host_memory.forget_peak()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < most


def test_the_peak_of_a_device_is_a_runs_own_or_not_known(monkeypatch):
    device = types.SimpleNamespace(memory_stats=lambda: {"peak_bytes_in_use": 5})
    monkeypatch.setattr(device_memory, "local_devices", lambda devices: devices)
    peak = device_memory.Peak((device,))
    assert peak.bytes is None
    device.memory_stats = lambda: {"peak_bytes_in_use": 7}
    assert peak.bytes == 7
    device.memory_stats = lambda: None
    assert device_memory.Peak((device,)).bytes is None
