"""A sweep is the product of its values, and is reported like any study."""

import copy
import csv
import re
import unicodedata

import pytest
from helpers.runs import finish, finish_untrained, tiny_config

from experiments.grid import folder_names, study, sweep
from experiments.grid.plan import on_folds, plan
from experiments.reporting import table
from experiments.reporting.collect import collect
from experiments.reporting.write import write_report
from experiments.run import define_all_flags, main, override
from senet_jax.errors import InputError
from senet_jax.system import cli
from senet_jax.training.start import resolve_config

FILE = "configs/cifar.py:seresnet20,cifar100"
SWEEPS = ("model.se.ratio=2,4", "optim.learning_rate=0.05,0.1", "model.se.stages=(2,3), (4,)")


def planned(directory, sweeps=SWEEPS, seeds=(0,), arguments=(), smoke=False):
    which, config = sweep.study_of(FILE, sweeps, smoke=smoke)
    bases = [copy.deepcopy(config) for _ in which.rows]
    return which, plan(which, override(bases, arguments, which, []), seeds, directory)


def test_rows_are_all_combinations_with_values_of_the_configurations_types(tmp_path):
    which, runs = planned(tmp_path, arguments=("--config.train.epochs=7",))
    assert [run.row.label for run in runs] == [
        f"ratio={ratio},learning_rate={rate},stages={stages}"
        for ratio in (2, 4)
        for rate in (0.05, 0.1)
        for stages in ("(2,3)", "(4,)")
    ]
    config = runs[3].config
    assert (config.model.se.ratio, config.optim.learning_rate) == (2, 0.1)
    assert config.model.se.stages == (4,)
    assert config.train.epochs == 7
    assert runs[3].workdir == tmp_path / "ratio=2,learning_rate=0.1,stages=(4,)" / "seed0"
    assert which.dataset == "cifar100"
    assert which.name == "sweep-cifar-seresnet20,cifar100-ratio,learning_rate,stages"


@pytest.mark.parametrize(
    "again",
    [
        "model.se.ratio=4,04",
        "optim.learning_rate=0.1,1e-1",
        "model.se.stages=(2,3),(4,),(3,2)",
        "optim.freeze=('stem','stage2'),('stage2','stem')",
    ],
)
def test_a_value_that_trains_the_same_run_again_is_refused(again, tmp_path):
    with pytest.raises(InputError, match=r"--sweep=.* has .* twice"):
        planned(tmp_path, sweeps=(again,))


DERIVED = """
from configs import digits

def get_config(arg="seresnet20"):
    config = digits.get_config(arg)
    with config.ignore_type():
        config.optim.learning_rate = config.train.get_ref("batch_size") * 0.001
    return config
"""


def test_what_a_configuration_derives_from_a_value_follows_it_as_in_a_direct_run(tmp_path):
    (tmp_path / "mine.py").write_text(DERIVED)

    def rates(sweep_of, *flags, derived=(), folds=False):
        which, config = sweep.study_of(str(tmp_path / "mine.py"), [sweep_of], smoke=False)
        values = define_all_flags()
        cli.parse_flags(["run", "--folds=2"] if folds else ["run"], values)
        bases = on_folds([copy.deepcopy(config) for _ in which.rows], flags, values)
        bases = override(bases, flags, which, [])
        assert all(row.varied == {*row.overrides, *derived} for row in which.rows)
        assert [note.split()[-1].rstrip(".") for note in which.notes] == [*derived]
        return [run.config.optim.learning_rate for run in plan(which, bases, (0,), tmp_path)]

    derived = ("optim.learning_rate",)
    for folds in (False, True):
        found = rates("train.batch_size=64,128", derived=derived, folds=folds)
        assert found == pytest.approx([0.064, 0.128])
    assert rates("optim.momentum=0.8,0.9", "--config.train.batch_size=32") == [0.032, 0.032]
    with pytest.raises(InputError, match=r"optim\.learning_rate"):  # as a direct run does
        rates("optim.learning_rate=0.1,0.2")


def test_what_is_left_to_swept_weights_may_differ_between_their_rows(tmp_path):
    """The network, and how images are normalised: a study's rows must be the same in these."""
    for number, fields in enumerate(({"ratio": 4}, {"gate": "relu", "stages": (3,)})):
        config = tiny_config(stages=2)
        config.model.se.update(fields)
        finish_untrained(tmp_path / f"run{number}", config, recorded=True)
    runs = ",".join(str(tmp_path / f"run{number}") for number in (0, 1))
    file = "configs/finetune.py:digits,seresnet20_cifar"
    which, base = sweep.study_of(file, [f"model.pretrained={runs}"], smoke=False)
    directory = tmp_path / "sweep"
    for run in plan(which, [base, base], (0,), directory):
        finish(run.workdir, resolve_config(run.config, tmp_path / "none"))
    assert [*collect(which, directory).results] == [row.label for row in which.rows]
    assert "model.se.gate" in which.notes[-1]
    assert "data.mean" in which.notes[-1]
    assert "optim" not in which.notes[-1]


def test_a_table_says_of_which_weights_its_errors_are_where_there_are_averages(tmp_path):
    which, runs = planned(tmp_path, ["train.ema_decay=0.0,0.9"], seeds=(0, 1))
    for run, error in zip(runs, (None, 20.0, None, 22.0), strict=True):
        averages = {} if error is None else {"eval_ema/top1_error": error}
        finish(run.workdir, run.config, **averages)
    found = collect(which, tmp_path)
    lines = table.remarks(which, found.results, found.unfinished)
    assert (
        sum("final weights" in line and "ema_decay=0.9: 21.00 (2)" in line for line in lines) == 1
    )
    del found.results["ema_decay=0.9"]
    assert "final weights" not in str(table.remarks(which, found.results, found.unfinished))


def test_a_table_says_by_which_key_and_over_what_weights_were_averaged(tmp_path):
    which, runs = planned(tmp_path, ["train.swa_epochs=0,2"], seeds=(0, 1))
    for run in runs:
        run.config.data.fold = (run.seed + 1, 2)
        finish(run.workdir, run.config, **{"eval_ema/top1_error": 20.0})
    found = collect(which, tmp_path)
    (line,) = (x for x in table.remarks(which, found.results, {}) if "final weights" in x)
    assert "(train.swa_epochs)" in line
    assert "(folds)" in line
    assert "seeds" not in line


def test_keys_that_end_alike_keep_their_whole_names():
    which, _ = sweep.study_of(
        FILE, ["optim.schedule=step,cosine", "optim.warmup=linear"], smoke=False
    )
    assert list(which.factors) == ["schedule", "warmup"]
    which, _ = sweep.study_of(FILE, ["data.name=cifar10,cifar100", "model.name=a,b"], smoke=False)
    assert list(which.factors) == ["data.name", "model.name"]
    assert [row.network for row in which.rows] == ["a", "b"] * 2


def test_what_is_swept_cannot_hold_for_every_row(tmp_path):
    with pytest.raises(InputError, match=r"model\.se\.ratio is what the study varies"):
        planned(tmp_path, arguments=("--config.model.se.ratio=8",))


def test_in_miniature_it_is_a_narrow_network_on_a_part_of_its_own_data(tmp_path):
    _, runs = planned(tmp_path, smoke=True)
    for run in runs:
        assert run.config.data.name == "cifar100"
        assert run.config.data.train_split == "train[:80]"
        assert run.config.model.width == 8
    _, config = sweep.study_of(
        "configs/finetune.py:digits,seresnet20_cifar", ["optim.learning_rate=1,2"], smoke=True
    )
    # What the weights decide, they decide in miniature, too.
    assert config.data.image_size == -1
    assert not {"width", "stage_sizes"} & {*config.model}


def test_the_table_has_a_column_for_each_key_and_compares_with_the_first_row(tmp_path):
    which, runs = planned(tmp_path, SWEEPS[:2], seeds=(0, 1))
    errors = {"ratio=2,learning_rate=0.05": (30.0, 32.0), "ratio=4,learning_rate=0.1": (27.0, 28.0)}
    for run in runs:
        if run.row.label in errors:
            error = errors[run.row.label][run.seed]
            ratio = run.config.model.se.ratio
            counts = {"params": 1000 // ratio, "macs": 2e9}
            finish(run.workdir, run.config, (50.0, error), **counts, **{"eval/top1_error": error})
    write_report(which, collect(which, tmp_path).results, tmp_path, {})
    text = (tmp_path / "table.md").read_text("utf-8")
    head, *rows = (line.strip("| ").split(" | ") for line in text.splitlines() if "| " in line)
    assert head == [
        "ratio",
        "learning_rate",
        "parameters",
        "GMACs",
        "our top-1",
        "our gain",
        "s/run",
    ]
    assert rows[0][:5] == ["2", "0.05", "500", "2.000", "31.00 ± 1.41 (2)"]
    assert rows[1][:5] == ["2", "0.1", "-", "-", "-"]
    assert rows[3][5].startswith("+3.50 [")
    assert "Compared with ratio=2,learning_rate=0.05: not distinguishable" in text
    assert "paper" not in text
    assert "Ours: seresnet20_cifar on cifar100; 164 epochs" in text
    with (tmp_path / "table.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [(line["ratio"], line["learning_rate"]) for line in lines] == [
        *(("2", "0.05"), ("2", "0.1"), ("4", "0.05"), ("4", "0.1")),
    ]
    for name in ("runs.csv", "curves.csv", "table.png", "curves.png"):
        assert (tmp_path / name).stat().st_size


@pytest.mark.parametrize(
    ("key", "values", "words"),
    [
        ("model.name", "seresnet20_cifar,seresnet56_cifar", "seresnet20_cifar or seresnet56_cifar"),
        ("data.name", "cifar100,cifar10", "seresnet20_cifar on cifar100 or cifar10; "),
    ],
)
def test_the_caption_names_all_networks_and_datasets(key, values, words, tmp_path):
    which, runs = planned(tmp_path, (f"{key}={values}",))
    for run in runs:
        finish(run.workdir, run.config, macs=1)
    assert f"Ours: {words}" in table.caption(which, collect(which, tmp_path).results)


def test_flags_beside_a_sweep_are_in_its_table(tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.reporting.write.figure_files", lambda *_: {})
    sweeps, flags = ("model.se.ratio=2,4",), ("--config.train.epochs=7", "--config.data.flip=False")
    for run in planned(tmp_path, sweeps, arguments=flags)[1]:
        finish(run.workdir, run.config, macs=1)
    sweep_of = (f"--config={FILE}", f"--sweep={sweeps[0]}", "--seeds=0", f"--workdir={tmp_path}")
    main(["run", *sweep_of, *flags])
    text = (tmp_path / "table.md").read_text("utf-8")
    assert "- All rows with --config.train.epochs=7 --config.data.flip=False.\n" in text


DIFFERENT = [
    *("a b", "ab", "Ab", "AB", "a/b", "a_b", "a~b", " ", "", "é", "e\u0301", "a=b", "$x", "x"),
    *("~/x", "/x", "..", ".", "x" * 199, "x" * 300, "x" * 301, "x" * 300 + "é", "runs/x", "runs_x"),
    *(("a", "b"), ("a,b",), ("a b",), ("ab",), ("a", "B"), ("a(", "b"), (2, 3), (), (("a",), 2)),
]


def test_no_two_values_share_a_folder():
    """On any disk: one takes capitals for small letters, others take names of 255 bytes at most."""
    names = [folder_names.in_a_path(value) for value in DIFFERENT]
    assert len({unicodedata.normalize("NFC", name).casefold() for name in names}) == len(names)
    for name in names:
        assert len(name.encode()) <= 200
        assert "/" not in name
    rows = study.grid({"data.train_split": ["train[:9%]" + "+test" * 60], "model.name": DIFFERENT})
    labels = [row.label for row in rows]
    assert len({label.casefold() for label in labels}) == len(labels)
    assert max(len(label.encode()) for label in labels) <= 200


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (16, "16"),
        (0.05, "0.05"),
        (True, "True"),
        ((2, 3, 4, 5), "(2,3,4,5)"),
        ((), "()"),
        (("stem", "stage2"), "(stem,stage2)"),
        ("hard_sigmoid", "hard_sigmoid"),
        ("train[:90%]", "train[:90%]"),
        ("seresnet50.ra2_in1k", "seresnet50.ra2_in1k"),
        ("sweep-finetune-digits:1.0.0,seresnet20_cifar-ratio", None),
    ],
)
def test_usual_values_are_their_own_names(value, name):
    assert folder_names.in_a_path(value) == (name or value)


def test_the_folder_of_a_dataset_stays_below_runs():
    for name in ("digits", "cifar100:3.0.2", "mnist_corrupted/brightness:1.0.0"):
        assert folder_names.folder_of(name) == name
    for name in ("/data/cifar100/3.0.2", "../x", "~/x", "a/../../b", "gs://b/x/1.0.0"):
        assert "/" not in folder_names.folder_of(name)
    own = [
        "folder:/home/x/photos",
        "folder:/home/y/photos",
        "hf:org/photos:all",
        "csv:/a b/ö: 1.csv",
    ]
    folders = [folder_names.folder_of(name) for name in own]
    assert len({*folders}) == len(own)
    for name in folders:
        assert re.fullmatch(r"(folder-photos|hf-photosall|csv-ö1\.csv)~\w{12}", name)
