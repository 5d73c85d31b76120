"""Four simulated devices, no accelerator, quick compilation, and data of our own."""

import atexit
import gc
import importlib.metadata
import math
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

# A folder for what a session writes beside its tests. The process that starts the workers makes
# and removes it, and they inherit its name.
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["SENET_JAX_TESTS"] = tempfile.mkdtemp(prefix="senet_jax_tests_")
    atexit.register(shutil.rmtree, os.environ["SENET_JAX_TESTS"], ignore_errors=True)
# Compiled programs are kept for these tests and the commands they call, not the user's: most of a
# tiny run is its compilation, and many are of the same network. All workers share them; only with a
# limit on their size does JAX lock the folder, without which one might read what another writes.
os.environ["XDG_CACHE_HOME"] = os.path.join(os.environ["SENET_JAX_TESTS"], "cache")
os.environ["JAX_COMPILATION_CACHE_MAX_SIZE"] = str(4 * 2**30)
# Datasets of this worker's own: tests neither read nor write the user's. TFDS reads it on import.
os.environ["TFDS_DATA_DIR"] = tempfile.mkdtemp(prefix="tfds_", dir=os.environ["SENET_JAX_TESTS"])
# The hub of weights is not asked, and has nothing in its cache.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="hub_", dir=os.environ["SENET_JAX_TESTS"])
# A shell lets its background jobs ignore Ctrl-C, and they and all that they start inherit that.
# Tests press it, and ask the commands that they start to answer it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["JAX_PLATFORMS"] = "cpu"
# What works where JAX refuses to broadcast and convert by itself works where it does.
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
os.environ["JAX_NUMPY_DTYPE_PROMOTION"] = "strict"
os.environ["JAX_NUM_CPU_DEVICES"] = "4"
# Semantics are tested here, not speed, and most of a tiny run is its compilation. What is computed
# depends on the compiler as well: `SENET_JAX_COMPILER=users pytest tests/layers` has that of users.
if os.environ.get("SENET_JAX_COMPILER") != "users":
    # Tiny programs are compiled sooner in one piece than in several, which other threads take.
    os.environ["XLA_FLAGS"] = (
        "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
    )
    if importlib.metadata.version("jax").startswith("0.10."):
        # The older of its two code generators compiles in a third of the time. JAX 0.12 has only
        # the newer one, which is tested there.
        os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"

import hypothesis
import jax
import pytest
from helpers.runs import tiny_config

from senet_jax.system import compilation_cache, host_memory, startup

compilation_cache.enable()
# With its limit on size, JAX looks through the whole folder for each program that it keeps.
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
host_memory.release_after_compilation()
startup.look_rarely_for_garbage()
# Files of tests import TensorFlow themselves, which then has no Keras either: see tfds_builder.py.
sys.modules.setdefault("keras", None)
# Nobody cuts the power in a test: no file has to be on the disk before the next line runs, which
# takes a twentieth of a run's time. tests/system/test_files.py asks in which order it would be.
os.fsync = lambda descriptor: None
# A busy machine is no reason to fail.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")


ROOT = Path(__file__).parents[1]


def published():
    """The time of the last change of each page and result of the checkout."""
    paths = [ROOT / "README.md", *ROOT.glob("docs/**/*"), *ROOT.glob("experiments/results/**/*")]
    kept = (path for path in paths if path.is_file() and path.suffix != ".pyc")
    return {path: path.stat().st_mtime_ns for path in kept}


def pytest_sessionstart(session):
    session.config.published = published()


def pytest_sessionfinish(session):
    """Fail if a test has drawn over a picture, or written a page, of the checkout itself."""
    if changed := session.config.published.items() ^ published().items():
        names = sorted({str(path.relative_to(ROOT)) for path, _ in changed})
        print(f"\nwritten while these tests ran: {', '.join(names)}", file=sys.stderr)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_itemcollected(item):
    for mark in item.iter_markers("slow"):
        assert mark.kwargs["reason"], f"say why {item.nodeid} is slow"


# Modules share programs, most of all those of `tiny`, until they take too much of what a process
# may have: half of its mappings, or of memory a third of the share of each of two workers.
MAPPINGS = 2**15
memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 6


@pytest.fixture(scope="module", autouse=True)
def programs_of_some_modules():
    global memory
    yield
    if mappings() > MAPPINGS or resident() > memory:
        jax.clear_caches()
        gc.collect()
        # What is not given back is not theirs: the next modules would lose their programs for it.
        memory = max(memory, resident() + 2**30)


def mappings():
    """The number of memory mappings of this process; endless where it is not known."""
    try:
        return Path("/proc/self/maps").read_bytes().count(b"\n")
    except OSError:
        return math.inf


def resident():
    """The bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def hangup_is_answered():
    """As in a terminal, and not ignored as it is after `nohup pytest`, here and in commands."""
    previous = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, previous)


@pytest.fixture
def one_device():
    return jax.local_devices()[:1]


@pytest.fixture
def tiny():
    """A run of seconds."""
    return tiny_config()
