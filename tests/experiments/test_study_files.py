"""A study is there by its file, and a broken file is nobody else's trouble."""

import subprocess
import sys
from pathlib import Path

import pytest

from experiments import studies
from senet_jax.errors import InputError

ROOT = Path(__file__).parents[2]
NEW = """
from experiments.grid.study import Row
from experiments.studies._section6 import ablation

STUDY = ablation(
    title="Ours: how often",
    column="often",
    rows=(Row("once", {"model.se.ratio": 2}), Row("twice", {"model.se.ratio": 4})),
    reference="once",
)
"""


@pytest.fixture
def add(tmp_path, monkeypatch):
    """Put a file of that name and text into the folder of studies, for one test."""
    monkeypatch.setattr(studies, "__path__", [*studies.__path__, str(tmp_path)])
    before = set(sys.modules)

    def write(name, text):
        (tmp_path / f"{name}.py").write_text(text)

    yield write
    for module in set(sys.modules) - before:
        if module.startswith("experiments.studies."):
            del sys.modules[module]


def test_lists_begin_with_the_tables_of_the_ablations():
    assert [study.name for study in studies.load_studies()] == [
        *("reduction", "squeeze", "excitation", "stages", "integration", "se3x3", "no_squeeze"),
        *("bias", "wrong_variants", "successors", "backbones", "cifar", "transfer"),
        *("recipes", "preactivation"),
    ]


def test_a_study_is_there_by_its_file_and_last_in_lists(add):
    add("how_often", NEW)
    add("_shared", "RATIO = 2")
    assert "how_often" in studies.study_names()
    assert not {"_shared", "_section6", "__init__"} & set(studies.study_names())
    assert studies.load_study("how_often").subject == "how often"
    assert studies.load_studies()[-1].name == "how_often"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("STUDY = 1 / 0", "ZeroDivisionError: division by zero"),
        ("STUDY =", "SyntaxError: invalid syntax"),
        ("import nowhere", "ModuleNotFoundError: No module named 'nowhere'"),
        ("TABLE = 1", "has no attribute 'STUDY'"),
        ("STUDY = 7", "STUDY must be a Study, not 7"),
    ],
)
def test_a_broken_file_is_a_sentence_when_it_is_asked_for_and_breaks_no_other(
    add, text, sentence, capsys
):
    add("broken", text)
    with pytest.raises(InputError, match=r"experiments/studies/broken\.py: ") as refusal:
        studies.load_study("broken")
    assert sentence in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert studies.load_study("bias").name == "bias"
    assert len(studies.load_studies()) == len(studies.study_names()) - 1
    assert capsys.readouterr().err.startswith("left out: experiments/studies/broken.py")


def test_an_unknown_study_is_a_sentence_with_the_nearest():
    with pytest.raises(InputError, match=r"unknown study 'reducton'; did you mean 'reduction'\?"):
        studies.load_study("reducton")


def test_help_imports_no_study():
    code = (
        "import runpy, sys; sys.argv = ['run', '--help'];"
        "runpy.run_module('experiments.run', run_name='__main__');"
        "sys.exit('experiments.studies.reduction' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False)
    assert done.returncode == 0
