"""The plan of the house: rooms, the directions between them, and what only one file says."""

import ast
import functools
import graphlib
import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("senet_jax", "configs", "experiments")

# From the ground up: a room imports from its own and from lower floors. Rooms that share a floor do
# not know each other. A package's own name stands for the files at its root: what people type.
FLOORS = (
    ("senet_jax.errors", "configs"),
    ("senet_jax.config",),
    ("senet_jax.layers",),
    ("senet_jax.system",),
    ("senet_jax.models", "senet_jax.data"),
    ("senet_jax.runs", "senet_jax.evaluation"),
    ("senet_jax.weights",),
    ("senet_jax.training",),
    ("senet_jax.inference",),
    ("senet_jax",),
    ("experiments.statistics",),
    ("experiments.grid",),
    ("experiments.studies", "experiments.launch", "experiments.timing"),
    ("experiments.reporting",),
    ("experiments",),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
# senet_jax/__init__.py has the public names, each taken on first use from the room that has it, and
# so experiments may import the package as anybody does.
PUBLIC = "senet_jax.__init__"


def path_of(module):
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@functools.cache
def modules():
    """Every module of ours, by its dotted name; packages end with `.__init__`."""
    return tuple(
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
    )


@functools.cache
def parsed(path):
    """A file of ours as Python reads it."""
    return ast.parse(path.read_text("utf-8"))


def imports(path):
    """Dotted names that a file imports anywhere, in functions and for type checkers as well."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def module_of(name):
    """The module of ours that a dotted name is or is in; None for those of others."""
    parts = name.split(".")
    if parts[0] not in PACKAGES:
        return None
    for end in range(len(parts), 0, -1):
        for module in (".".join(parts[:end]), ".".join([*parts[:end], "__init__"])):
            if module in modules():
                return module
    raise AssertionError(f"{name} is nowhere")


@functools.cache
def arrows():
    """(module, module that it imports), for all of ours."""
    return tuple(
        sorted(
            {
                (module, imported)
                for module in modules()
                for name in imports(ROOT.joinpath(*module.split(".")).with_suffix(".py"))
                if (imported := module_of(name)) and imported != module
            }
        )
    )


def room_of(module):
    parts = module.split(".")
    if parts[0] == "configs":
        return "configs"
    room = ".".join(parts[:2])
    return room if room in FLOOR_OF else parts[0]


def allowed(module, imported):
    if module == PUBLIC:
        return imported not in ("senet_jax.main",) and imported.startswith("senet_jax.")
    if imported == PUBLIC:
        return room_of(module).startswith("experiments")
    here, there = room_of(module), room_of(imported)
    if here == there:
        return here not in ("senet_jax", "experiments") or module.endswith("__init__")
    return FLOOR_OF[there] < FLOOR_OF[here]


def test_every_import_points_down():
    assert [arrow for arrow in arrows() if not allowed(*arrow)] == []


def test_the_directions_are_held_arrow_by_arrow():
    """No arrow between rooms could be turned without a test that fails."""
    between = [(a, b) for a, b in arrows() if room_of(a) != room_of(b) and PUBLIC not in (a, b)]
    assert between
    assert [(a, b) for a, b in between if allowed(b, a)] == []


def test_no_module_reaches_itself():
    sorter = graphlib.TopologicalSorter()
    for module, imported in arrows():
        sorter.add(module, imported)
    sorter.prepare()  # raises CycleError, which shows the way around


@pytest.mark.parametrize(("package", "most"), [("senet_jax", 10), ("experiments", 12)])
def test_the_root_of_a_package_is_what_people_type(package, most):
    files = [path for path in (ROOT / package).iterdir() if path.is_file()]
    assert len(files) <= most


def test_configurations_import_neither_us_nor_jax():
    for path in (ROOT / "configs").rglob("*.py"):
        for name in imports(path):
            assert not name.startswith(("senet_jax", "experiments", "jax", "flax")), (path, name)


@pytest.mark.parametrize(
    ("word", "file"),
    [
        ("jax.pmap", "devices.py"),
        ("orbax", "checkpoints.py"),
        # The machine's processors need not be this process's, nor are a pool's default threads.
        ("cpu_count(", "processors.py"),
        ("sched_getaffinity", "processors.py"),
    ],
)
def test_what_one_file_knows_no_other_says(word, file):
    ours = itertools.chain(*((ROOT / package).rglob("*.py") for package in PACKAGES))
    assert [path.name for path in ours if word in path.read_text("utf-8")] == [file]


def test_no_pool_has_as_many_threads_as_the_machine_has_processors():
    """What it has by default, before Python 3.13, whatever the process may use."""
    for path in itertools.chain(*((ROOT / package).rglob("*.py") for package in PACKAGES)):
        assert "ThreadPoolExecutor()" not in path.read_text("utf-8"), path


def test_importing_the_package_imports_neither_tensorflow_nor_orbax():
    code = (
        "import sys, senet_jax.training.loop, experiments.run, experiments.report;"
        "sys.exit('tensorflow' in sys.modules or 'orbax.checkpoint' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_flags_come_before_jax_and_statistics():
    """A wrong flag is refused at once, and settings that JAX reads when imported still count.

    SciPy's statistics take most of a second, for each worker that only trains as well.
    """
    modules = [f"senet_jax.{name}" for name in ("main", "evaluate", "predict", "export")]
    modules += [f"experiments.{name}" for name in ("run", "search", "status", "launch.worker")]
    late = "{'jax', 'scipy.stats'} & set(sys.modules)"
    code = f"import sys, {', '.join(modules)}; sys.exit(bool({late}))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_network_and_its_counts_bring_no_command_line_and_no_data():
    """Beside JAX and Flax, which themselves import some of these packages."""
    code = (
        "import sys, jax, flax.linen; before = set(sys.modules)\n"
        "from senet_jax import create_model, list_models, list_pretrained\n"
        "from senet_jax.models.counts import summarize\n"
        "summarize(create_model('seresnet20_cifar'), (32, 32, 3))\n"
        "print(*set(sys.modules) - before)"
    )
    imported = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True).split()
    assert "senet_jax.weights.loading" in imported
    slow = (
        "absl",
        "rich",
        "ml_collections",
        "tensorflow",
        "matplotlib",
        "orbax",
        "huggingface_hub",
    )
    ours = ("senet_jax.system.cli", "senet_jax.system.terminal")
    assert [name for name in imported if name.startswith((*slow, *ours))] == []


def test_what_is_long_says_why():
    """A file over 300 lines, or a function over 60, has a line that says that it "is long"."""
    for path in itertools.chain(*((ROOT / room).rglob("*.py") for room in (*PACKAGES, "tests"))):
        text = path.read_text("utf-8")
        if len(lines := text.splitlines()) > 300:
            assert "is long" in ast.get_docstring(parsed(path)), path
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= 60:
                body = lines[node.lineno - 1 : node.end_lineno]
                assert any("is long" in line for line in body), (path, node.name)


PREPOSITION = (
    "about|after|around|as|at|before|between|by|for|from|in|into|of|on|over|than|through|to|under"
    "|with|within|without"
)


def test_no_field_description_begins_with_a_preposition():
    """In "Attributes:" and "Args:": what a field is comes before what it is of or for."""
    for path in itertools.chain(*((ROOT / package).rglob("*.py") for package in PACKAGES)):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                for line in (ast.get_docstring(node) or "").splitlines():
                    field = re.match(rf"(?:\s+|Args: )\**[a-z][\w*, ]*: ({PREPOSITION})\b", line)
                    assert not field, (path, line)
