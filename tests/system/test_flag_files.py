"""Flags from a file are those of the command line, or refused in a sentence, in every command."""

import pytest
from helpers.commands import call, start

from senet_jax.errors import InputError
from senet_jax.system import cli


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "flags of mine"
    path.write_text("# what is counted\n\n--list\n")
    return path


def test_a_file_is_read_where_it_stands(file):
    nested = file.with_name("nested")
    nested.write_text(f"--a=1\n--flagfile={file}\n// more\n--b=two words\n")
    given = ["x", f"--flagfile={nested}", "--c", "--flagfile", str(file)]
    assert cli.with_flag_files(given) == ["x", "--a=1", "--list", "--b=two words", "--c", "--list"]


def test_a_command_takes_flags_from_a_file(file):
    assert call("senet_jax.summary", f"--flagfile={file}", "seresnet18").stdout == "seresnet18\n"


def test_training_takes_its_configuration_and_keys_from_a_file(file):
    """Both are looked for in `sys.argv`, by us and by ml_collections."""
    file.write_text("--config=configs/digits.py:seresnet20\n--config.seed=abc\n--workdir=x\n")
    done = start("senet_jax.main", f"--flagfile={file}")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: --config.seed must be a whole number, not 'abc'\n"


def test_flags_of_a_file_that_a_command_lacks_are_refused_as_on_the_command_line(file):
    file.write_text("--nope=1\n")
    for module, argument in (("senet_jax.summary", "seresnet18"), ("experiments.run", "bias")):
        done = call(module, argument, f"--flagfile={file}")
        assert done.returncode == 2
        assert "nope" in done.stderr
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--flagfile={tmp}/none"], "--flagfile: {tmp}/none cannot be read: No such file"),
        (["--flagfile={tmp}"], "--flagfile: {tmp} cannot be read: Is a directory"),
        (["--flagfile={tmp}/binary"], "--flagfile is not a text file"),
        (["--flagfile"], "--flagfile with no argument"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, arguments, sentence):
    (tmp_path / "binary").write_bytes(b"--list\n\xff\xfe")
    given = [argument.format(tmp=tmp_path) for argument in arguments]
    with pytest.raises(InputError, match=sentence.format(tmp=tmp_path)):
        cli.with_flag_files(given)
