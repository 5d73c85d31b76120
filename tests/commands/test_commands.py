"""The commands as a person types them: results on good input, one sentence on bad."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.commands import call

from experiments.studies import load_study

ROOT = Path(__file__).parents[2]


@pytest.fixture
def environment():
    """A user's environment, with one device and a wide terminal."""
    kept = {k: v for k, v in os.environ.items() if k != "JAX_NUM_CPU_DEVICES"}
    return kept | {"COLUMNS": "120"}


@pytest.fixture
def command(environment):
    def run(*arguments, **kwargs):
        return subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
            **kwargs,
        )

    return run


def test_summary_prints_the_exact_counts(command):
    done = command("senet_jax.summary", "seresnet50", "--se.ratio=8", "--stride_on=1x1")
    assert done.returncode == 0, done.stderr
    assert "30,586,920" in done.stdout  # r = 8, without biases
    assert "stage5" in done.stdout


def test_list_prints_the_models():
    done = call("senet_jax.summary", "--list", "seresnet*")
    assert "seresnet50\n" in done.stdout
    assert "\nresnet50" not in done.stdout


def test_all_prints_what_the_paper_prints():
    done = call("senet_jax.summary", "--all", "seresnext50*", "semobilenetv1", "sewrn*")
    assert done.returncode == 0, done.stderr
    for cell in ("27,543,848", "21.10 / 5.49", "25.3 / 7.7", "cifar10 3.88, cifar100 19.14"):
        assert cell in done.stdout


MAIN = ("senet_jax.main", "--config=configs/digits.py:seresnet20", "--workdir={tmp}/run")
RUN = ("experiments.run", "reduction", "--workdir={tmp}/run")
BACKBONES = ("experiments.run", "backbones", "--smoke", "--workdir={tmp}/run")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("senet_jax.summary", "--all", "nix*"), "no model matches 'nix*'"),
        (("senet_jax.summary", "seresnet5"), "did you mean 'seresnet50'"),
        (("senet_jax.summary", "seresnet50", "--se.ratoi=8"), "did you mean 'ratio'"),
        (("senet_jax.summary", "seresnet50", "--se.ratio=0"), "at least 1, not 0"),
        (("senet_jax.summary", "seresnet50", "--se.ratio=-2"), "at least 1, not -2"),
        (("senet_jax.summary", "seresnet50", "--se.ratio=2.5"), "2.5"),
        (("senet_jax.summary", "resnet50", "--se.ratio=8"), "use 'seresnet50'"),
        (("senet_jax.summary", "--all", "se*", "--se.ratio=2"), "--se.ratio has no effect beside"),
        (("senet_jax.summary", "--all", "se*", "--image_size=8"), "--image_size has no effect"),
        (("senet_jax.summary", "--list", "--num_classes=10"), "--num_classes has no effect beside"),
        (("senet_jax.summary", "--list", "--all"), "--all has no effect beside --list"),
        (("senet_jax.summary", "--markdown", "se*"), "--markdown is of all models"),
        (
            ("senet_jax.summary", "seinception_resnet_v2", "--image_size=74"),
            "needs 75 pixels in height and width, not 74 x 74",
        ),
        (("experiments.report", "reduction", "--root={tmp}"), "--root goes with --all"),
        (("experiments.status", "reduction", "--root={tmp}"), "--root goes with --all"),
        (
            ("experiments.report", "--all", "--root={tmp}", "--dataset=cifar10"),
            "--dataset has no effect beside --all",
        ),
        (("experiments.report", "--index", "--root={tmp}"), "--root has no effect beside --index"),
        (("experiments.cost", "--draw", "--only=SE"), "--only has no effect beside --draw"),
        (("experiments.benchmark", "--markdown=x", "--batch=2"), "--batch has no effect beside"),
        (("experiments.benchmark", "resnet50", "--growth=x"), "--growth takes no network"),
        (("experiments.benchmark", "--input=x", "--what=infer"), "--what has no effect beside"),
        (("experiments.timm_accuracy",), "give a folder of images"),
        (("senet_jax.main",), "give a configuration"),
        (("senet_jax.main", "--config=configs/nope.py"), "no configuration file 'configs/nope.py'"),
        (MAIN[:2], "give a work directory"),
        ((*MAIN, "extra"), "unexpected argument 'extra'"),
        ((*MAIN, "--wordkir=x"), "Did you mean: workdir"),
        ((*MAIN, "--config.model.se.ratoi=4"), "did you mean 'ratio'"),
        ((*MAIN, "--config.modle.se.ratio=4"), "did you mean 'model'"),
        ((*MAIN, "--config.model.se.ratio=1.5"), "1.5"),
        ((*MAIN, "--config.model.se.ratio=0"), "at least 1, not 0"),
        (
            ("senet_jax.main", "--config=configs/digits.py:seresnet21", MAIN[2]),
            "did you mean 'seresnet20_cifar'",
        ),
        (
            (MAIN[0], "--config=configs/digits.py:resnet20", MAIN[2], "--config.model.se.ratio=4"),
            "no key 'se'",
        ),
        (("experiments.run",), "give one study"),
        (("experiments.run", "reductoin"), "did you mean 'reduction'"),
        ((*RUN, "--jobs=1", "--dataset=digtis"), "did you mean 'digits'"),
        ((*RUN, "--seeds=a"), "--seeds takes whole numbers"),
        ((*RUN, "--config.model.se.gaet=tanh"), "did you mean 'model.se.gate'"),
        ((*RUN, "--config.train.batch_size=abc"), "abc"),
        ((*RUN, "--jobs=1", "--config.model.se.gate=softmax"), "gate must be one of"),
        ((*RUN, "--seeds="), "--seeds takes whole numbers"),
        ((*RUN, "--config.model.se.ratio=4"), "is what the study varies"),
        ((*RUN, "--config.seed=4"), "is what the study varies"),
        ((*RUN, "--jobs=1", "--config.optim.schedule=exp"), "schedule must be"),
        pytest.param(
            (*RUN, "--config.optim.schedule=exp"),
            "schedule must be",
            marks=pytest.mark.slow(reason="starts a process on each processor"),
        ),
        ((*MAIN, "--config.seed=-1"), "seed must be from 0"),
        pytest.param(
            (*MAIN, "--config.data.name=huggingface:mnist"),
            "dataset",
            marks=pytest.mark.slow(reason="imports what TFDS needs for them"),
        ),
        ((*BACKBONES, "--config.model.name=resnet50"), "is what the study varies"),
        ((*BACKBONES, "--config.model.se.gaet=tanh"), "did you mean 'model.se.gate'"),
        ((*BACKBONES, "--config.model.zero_init_last_bn=true"), "VGG-16 has no such key"),
        ((*RUN, "--sedes=1"), "did you mean 'seeds'"),
        ((*RUN, "--jobs=100000"), "--jobs must be from 1 to"),
        ((*RUN, "--jobs=0"), "--jobs must be from 1 to"),
        ((*RUN, "--launcher=pbs"), "--launcher=pbs"),
        ((*RUN, "--slurm.time=9"), "--slurm.time needs --launcher=slurm"),
        (("experiments.run", "--sweep=model.se.ratio=2"), "a sweep needs one --config=FILE"),
        ((*RUN, "--sweep=model.se.ratio=2"), "a sweep needs one --config=FILE"),
        (("experiments.run", *MAIN[1:]), "a sweep needs one --config=FILE"),
        (("experiments.run", *MAIN[1:], "--sweep=model.se.ratio="), "selects no run"),
        (("experiments.run", *MAIN[1:], "--sweep=model.se.ratoi=2"), "did you mean 'model.se.rat"),
        (("experiments.run", *MAIN[1:], "--sweep=model.se.ratio=2,2.5"), "must be a whole number"),
        (("experiments.run", *MAIN[1:], "--sweep=seed=1,2"), "given by --seeds"),
        (("experiments.report", "reduction", "--workdir={tmp}/run"), "there are no results"),
        (("experiments.report", "--all", "--root={tmp}/run"), "is not a directory"),
        (("experiments.report", "--all", "reduction"), "stand alone"),
        (("experiments.status", "reduction", "--workdir={tmp}/run"), "there are no runs in"),
        (("experiments.status", "--all", "reduction"), "--all stands alone"),
        (("experiments.status", "--all", "--folds=5"), "--all stands alone"),
        (("experiments.gates", "--workdir={tmp}/run"), "has no config.json"),
        (("senet_jax.evaluate", "--workdir={tmp}/run"), "has no config.json"),
        (("senet_jax.evaluate", "--wordkir=x"), "Did you mean: workdir"),
        (("experiments.gates", "--wordkir=x"), "Did you mean: workdir"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_input_gives_one_sentence_and_touches_nothing(command, tmp_path, arguments, sentence):
    start = command if arguments[0] == "senet_jax.main" else call
    done = start(*(argument.format(tmp=tmp_path) for argument in arguments))
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    error = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(error) == 1, done.stderr
    assert sentence in error[0]
    assert not list(tmp_path.iterdir())


def test_an_unwritable_workdir_gives_one_sentence(command, tmp_path):
    (tmp_path / "file").touch()
    arguments = ("--config=configs/digits.py:seresnet20", f"--workdir={tmp_path}/file/x")
    done = command("senet_jax.main", *arguments)
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


SMOKE = ("--smoke", "--seeds=0,1", "--config.train.eval_every_epochs=1")


def fingerprints(workdir):
    return {
        str(path.parent.relative_to(workdir)): json.loads(path.read_text())["params_sha256"]
        for path in workdir.glob("*/seed*/result.json")
    }


@pytest.mark.slow(reason="seven starts of a study's command, two of them cut off")
def test_an_interrupted_study_ends_like_an_uninterrupted_one(command, environment, tmp_path):
    whole = command("experiments.run", "excitation", f"--workdir={tmp_path}/whole", *SMOKE)
    assert whole.returncode == 0, whole.stderr
    expected = fingerprints(tmp_path / "whole")
    assert len(expected) == 6

    arguments = ("experiments.run", "excitation", f"--workdir={tmp_path}/cut", *SMOKE)
    started = lambda: len(list((tmp_path / "cut").glob("*/seed*/metrics.jsonl")))
    for more in (1, 2):  # Ctrl-C in the first run, and again in the one after the next
        target = started() + more
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        deadline = time.monotonic() + 200
        while started() < target and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=100)
        assert process.returncode == 130, stderr
        assert "Traceback" not in stderr
        assert len(fingerprints(tmp_path / "cut")) < 6

    resumed = command(*arguments)
    assert resumed.returncode == 0, resumed.stderr
    assert fingerprints(tmp_path / "cut") == expected
    column = lambda path: [
        [cell.split(" (")[0] for cell in line.split("|")[1:-2]]  # all but seconds a run
        for line in path.read_text().splitlines()
        if line.startswith("|")
    ]
    assert column(tmp_path / "cut" / "table.md") == column(tmp_path / "whole" / "table.md")

    began = time.monotonic()
    third = command(*arguments)
    assert time.monotonic() - began < 60
    assert "6 of 6 runs are done already" in third.stdout
    for name in ("table.csv", "runs.csv", "table.md", "table.png", "curves.csv", "curves.png"):
        assert (tmp_path / "cut" / name).stat().st_size > 0

    # Refused before anything is trained, for new seeds as well.
    other = command(*arguments[:-2], "--seeds=5", "--config.train.epochs=9")
    assert other.returncode == 2
    assert "train.epochs (3.0 there, 9.0 now)" in other.stderr
    assert not list((tmp_path / "cut").glob("*/seed5"))
    other = command(*arguments, "--config.train.epochs=9")
    assert other.returncode == 2
    assert "train.epochs (3.0 there, 9.0 now)" in other.stderr


# A study for each way of making rows, and the one with all kinds of blocks. Programs of all rows of
# all studies are built in test_studies.py; to compile them would take a quarter of an hour.
IN_MINIATURE = ("squeeze", "successors", "cifar", "transfer")


@pytest.mark.slow(reason="every row of four studies, compiled and trained")
@pytest.mark.parametrize("name", IN_MINIATURE)
def test_a_study_runs_in_miniature(command, tmp_path, name):
    done = command("experiments.run", name, "--smoke", f"--workdir={tmp_path}")
    assert done.returncode == 0, done.stderr
    rows, trained = len(load_study(name).rows), fingerprints(tmp_path)
    assert len(trained) == rows
    text = (tmp_path / "table.md").read_text()
    assert len([line for line in text.splitlines() if "|" in line]) == rows + 2
    assert len(set(trained.values())) == rows
    assert ("narrow members of these families on digits" in text) == (name == "cifar")
    assert (tmp_path / "table.png").read_bytes().startswith(b"\x89PNG")
    if name == "squeeze":
        again = command("experiments.report", name, f"--workdir={tmp_path}")
        assert again.returncode == 0, again.stderr


@pytest.mark.parametrize(
    "module", ["senet_jax.main", "senet_jax.evaluate", "senet_jax.summary", "experiments.run"]
)
def test_help_shows_how_to_call(command, module):
    done = command(module, "--help")
    assert done.returncode == 0
    assert f"python -m {module}" in done.stdout


def test_a_flag_is_refused_without_waiting_for_jax(environment):
    code = (
        "import sys, senet_jax.main, senet_jax.evaluate, experiments.run;"
        "sys.exit('jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=False)
    assert done.returncode == 0
