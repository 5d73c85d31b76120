"""What a study declares is what the paper prints, and every row of it can be run."""

import csv
import json
from pathlib import Path

import pytest
from runs import finish

from experiments import report, study, table
from experiments.run import override
from senet_jax.errors import InputError
from senet_jax.models import create_model

GOLDEN = Path(__file__).parent / "golden"
BACKBONES, CIFAR = (study.load_study(name) for name in ("backbones", "cifar"))


def golden(name):
    return list(csv.DictReader((GOLDEN / name).read_text("utf-8").splitlines()))


def number(text, unit=1.0):
    return float(text) * unit if text else None


def planned(which, directory=Path("runs"), dataset="digits", smoke=True, arguments=(), seeds=(0,)):
    bases = [study.base_config(which, row, dataset, smoke=smoke) for row in which.rows]
    return study.plan(which, override(bases, arguments, which, []), seeds, directory)


@pytest.fixture(scope="module")
def numbers():
    return {row["network"]: row for row in table.numbers(BACKBONES, {})}


def test_figures_of_backbones_are_those_of_tables_2_and_3(numbers):
    printed = golden("table02_imagenet.csv")
    printed += [row for row in golden("table03_mobile.csv") if row["source"] == "v4 Table 3"]
    labels = [row["model"].partition(" ")[0] for row in printed]
    assert list(numbers) == [name for label in labels for name in (label, f"SE-{label}")]
    for label, row in zip(labels, printed, strict=True):
        plain, se = numbers[label], numbers[f"SE-{label}"]
        assert plain["paper_original1"] == number(row["orig_top1"])
        assert plain["paper_original5"] == number(row["orig_top5"])
        assert se["paper_original1"] is None
        for found, kind in ((plain, "reimpl"), (se, "se")):
            assert found["paper_top1"] == number(row[f"{kind}_top1"])
            assert found["paper_top5"] == number(row[f"{kind}_top5"])
            assert found["paper_params"] == number(row.get(f"{kind}_params_M"))
            flops = row.get(f"{kind}_gflops") or number(row.get(f"{kind}_mflops"), 1e-3)
            assert found["paper_gflops"] == pytest.approx(float(flops))
        assert plain["paper_gain"] is None
        if "gain_top1" in row:
            assert se["paper_gain"] == pytest.approx(float(row["gain_top1"]))


def test_printed_counts_are_close_to_ours(numbers):
    for label, row in numbers.items():
        if "Inception-ResNet" not in label:  # printed for a smaller network; see the study's notes
            assert row["macs"] / 1e9 == pytest.approx(row["paper_gflops"], rel=0.04)
        if row["paper_params"]:
            assert row["params"] / 1e6 == pytest.approx(row["paper_params"], abs=0.1)


def test_figures_of_cifar_are_those_of_the_dataset():
    pairs = zip(CIFAR.rows[::2], CIFAR.rows[1::2], golden("table04_05_cifar.csv"), strict=True)
    for plain, se, printed in pairs:
        for dataset in ("cifar10", "cifar100"):
            for row, kind in ((plain, "original"), (se, "se")):
                figure = number(printed[f"{dataset}_{kind}"])
                assert row.printed("top1", dataset) == figure
                assert row.printed("top1", f"{dataset}:3.0.2") == figure
                assert row.printed("top1", "digits") is None


@pytest.mark.parametrize("which", [BACKBONES, CIFAR], ids=lambda which: which.name)
def test_counts_are_exact(which):
    known = {
        (row["model"], row["fields"], kind): row[kind]
        for row in golden("counts.csv")
        for kind in ("params", "gmacs")
        if row[kind]
    }
    for row in which.rows:
        network, counts = which.network_of(row), table.counts(which, row)
        fields = json.dumps({k.removeprefix("model."): v for k, v in row.overrides.items()})
        expected = {
            kind: known.get((network, fields, kind)) or known.get((network, "{}", kind))
            for kind in ("params", "gmacs")
        }
        # Shake-Shake of this width is in no other source; other widths are in tests/test_models.py.
        assert str(counts.params) == expected["params"] or "shake" in network
        if gmacs := expected["gmacs"]:
            assert round(counts.macs / 1e9, len(gmacs.partition(".")[2])) == float(gmacs)


@pytest.mark.parametrize("name", study.STUDIES)
def test_every_study_says_what_its_rows_are_compared_with(name):
    which = study.load_study(name)
    assert which.reference is None or which.reference in {row.label for row in which.rows}
    references = {row.label: which.reference_of(row) for row in which.rows}
    assert references.get(which.reference) is None
    assert which.source
    assert which.subject
    assert f"{which.source}" in which.title


@pytest.mark.parametrize("smoke", [False, True])
@pytest.mark.parametrize("dataset", ["digits", "cifar100", "imagenet2012"])
@pytest.mark.parametrize("which", [BACKBONES, CIFAR], ids=lambda which: which.name)
def test_every_row_is_a_network_of_its_own(which, dataset, smoke):
    for run in planned(which, dataset=dataset, smoke=smoke):
        fields = run.config.model.to_dict()
        model = create_model(**fields)
        assert fields["name"] == which.network_of(run.row)
        assert ("se" in fields) == bool(model.se.stages) == run.row.label.startswith("SE-")
        assert run.config.data.name == dataset
        assert run.config.data.train_split == ("train[:64]" if smoke else "train")


def test_a_plain_network_and_the_same_with_se_have_one_recipe():
    for which in (BACKBONES, CIFAR):
        runs = planned(which, dataset=which.dataset, smoke=False)
        for plain, se in zip(runs[::2], runs[1::2], strict=True):
            assert which.reference_of(se.row) is plain.row
            assert which.reference_of(plain.row) is None
            one, other = (run.config.to_dict() for run in (plain, se))
            del one["model"]["name"], other["model"]["name"], other["model"]["se"]
            assert one == other


def test_flags_hold_for_every_row_and_those_of_se_blocks_for_rows_with_them():
    arguments = ("--config.train.epochs=7", "--config.model.se.ratio=4")
    for run in planned(BACKBONES, arguments=arguments):
        assert run.config.train.epochs == 7
        if run.row.label.startswith("SE-"):
            assert run.config.model.se.ratio == 4
        else:
            assert "se" not in run.config.model


def test_gains_are_of_the_row_with_se_and_need_both_rows(tmp_path):
    runs = planned(CIFAR, tmp_path, "cifar100", smoke=False, seeds=(0, 1))
    errors = {
        "ResNet-110": (30.0, 32.0),
        "SE-ResNet-110": (25.0, 29.0),
        "SE-WRN-16-8": (9.0, 9.0),
    }
    for run in runs:
        if run.row.label in errors:
            finish(run.workdir, run.config, **{"eval/top1_error": errors[run.row.label][run.seed]})
    results = report.collect(CIFAR, tmp_path)
    columns = table.formatted(CIFAR, table.numbers(CIFAR, results))
    assert columns["our top-1"][:2] == ["31.00 ± 1.41 (2)", "27.00 ± 2.83 (2)"]
    half = 12.706 / 2**0.5 * 2**0.5  # t(0.975, 1) times the deviation of (5, 3) over the root of 2
    assert columns["our gain"] == ["-", f"+4.00 [{4 - half:.2f}, {4 + half:.2f}]", *["-"] * 8]
    assert columns["paper"][:2] == ["26.88", "23.85"]
    assert columns["paper gain"] == [
        *("-", "+3.03", "-", "+3.02", "-", "+1.29", "-", "-", "-", "+0.44"),
    ]
    report.report(CIFAR, results, tmp_path)
    with (tmp_path / "runs.csv").open() as file:
        by_model = {run["config.model.name"]: run for run in csv.DictReader(file)}
    assert by_model["preresnet110_cifar"]["config.model.se.ratio"] == ""
    assert by_model["sepreresnet110_cifar"]["config.model.se.ratio"] == "16"
    text = (tmp_path / "table.md").read_text("utf-8")
    assert "Ours: these networks on cifar100; 164, 200 epochs" in text
    assert "the networks on CIFAR-100" in text


@pytest.mark.parametrize(
    ("label", "arguments", "sentence"),
    [
        ("SE-WRN-16-8", ("--config.optim.learning_rate=0.3",), r"optim\.learning_rate"),
        ("SE-WRN-16-8", ("--config.model.se.ratio=4",), None),
        ("SE-ResNet-110", ("--config.data.train_split=train[:90]",), r"data\.train_split"),
        ("SE-ResNet-110", ("--config.train.batch_size=16",), None),
    ],
)
def test_runs_need_in_common_what_their_networks_have(tmp_path, label, arguments, sentence):
    """Beside a plain WRN: its recipe for SE-WRN, the data for any other network."""
    for options in ({}, {"arguments": arguments}):
        for run in planned(CIFAR, tmp_path, **options):
            if run.row.label == (label if options else "WRN-16-8"):
                finish(run.workdir, run.config)
    if sentence is None:
        assert len(report.collect(CIFAR, tmp_path)) == 2
    else:
        with pytest.raises(InputError, match=sentence):
            report.collect(CIFAR, tmp_path)
