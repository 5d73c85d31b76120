"""An environment has all that the bits of a result depend on, and differs where that does."""

import os

import jax
import pytest

from senet_jax.layers.network import Layers
from senet_jax.runs import provenance
from senet_jax.system import processors


@pytest.fixture
def asked_anew():
    provenance.git_commit.cache_clear()
    yield
    provenance.git_commit.cache_clear()


@pytest.mark.usefixtures("asked_anew")
def test_a_process_has_the_commit_that_it_began_with(monkeypatch):
    """It trains run after run with the code that it has read, whatever is committed meanwhile."""
    commits = iter(["0123456789ab", "", "ba9876543210", " M senet_jax/main.py"])
    monkeypatch.setattr(
        provenance, "_git", lambda *words: "" if words[0] == "ls-files" else next(commits)
    )
    assert [provenance.git_commit() for _ in range(2)] == ["0123456789ab"] * 2


X86 = """model name\t: Some Processor
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 85
flags\t\t: fpu {flags} avx avx2 fma
cpu MHz\t\t: {speed}
"""


def here():
    return provenance.environment(jax.devices(), Layers())


def test_a_restricted_mask_is_another_environment():
    usable = processors.usable()
    if len(usable) < 2 or not hasattr(os, "sched_setaffinity"):
        pytest.skip("this process may use one processor only, or there are no masks")
    before = here()
    os.sched_setaffinity(0, usable[-1:])
    try:
        now = here()
    finally:
        os.sched_setaffinity(0, usable)
    assert now["host_cpus"] == 1
    assert provenance.changes(before, now) == f"host_cpus ({len(usable)}, now 1)"


@pytest.mark.parametrize(
    ("variable", "key"), [("PJRT_NPROC", "host_cpus"), ("XLA_FLAGS", "settings")]
)
def test_variables_that_change_bits_are_another_environment(monkeypatch, variable, key):
    before = here()
    monkeypatch.setenv(variable, "999")
    assert provenance.changes(before, here()).startswith(f"{key} (")
    assert key in provenance.BITS


CHANGED = {
    "jax_enable_x64": True,
    "jax_default_matmul_precision": "highest",
    "jax_random_seed_offset": 7,
    "jax_optimization_level": "O1",
    "jax_exec_time_optimization_effort": 0.5,  # which JAX 0.12 lacks
    "jax_softmax_custom_jvp": True,
}


@pytest.mark.parametrize(
    ("name", "value"), [each for each in CHANGED.items() if hasattr(jax.config, each[0])]
)
def test_settings_of_jax_that_change_bits_are_recorded(name, value):
    before = getattr(jax.config, name)
    jax.config.update(name, value)
    try:
        assert f"{name}={value}" in provenance.settings().split()
    finally:
        jax.config.update(name, before)
    assert name not in provenance.settings()


def test_processors_of_one_name_are_told_apart_by_what_they_can_do(tmp_path, monkeypatch):
    def of(text, size="32K"):
        monkeypatch.setattr(provenance, "CPUINFO", tmp_path / "cpuinfo")
        monkeypatch.setattr(provenance, "CACHES", tmp_path)
        (tmp_path / "index0").mkdir(exist_ok=True)
        (tmp_path / "index0" / "size").write_text(size)
        provenance.CPUINFO.write_text(text)
        return provenance.processor(), provenance.processor_features()

    name, features = of(X86.format(flags="ibrs", speed=2000))
    assert of(X86.format(flags="", speed=3000)) == (name, features)
    for other in (of(X86.format(flags="avx_vnni", speed=2000)), of(X86, "48K")):
        assert other[0] == name
        assert other[1] != features
    arm = of("processor\t: 0\nFeatures\t: fp asimd sve\nCPU part\t: 0xd40\n")[1]
    assert len({features, arm, of("Features\t: fp asimd\nCPU part\t: 0xd40\n")[1]}) == 3


def test_another_system_has_an_environment_as_well(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "CPUINFO", tmp_path / "none")
    monkeypatch.setattr(provenance, "CACHES", tmp_path / "none")
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    environment = here()
    assert environment["processor_features"] == "unknown"
    assert environment["host_cpus"] == os.cpu_count()


def test_of_what_an_earlier_version_did_not_record_nothing_is_said():
    now = here() | {"processes": 2}
    earlier = {key: value for key, value in now.items() if key not in ("settings", "processes")}
    assert provenance.changes(earlier, now) == "processes (1, now 2)"
    assert provenance.changes(earlier, earlier | {"settings": "new"}) == ""
