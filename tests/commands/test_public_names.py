"""The public names of the package: there, lazy, documented, and enough for the README's example."""

import ast
import importlib.metadata
import inspect
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import senet_jax

PACKAGE = Path(senet_jax.__file__).parent


def imports_for_type_checkers():
    """Name to module, as the block under `if TYPE_CHECKING:` has them."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text("utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    return {alias.name: node.module for node in block.body for alias in node.names}


def test_table_imports_and_all_name_the_same():
    assert imports_for_type_checkers() == senet_jax.MODULES
    assert sorted(senet_jax.__all__) == sorted(senet_jax.MODULES)


@pytest.mark.parametrize("name", senet_jax.__all__)
def test_a_name_is_there_and_documented(name):
    value = getattr(senet_jax, name)
    assert value is getattr(sys.modules[senet_jax.MODULES[name]], name)
    assert value.__module__ == senet_jax.MODULES[name]
    assert name in dir(senet_jax)
    first_line = inspect.getdoc(value).splitlines()[0]
    assert first_line.endswith((".", ":"))


def test_no_name_hides_a_module():
    """The attribute of a package that is a module too depends on what was imported before."""
    modules = {path.stem for path in PACKAGE.iterdir()}
    assert not modules & set(senet_jax.__all__)


def test_importing_the_package_imports_nothing_slow():
    code = (
        "import sys, senet_jax; dir(senet_jax);"
        "slow = {'jax', 'flax', 'numpy', 'absl', 'rich', 'ml_collections', 'tensorflow'};"
        "sys.exit(str(slow & set(sys.modules)) if slow & set(sys.modules) else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_other_names_are_refused_as_python_does():
    with pytest.raises(AttributeError, match="module 'senet_jax' has no attribute 'nope'"):
        _ = senet_jax.nope


def test_the_version_is_that_of_the_distribution(monkeypatch):
    assert senet_jax.__version__ == importlib.metadata.version("senet-jax")

    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert not hasattr(senet_jax, "__version__")


def test_a_model_its_size_and_its_gates():
    shape = senet_jax.image_shape_of("seresnet20_cifar")
    model = senet_jax.create_model("seresnet20_cifar", stage_sizes=(1, 1, 1), width=4)
    images = np.zeros((2, *shape), np.float32)
    variables = jax.jit(model.init)(jax.random.key(0), images)
    counts = senet_jax.summarize(model, shape)
    assert counts.params == sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    gates_of = jax.jit(senet_jax.gates_of, static_argnums=0)
    gates = gates_of(model, variables, images)
    assert {name: gate.shape for name, gate in gates.items()} == {
        f"stage{stage}/block1/se": (2, 4 * 2 ** (stage - 2)) for stage in (2, 3, 4)
    }
