"""README and docs say what is so: code runs, commands can be given, links lead somewhere.

It is long because it has what each kind of block in a page must hold.
"""

import functools
import importlib
import re
import shlex
import struct
import sys
import tomllib
from pathlib import Path

import pytest
import test_architecture
import yaml
from absl import flags
from helpers.command_line import configured
from helpers.quick import some_quick
from helpers.weights import state_dict
from PIL import Image
from safetensors.numpy import save_file
from sybil import Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser

from experiments.reporting import drawings, headline, verdicts
from experiments.reporting.claims import CLAIMS
from experiments.studies import study_names
from senet_jax import models
from senet_jax.errors import InputError
from senet_jax.system import cli
from senet_jax.weights import timm

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = {
    str(page.relative_to(ROOT)): page
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md")))
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
WORKED = "docs/own_images.md"  # see test_own_images.py
HUB = "seresnet50.ra2_in1k"  # the weights that pages take from the hub
NARROW = {"stage_sizes": (1, 1, 1, 1), "width": 8}  # in place of its network, to compile in seconds
# Commands that are not ours begin with these words; any other one is an error.
OTHERS = (
    "pip install -e",
    "pip install --no-deps -e",
    "pip install jax ",
    "pre-commit install",
    "mkdocs serve",
    "jupyter lab",
    "bash .ci/check",
    "python -m venv",
    ". .venv/bin/activate",
    "pytest",
    "cat runs/",
)
FENCE = re.compile(r"^```(\w*)$", re.MULTILINE)
INLINE = re.compile(r"`((?:python -m|pip install) [^`]+)`")
LINK = re.compile(r"\]\((?!https?:)([^)\s#]*)(?:#([^)\s]*))?\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def has(language):
    return [name for name, page in PAGES.items() if f"```{language}\n" in page.read_text("utf-8")]


def commands(page):
    """Every command of a page, in blocks and in lines of text, as a list of words."""
    text = page.read_text("utf-8")
    parser = CodeBlockParser("bash", lambda _: None)
    given = [str(example.parsed) for example in Sybil([parser]).parse(page).examples()]
    lines = "\n".join(given).replace("\\\n", " ").splitlines() + INLINE.findall(text)
    return [
        shlex.split(command) for line in lines for command in line.split(" && ") if command.strip()
    ]


# --- Python ---------------------------------------------------------------------------------------


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """Where somebody reads: a folder with a photograph, and weights in the hub's cache."""
    constructors = [(models.MODELS, "seresnet50"), (timm.NETWORKS, "seresnet50")]
    for known, name in constructors:
        monkeypatch.setitem(known, name, functools.partial(known[name], **NARROW))
    repository = tmp_path / "cache" / f"models--timm--{HUB}"
    snapshot = repository / "snapshots" / "0"
    snapshot.mkdir(parents=True)
    save_file(state_dict("seresnet50"), snapshot / "model.safetensors")
    (snapshot / "config.json").write_text('{"architecture": "seresnet50"}')
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    Image.new("RGB", (300, 280), (90, 120, 30)).save(tmp_path / "cat.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


OF_PYTHON = [name for name in has("python") if name != WORKED]
LONGER = ("docs/nnx.md", "docs/plain_loop.md")


@pytest.mark.parametrize(
    "name",
    some_quick(
        OF_PYTHON, {*OF_PYTHON} - {*LONGER}, "compiles training steps of a whole SE-ResNet-20"
    ),
)
def test_the_python_of_a_page_runs(name, reader):
    """From top to bottom, each page by itself, with a narrow network and weights in the cache."""
    for example in Sybil([PythonCodeBlockParser()]).parse(PAGES[name]).examples():
        for form in ("stablehlo", "onnx"):
            if f"model.{form}" in str(example.parsed):
                export(reader, form)
        example.evaluate()


def export(directory, form):
    """What the command above that block writes, if what it needs is here."""
    from senet_jax import export as command

    if form == "onnx":
        pytest.importorskip("onnxruntime")
    folder = directory / "exported"
    command.main(["export", f"--model={HUB}", f"--output={folder}", f"--formats={form}"])


# --- Commands -------------------------------------------------------------------------------------


class ParsedError(Exception):
    """The flags are known and have values that fit; `args` are the arguments without a flag."""


def parse(module, arguments, monkeypatch):
    """Let a command of ours read its arguments, and stop it there.

    Returns: those without a flag.
    """
    argv = [module, *arguments]
    command = importlib.import_module(module)
    monkeypatch.setattr(sys, "argv", argv)
    if module == "senet_jax.main":
        return parse_training(command, arguments, monkeypatch)
    if "parse_flags" not in Path(command.__file__).read_text("utf-8"):
        return arguments
    original = cli.parse_flags

    def parse_and_stop(argv, values, *, known_only=False):
        rest = original(argv, values, known_only=known_only)
        if known_only:  # the rest belongs to a configuration, which the command looks at next
            return rest
        raise ParsedError(*rest)

    with monkeypatch.context() as patched:
        patched.setattr(cli, "parse_flags", parse_and_stop)
        with pytest.raises(ParsedError) as stopped:
            command.main(argv)
    return stopped.value.args


def parse_training(command, arguments, monkeypatch):
    """The same for the command whose flags are those of the process, which are parsed only once."""
    (config,) = [a.partition("=")[2] for a in arguments if a.startswith("--config=")]
    cli.check_config_file(config)
    configured(config, *(a for a in arguments if a.startswith("--config.")))
    names = {flag.name for flag in flags.FLAGS.get_key_flags_for_module(command.__name__)}
    others = [a for a in arguments if not a.startswith("--config")]
    assert {a.lstrip("-").partition("=")[0] for a in others if a.startswith("-")} <= names
    return [a for a in others if not a.startswith("-")]


def check(words, monkeypatch):
    if words[:1] == ["srun"]:
        words = words[1:]
    if words[:2] == ["python", "-m"] and words[2].startswith(("senet_jax", "experiments")):
        if ">" in words:
            words = words[: words.index(">")]
        rest = parse(words[2], words[3:], monkeypatch)
        if words[2] in ("senet_jax.predict", "senet_jax.evaluate"):
            return  # image files
        known = (*study_names(), *models.MODELS, *timm.weights())
        for argument in rest:
            assert models.matching(argument, known), f"{argument} is neither a study nor a network"
    elif words[0] == "python" and words[1].endswith(".py"):
        assert (ROOT / words[1]).is_file()
    else:
        assert " ".join(words).startswith(OTHERS), f"say in OTHERS what {words} is"
        for extra in re.findall(r"\.\[([\w,]+)\]", " ".join(words)):
            assert set(extra.split(",")) <= PROJECT["optional-dependencies"].keys()


# ml_collections loads configuration files in a way that Python 3.12 lacks and 3.11 warns of.
@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
@pytest.mark.parametrize("name", list(PAGES))
def test_the_commands_of_a_page_can_be_given(name, monkeypatch):
    """Their modules, flags, configuration keys, studies and networks exist; nothing is trained."""
    monkeypatch.chdir(ROOT)
    for words in commands(PAGES[name]):
        check(words, monkeypatch)


@pytest.mark.parametrize(
    "command",
    [
        "python -m experiments.runs reduction",
        "python -m experiments.run reductoin",
        "python -m experiments.run reduction --config.train.epoch=3",
        "python -m experiments.report reduction --publsh",
        "python -m experiments.report reductoin",
        "python -m senet_jax.main --config=configs/cifar.py:seresnet20 --config.model.se.ratoi=4",
        "python -m senet_jax.main --config=configs/cifr.py --workdir=runs/x",
        "python -m senet_jax.main --config=configs/cifar.py --workdr=runs/x",
        "python -m senet_jax.predict --modle=x cat.jpg",
        "pip install -e '.[tset]'",
        "make all",
    ],
)
def test_a_command_that_cannot_be_given_is_found(command, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises((InputError, AssertionError, ImportError)):
        check(shlex.split(command), monkeypatch)


@pytest.mark.parametrize("name", list(PAGES))
def test_every_block_says_what_it_is(name):
    """Python is executed, bash is parsed; text is neither, and there is nothing else."""
    fences = FENCE.findall(PAGES[name].read_text("utf-8"))
    assert set(fences[::2]) <= {"python", "bash", "text"}
    assert set(fences[1::2]) <= {""}


# --- Links and figures ----------------------------------------------------------------------------


def slug(heading):
    return re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip())


@pytest.mark.parametrize("name", list(PAGES))
def test_the_links_of_a_page_lead_somewhere(name):
    page = PAGES[name]
    for path, anchor in LINK.findall(page.read_text("utf-8")):
        target = page.parent / path if path else page
        assert target.exists(), f"{name} links to {path}"
        if anchor:
            assert anchor in map(slug, HEADING.findall(target.read_text("utf-8"))), (path, anchor)


@pytest.mark.parametrize(("name", "most"), [("README.md", 150), ("CONTRIBUTING.md", 80)])
def test_what_is_read_first_is_short(name, most):
    assert len(PAGES[name].read_text("utf-8").splitlines()) <= most


def test_the_claims_of_the_first_page_are_those_of_the_studies():
    """If not: `python -m experiments.report --index`."""
    table = verdicts.short(verdicts.rows())
    text = f"<!-- {verdicts.SHORT} -->\n{table}<!-- end {verdicts.SHORT} -->"
    assert text in PAGES["docs/index.md"].read_text("utf-8")
    lines = table.splitlines()[2:]
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines] == [c.text for c in CLAIMS]


def test_the_results_of_the_readme_are_the_published_ones():
    """If not: `python -m experiments.report --index`."""
    page = PAGES["README.md"]
    text = f"<!-- {headline.MARK} -->\n{headline.markdown(page)}<!-- end {headline.MARK} -->"
    assert text in page.read_text("utf-8")


def test_badges_and_citation_say_what_the_package_says():
    oldest, after_newest = PROJECT["requires-python"].removeprefix(">=").split(",<3.")
    values = {
        "python.svg": f"{oldest} to 3.{int(after_newest) - 1}",
        "jax.svg": next(d for d in PROJECT["dependencies"] if d.startswith("jax>="))[5:] + "+",
        "licence.svg": PROJECT["license"].replace("-", " "),
    }
    for name, value in values.items():
        assert f">{value}<" in (DOCS / "images" / name).read_text("utf-8")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]


def test_every_page_is_in_the_navigation():
    text = (ROOT / "mkdocs.yml").read_text("utf-8")
    for page in DOCS.rglob("*.md"):
        assert f" {page.relative_to(DOCS)}\n" in text
    index = (DOCS / "decisions" / "index.md").read_text("utf-8")
    for page in (DOCS / "decisions").glob("*.md"):
        assert page.name == "index.md" or f"({page.name})" in index


def test_the_architecture_shows_and_lists_the_rooms_that_tests_hold():
    floors = [set(rooms) for rooms in reversed(test_architecture.FLOORS)]
    drawn = [{name for name, _ in floor} for floor in drawings.FLOORS]
    short = {"senet_jax", "experiments"}
    assert drawn == [
        {room if room in short else room.rpartition(".")[2] for room in rooms} for rooms in floors
    ]
    text = (DOCS / "architecture.md").read_text("utf-8")
    for room in set().union(*floors):
        assert f"| `{room}` |" in text


def test_the_drawings_are_what_the_command_draws(monkeypatch, tmp_path, capsys):
    """To the size in pixels: what is inside differs with the fonts of a version."""
    monkeypatch.setattr(drawings, "IMAGES", tmp_path / "docs" / "images")
    monkeypatch.setattr(drawings, "ROOT", tmp_path)
    drawings.main()
    drawn = sorted((tmp_path / "docs" / "images").iterdir())
    assert [path.name for path in drawn] == ["rooms.png", "se_block.png"]
    for path in drawn:
        size = struct.unpack(">II", path.read_bytes()[16:24])
        with Image.open(DOCS / "images" / path.name) as committed:
            assert size == committed.size
