"""Flags that are paths: all of them, of all commands, found by their definitions."""

import importlib
import sys
from pathlib import Path

import pytest
from absl import flags
from helpers.runs import tiny_config

from experiments.grid import sweep
from senet_jax.errors import InputError
from senet_jax.runs import workdir
from senet_jax.system import cli, files
from senet_jax.training.given import ConfigFlag
from senet_jax.weights import files as weight_files

COMMANDS = [
    *(
        f"senet_jax.{name}"
        for name in ("main", "evaluate", "predict", "export", "corrupt", "summary")
    ),
    *(
        f"experiments.{name}"
        for name in (
            *("run", "search", "report", "status", "benchmark", "cost", "overhead", "gates"),
            *("power", "timm_accuracy", "gpu_day", "launch.worker"),
        )
    ),
]
# Flags whose values are texts of other kinds.
NO_PATHS = {
    *(
        "dataset",
        "push_to_hub",
        "split",
        "network",
        "stride_on",
        "coordinator",
        "against",
        "what",
        "dtype",
        "batch",
        "size",
    ),
    *(
        "formats",
        "kinds",
        "suite",
        "input",
        "log",
        "only",
        "seeds",
        "classes",
        "processors",
        "sweep",
        "space",
        "image_size",
    ),
}
ADDRESSES = ("gs://bucket/x", "s3://bucket/x", "hdfs://host/x", "file:///tmp/x", "gs:/bucket/x")


class Defined(Exception):
    """The flags of a command, which it is about to parse."""


def flags_of(command):
    """The flags that a command defines itself, by name."""
    module = importlib.import_module(command)
    if command == "senet_jax.main":
        return {flag.name: flag for flag in flags.FLAGS.get_key_flags_for_module(module.__name__)}

    def defined(argv, values, **kwargs):
        raise Defined(values)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(cli, "parse_flags", defined)
        with pytest.raises(Defined) as caught:
            module.main([command])
    values = caught.value.args[0]
    return {name: values[name] for name in values}


def path_flags(command):
    return {n: f for n, f in flags_of(command).items() if isinstance(f.parser, cli.PathParser)}


def test_these_are_all_commands():
    root = Path(__file__).parents[2]
    found = [
        ".".join(path.relative_to(root).with_suffix("").parts)
        for package in ("senet_jax", "experiments")
        for path in (root / package).rglob("*.py")
        if "cli.run(" in path.read_text("utf-8") and path.name != "cli.py"
    ]
    without_flags = {"experiments.reporting.drawings", "experiments.timing.readers"}
    assert {name for name in found if "timing" not in name} - without_flags == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_with_a_text_is_a_path_or_known_to_be_none(command):
    texts = (flags.ArgumentParser, flags.ListParser, flags.CsvListSerializer)
    for name, flag in flags_of(command).items():
        is_text = type(flag.parser) in texts
        assert not is_text or name in NO_PATHS, f"--{name} of {command}: cli.define_path, or none?"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_path_may_begin_with_the_home_and_be_no_address(command, monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    for name, flag in path_flags(command).items():
        values = flags.FlagValues()
        values[name] = type(flag)(
            parser=flag.parser,
            serializer=flag.serializer,
            name=name,
            default=None,
            help_string="",
        )
        cli.parse_flags(["x", f"--{name}=~/a b/$x"], values)
        value = values[name].value
        assert value in ("/home/somebody/a b/$x", ["/home/somebody/a b/$x"]), name
        for address in ADDRESSES:
            with pytest.raises(InputError, match=f"--{name}={address}.* is an address"):
                cli.parse_flags(["x", f"--{name}={address}"], values)


def test_most_commands_have_some():
    assert sum(len(path_flags(command)) for command in COMMANDS) >= 18
    assert "workdir" in path_flags("senet_jax.main")


@pytest.mark.filterwarnings("ignore:.*load_module:DeprecationWarning")  # of ml_collections
@pytest.mark.parametrize("form", [["--config=~/c.py:x"], ["--config", "~/c.py:x"]])
def test_the_configuration_file_may_begin_with_the_home(form, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    code = "from configs import digits\ndef get_config(x): return digits.get_config('seresnet20')\n"
    (tmp_path / "c.py").write_text(code)
    monkeypatch.setattr(sys, "argv", ["main", *form])
    values = flags.FlagValues()
    config = ConfigFlag(values, sys.argv)
    cli.check_config_file("~/c.py:x")
    cli.parse_flags(sys.argv, values)
    assert config.value.model.name == "seresnet20_cifar"
    which, _ = sweep.study_of("~/c.py:x", ["model.se.ratio=2,4"], smoke=False)
    assert which.name == "sweep-c-x-ratio"


def test_weights_may_lie_below_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "x").mkdir()
    assert weight_files.locate("~/x") == tmp_path / "x"
    with pytest.raises(InputError, match="no weights at gs://bucket/x"):
        weight_files.locate("gs://bucket/x")


def test_no_folder_is_made_of_an_address_by_who_calls_from_python(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from senet_jax.training.loop import train_and_evaluate

    for call in (
        lambda: train_and_evaluate(tiny_config(), Path("gs://bucket/x")),
        lambda: workdir.check_usable(Path("s3://bucket/x")),
        lambda: files.check_folder(Path("hdfs://host/x"), "--output"),
    ):
        with pytest.raises(InputError, match="is an address"):
            call()
    assert not list(tmp_path.iterdir())
