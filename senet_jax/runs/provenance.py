"""Where a number comes from: hardware, versions, commit, and a fingerprint of the weights."""

import contextlib
import hashlib
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from senet_jax.system.devices import Devices


def environment(devices: Devices) -> dict[str, Any]:
    """Hardware, versions and commit: what a number depends on besides the configuration."""
    packages = ("jax", "flax", "optax")
    return {
        "devices": len(devices),
        **({"processes": jax.process_count()} if jax.process_count() > 1 else {}),
        "device_kind": devices[0].device_kind,
        "processor": processor(),
        "host_cpus": os.cpu_count(),
        "python_version": platform.python_version(),
        **{f"{name}_version": importlib.metadata.version(name) for name in packages},
        "git_commit": git_commit(),
    }


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The differences between two environments, with both values; "" for none."""
    names = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    return ", ".join(f"{name} ({before.get(name)}, now {now.get(name)})" for name in names)


def processor() -> str:
    """The host's processor by name, and whether it has AVX-512."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
        wide = any(" avx512f" in line for line in lines)
        name = (names or [name])[0] + (" AVX-512" if wide else "")
    return name


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
