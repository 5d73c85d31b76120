"""The dependency directions of the design, and TensorFlow kept inside functions."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Module (or package) to what of ours it may import.
ALLOWED = {
    "configs": {"configs"},
    "senet_jax/errors.py": set(),
    "senet_jax/layers": {"senet_jax.layers"},
    "senet_jax/models": {"senet_jax.layers", "senet_jax.models", "senet_jax.errors"},
    "senet_jax/data": {"senet_jax.data", "senet_jax.errors"},
    "senet_jax/files.py": {"senet_jax.errors"},
    "senet_jax/class_names.py": set(),
    "senet_jax/images.py": {"senet_jax.errors"},
    "senet_jax/preprocessing.py": {"senet_jax.data", "senet_jax.errors", "senet_jax.models"},
    "senet_jax/torch_names.py": {"senet_jax.errors", "senet_jax.layers", "senet_jax.models"},
    "senet_jax/lock.py": {"senet_jax.errors", "senet_jax.files"},
    "senet_jax/weight_files.py": {"senet_jax.errors", "senet_jax.files"},
    "senet_jax/processes.py": {"senet_jax.errors"},
    "senet_jax/checkpoints.py": {"senet_jax.errors", "senet_jax.files", "senet_jax.processes"},
    "senet_jax/metrics.py": {"senet_jax.errors", "senet_jax.files"},
    "senet_jax/optim.py": {"senet_jax.errors"},
    "senet_jax/fine_tuning.py": {"senet_jax.errors", "senet_jax.layers"},
    "senet_jax/parallel.py": {"senet_jax.errors", "senet_jax.processes"},
}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from names


@pytest.mark.parametrize("place", ALLOWED)
def test_imports_point_one_way(place):
    start = ROOT / place
    for path in [start] if start.is_file() else start.rglob("*.py"):
        for name in imports(path):
            if name.split(".")[0] in ("senet_jax", "configs", "experiments"):
                assert any(name.startswith(allowed) for allowed in ALLOWED[place]), (path, name)
            if place == "configs":
                assert not name.startswith(("jax", "flax")), (path, name)


def test_the_package_does_not_import_configs_or_experiments():
    for path in (ROOT / "senet_jax").rglob("*.py"):
        for name in imports(path):
            assert name.split(".")[0] not in ("configs", "experiments"), (path, name)


@pytest.mark.parametrize(
    ("word", "file"), [("jax.pmap", "parallel.py"), ("orbax", "checkpoints.py")]
)
def test_pmap_and_orbax_are_said_in_one_file_each(word, file):
    ours = [*(ROOT / "senet_jax").rglob("*.py"), *(ROOT / "experiments").rglob("*.py")]
    assert [path.name for path in ours if word in path.read_text("utf-8")] == [file]


def test_importing_the_package_imports_neither_tensorflow_nor_orbax():
    code = (
        "import sys, senet_jax.train, experiments.run, experiments.report;"
        "sys.exit('tensorflow' in sys.modules or 'orbax.checkpoint' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
