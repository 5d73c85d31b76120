"""Where a number comes from: hardware, versions, commit, and a fingerprint of the weights."""

import contextlib
import functools
import hashlib
import importlib.metadata
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from senet_jax.layers.cpu import onednn
from senet_jax.layers.network import Layers, Network
from senet_jax.system import processors
from senet_jax.system.devices import PMAP, Devices, backend_of

CPUINFO = Path("/proc/cpuinfo")
CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
# What compilers and libraries choose their code by, as x86 and ARM call it.
KIND = ("vendor_id", "cpu family", "model", "CPU implementer", "CPU architecture", "CPU part")
INSTRUCTIONS = re.compile(r"(s?sse|avx|amx|fma|f16c|bmi|asimd|sve|sme|bf16|i8mm|fp)\w*")
# JAX's settings that change numbers, and their usual values. Others, such as where programs are
# kept, do not.
SETTINGS = {
    "jax_default_matmul_precision": None,
    "jax_default_prng_impl": "threefry2x32",
    "jax_disable_most_optimizations": False,
    "jax_enable_x64": False,
    "jax_exec_time_optimization_effort": 0.0,
    "jax_optimization_level": "UNKNOWN",
    "jax_random_seed_offset": 0,
    "jax_softmax_custom_jvp": False,
    "jax_threefry_partitionable": True,
}
# The keys of an environment on which the bits of a result depend, and what each is in words.
# Results of earlier versions lack some of them.
BITS = {
    "device_kind": "kind of device",
    "devices": "number of devices",
    "processes": "number of processes",
    "parallel": "backend of the steps",
    "host_cpus": "number of processors",
    "processor": "kind of processor",
    "processor_features": "features of the processor",
    "settings": "settings of JAX and XLA",
    "jax_version": "version of JAX",
    "onednn_version": "version of oneDNN",
}
# What is in an environment only where it is not as usual.
USUAL = {"processes": 1, "parallel": PMAP, "onednn_version": "none"}


def environment(devices: Devices, network: Layers | Network) -> dict[str, Any]:
    """Hardware, versions and commit: what a number depends on besides the configuration.

    `network` says in which dtype layers train, and by what implementation.
    """
    packages = ("jax", "flax", "optax")
    unusual = {
        "processes": jax.process_count(),
        "parallel": backend_of(devices),
        "onednn_version": onednn.in_use(devices[0].platform, network.dtype, network.implementation)
        or "none",
    }
    return {
        "devices": len(devices),
        **{key: value for key, value in unusual.items() if value != USUAL[key]},
        "device_kind": devices[0].device_kind,
        "processor": processor(),
        "processor_features": processor_features(),
        "host_cpus": processors.threads_of_xla(),
        "settings": settings(),
        "python_version": platform.python_version(),
        **{f"{name}_version": importlib.metadata.version(name) for name in packages},
        "git_commit": git_commit(),
    }


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The differences between two environments, with both values; "" for none.

    Of what an earlier version did not record, nothing is said.
    """
    before, now = USUAL | dict(before), USUAL | dict(now)
    names = sorted(key for key in before.keys() & now.keys() if before[key] != now[key])
    return ", ".join(f"{name} ({before[name]}, now {now[name]})" for name in names)


def processor() -> str:
    """The host's processor by name, and whether it has AVX-512."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = CPUINFO.read_text("utf-8").splitlines()
        names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
        wide = any(" avx512f" in line for line in lines)
        name = (names or [name])[0] + (" AVX-512" if wide else "")
    return name


def processor_features() -> str:
    """Eight digits for what XLA looks at in the host's processor; "unknown" without Linux.

    These are its kind, vector instructions and the sizes of its caches. Processors of one name may
    differ in them, those of virtual machines above all.
    """
    features = set()
    with contextlib.suppress(OSError):
        for line in CPUINFO.read_text("utf-8").splitlines():
            name, _, value = (part.strip() for part in line.partition(":"))
            if name in KIND:
                features.add(f"{name} {value}")
            elif name in ("flags", "Features"):
                features |= {word for word in value.split() if INSTRUCTIONS.fullmatch(word)}
        features |= {f"{path.parent.name} {path.read_text()}" for path in CACHES.glob("*/size")}
    return (
        hashlib.sha256("\n".join(sorted(features)).encode()).hexdigest()[:8]
        if features
        else "unknown"
    )


def settings() -> str:
    """The settings of JAX and XLA that change numbers and are not the usual ones, or "usual"."""
    values = jax.config.values
    changed = [
        f"{name}={values[name]}"
        for name, usual in SETTINGS.items()
        if values.get(name, usual) != usual
    ]
    return " ".join([*changed, *sorted(os.environ.get("XLA_FLAGS", "").split())]) or "usual"


def fingerprint(variables: Any) -> str:
    """SHA-256 of name, type, shape and bytes of every array, in the order of their paths."""
    digest = hashlib.sha256()
    leaves = {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(variables)
    }
    for path in sorted(leaves):
        digest.update(f"{path} {leaves[path].dtype} {leaves[path].shape}".encode())
        digest.update(leaves[path].tobytes())
    return digest.hexdigest()


@functools.cache  # a process trains run after run with the code it began with; files may change
def git_commit() -> str:
    """The commit of this code, with "-dirty" where Python files differ from it; or "unknown"."""
    here = Path(__file__)
    try:
        # Fails where this file is installed inside somebody else's checkout.
        _git("ls-files", "--error-unmatch", here.name)
        commit = _git("rev-parse", "--short=12", "HEAD")
        return commit + ("-dirty" if _git("status", "--porcelain", "--", ":/*.py") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
