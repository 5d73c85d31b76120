"""What a study declares is what the paper prints, and every row of it can be run.

The file is long because every table of the paper has its figures and its exceptions here.
"""

import csv
import json
from pathlib import Path

import jax
import pytest
from helpers.quick import one_in
from helpers.runs import finish

from experiments.grid.plan import base_config, paper_config, plan
from experiments.grid.study import on_dataset
from experiments.reporting import numbers, table
from experiments.reporting.collect import collect
from experiments.reporting.write import write_report
from experiments.run import override
from experiments.studies import load_studies
from experiments.studies.transfer import CLASSES, FIRST, SECOND
from senet_jax.errors import InputError
from senet_jax.models import create_model
from senet_jax.training.start import split_origin

GOLDEN = Path(__file__).parents[1] / "golden"
STUDIES = {study.name: study for study in load_studies()}
BACKBONES, CIFAR = STUDIES["backbones"], STUDIES["cifar"]
ABLATIONS = [which for which in STUDIES.values() if which.network == "seresnet50"]


def golden(name):
    return list(csv.DictReader((GOLDEN / name).read_text("utf-8").splitlines()))


def number(text, unit=1.0):
    return float(text) * unit if text else None


def planned(which, directory=Path("runs"), dataset="digits", smoke=True, arguments=(), seeds=(0,)):
    bases = [base_config(which, row, dataset, smoke=smoke) for row in which.rows]
    return plan(which, override(bases, arguments, which, []), seeds, directory)


@pytest.fixture(scope="module")
def backbones():
    return {row["network"]: row for row in numbers.number_rows(BACKBONES, {})}


def test_figures_of_backbones_are_those_of_tables_2_and_3(backbones):
    printed = golden("table02_imagenet.csv")
    printed += [row for row in golden("table03_mobile.csv") if row["source"] == "v4 Table 3"]
    labels = [row["model"].partition(" ")[0] for row in printed]
    assert list(backbones) == [name for label in labels for name in (label, f"SE-{label}")]
    for label, row in zip(labels, printed, strict=True):
        plain, se = backbones[label], backbones[f"SE-{label}"]
        assert plain["paper_original1"] == number(row["orig_top1"])
        assert plain["paper_original5"] == number(row["orig_top5"])
        assert se["paper_original1"] is None
        for figures, kind in ((plain, "reimpl"), (se, "se")):
            assert figures["paper_top1"] == number(row[f"{kind}_top1"])
            assert figures["paper_top5"] == number(row[f"{kind}_top5"])
            assert figures["paper_params"] == number(row.get(f"{kind}_params_M"))
            flops = row.get(f"{kind}_gflops") or number(row.get(f"{kind}_mflops"), 1e-3)
            assert figures["paper_gflops"] == pytest.approx(float(flops))
        assert plain["paper_gain"] is None
        if "gain_top1" in row:
            assert se["paper_gain"] == pytest.approx(float(row["gain_top1"]))


def test_printed_counts_are_close_to_ours(backbones):
    for label, row in backbones.items():
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


# Label of a row to the first column of the table's file, where they are not the same.
TABLES = {
    "reduction": ("table10_reduction.csv", {}),
    "squeeze": ("table11_squeeze.csv", {}),
    "excitation": (
        "table12_excitation.csv",
        {"relu": "ReLU", "tanh": "Tanh", "sigmoid": "Sigmoid"},
    ),
    "stages": (
        "table13_stages.csv",
        {"none": "ResNet-50", "all": "SE_All", **{n: f"SE_Stage_{n}" for n in "2345"}},
    ),
    "integration": ("table14_integration.csv", {}),
    "se3x3": ("table15_se3x3.csv", {}),
    "no_squeeze": ("table16_nosqueeze.csv", {"plain": "ResNet-50"}),
}


@pytest.mark.parametrize("name", TABLES)
def test_figures_of_an_ablation_are_those_of_its_table(name):
    file, labels = TABLES[name]
    printed = {next(iter(row.values())): row for row in golden(file)}
    rows = {labels.get(row.label, row.label): row for row in STUDIES[name].rows}
    # Two rows are ours: the plain network beside Table 14, and stage 5 alone.
    assert set(rows) - set(printed) == {"integration": {"plain"}, "stages": {"SE_Stage_5"}}.get(
        name, set()
    )
    columns = {"top1_err": "top1", "top5_err": "top5", "gflops": "gflops", "params_M": "params"}
    columns |= {"cvpr_top1_err": "cvpr1", "cvpr_top5_err": "cvpr5"}
    for label, row in printed.items():
        for column, key in columns.items():
            if column in row:
                assert rows[label].printed(key, "imagenet2012") == number(row[column]), label


def test_figures_of_the_wrong_variants_are_those_of_genet():
    printed = {row["model"]: row for row in golden("genet_tables.csv") if row["table"] == "2"}
    names = {"plain": "ResNet-50", "SE": "SE", "wrong-1": "GE-theta-minus (no parameters)"}
    for row in STUDIES["wrong_variants"].rows:
        source = printed.get(names.get(row.label, ""), {"top1_err": "", "top5_err": ""})
        for key in ("top1", "top5"):
            assert row.printed(key, "imagenet2012") == number(source[f"{key}_err"])


# Source, and its names of the block, of SE and of the plain network (followups_resnet50.csv).
PUBLISHED = {
    "ECA": ("ECA-Net paper Table 3", "ECA", "SE", "ResNet-50"),
    "CBAM-channel": ("CBAM paper", "CBAM channel only (avg+max)", "SE", "ResNet-50"),
    "CBAM": ("CBAM paper", "CBAM (channel then spatial 7x7)", "SE", "ResNet-50"),
    "BAM": ("SGE paper Table 1", "BAM", "SE", None),
    "GE-theta-minus": ("GENet Table 2", "GE-theta-minus", "SE", "ResNet-50"),
    "GE-theta": ("GENet Table 2", "GE-theta", "SE", "ResNet-50"),
    "GE-theta-plus": ("GENet Table 2", "GE-theta-plus", "SE", "ResNet-50"),
    "GC": ("GCNet Table 4", "GC (attention pool + add)", "avg pool + scale (SE)", "ResNet-50"),
    "SRM": ("SRM repo table", "SRM", "SE", "ResNet-50"),
    "GCT": ("GCT paper Table 2", "GCT (1+tanh, l2 norm, before conv)", "SE", "ResNet-50"),
    "SimAM": ("SimAM paper table", "SimAM", "SE", "ResNet-50"),
    "FcaNet": ("FcaNet Table 1", "FcaNet-TS", "SE", "ResNet-50"),
}


def test_figures_of_a_successor_are_of_one_source():
    rows = {row.label: row for row in STUDIES["successors"].rows}
    assert set(rows) == {"plain", "SE", "eSE", *PUBLISHED}
    assert not rows["eSE"].paper
    for label, (source, *methods) in PUBLISHED.items():
        printed = {row["method"]: row for row in golden("followups_resnet50.csv")
                 if row["source"].startswith(source)}  # fmt: skip
        for key, method in zip(("top1", "reference1", "plain1"), methods, strict=True):
            # The SGE paper's plain network stands in a remark: 76.384.
            accuracy = float(printed[method]["top1_acc"]) if method else 76.384
            assert rows[label].paper[key] == pytest.approx(100 - accuracy), label


# Study and row to designs_resnet50.csv: exact counts, worked out by hand from ResNet-50's shapes.
DESIGNS = {
    ("integration", "plain"): "ResNet-50",
    ("integration", "SE"): "SE (standard)",
    ("integration", "SE-PRE"): "SE-PRE",
    ("integration", "SE-POST"): "SE-POST",
    ("integration", "SE-Identity"): "SE-Identity (after projection)",
    ("se3x3", "SE_3x3"): "SE_3x3",
    ("no_squeeze", "NoSqueeze"): "NoSqueeze",
    ("bias", "without"): "SE (standard)",
    ("bias", "with"): "SE (standard)",
    ("wrong_variants", "wrong-1"): "wrong1 (squeeze only)",
    ("wrong_variants", "wrong-2"): "wrong2 full 3x3 C->C + BN",
    ("wrong_variants", "wrong-2-grouped"): "wrong2 grouped 3x3 (64 groups) + BN",
    ("wrong_variants", "wrong-3"): "wrong3 (parallel gate from X)",
    ("successors", "eSE"): "eSE on every block",
}


@pytest.mark.parametrize(("name", "label"), DESIGNS)
def test_counts_of_a_design_are_exact(name, label):
    which = STUDIES[name]
    counts = numbers.counts(which, next(row for row in which.rows if row.label == label))
    design = DESIGNS[name, label]
    row = next(row for row in golden("designs_resnet50.csv") if row["design"] == design)
    biased = label in ("with", "eSE") or label.startswith("wrong-2")  # or batch norm's
    assert counts.params == int(row["total_with_bias" if biased else "total_no_bias"])
    assert round(counts.macs / 1e9, len(row["gmacs"].partition(".")[2])) == float(row["gmacs"])


@pytest.mark.parametrize("which", ABLATIONS, ids=lambda which: which.name)
def test_printed_counts_of_ablations_fit(which):
    """Parameters as everywhere in the paper: with biases, rounded up (by 0.2 for SE_3x3)."""
    for row in which.rows:
        counts = numbers.counts(which, row)
        if printed := row.printed("params", "imagenet2012"):
            assert -0.06 < printed - counts.params / 1e6 < 0.12, row.label
        if printed := row.printed("gflops", "imagenet2012"):
            assert printed == pytest.approx(counts.macs / 1e9, abs=0.01), row.label


def datasets_of(which):
    """A dataset for each key of a study's `base`, with a version and without; "*" is any other."""
    others = [next(iter(which.paper_datasets), "cifar10"), "cifar100"]
    names = [name for key in which.base for name in (others if key == "*" else [key])]
    return [name + version for name in names for version in ("", ":1.0.0")]


@pytest.mark.parametrize(
    "which", one_in(2, STUDIES.values(), "builds one more grid"), ids=lambda which: which.name
)
def test_what_is_trained_is_what_is_counted(which):
    """In every field, unless it is a different network, which the table names, on small images."""
    for dataset in datasets_of(which):
        for run in planned(which, dataset=dataset, smoke=False):
            counted = paper_config(which, run.row)
            _, ours = split_origin(run.config.model.to_dict())
            _, theirs = split_origin(counted.model.to_dict())
            if which.paper_name_of(dataset) or ours["name"] == theirs["name"]:
                assert create_model(**ours) == create_model(**theirs), (run.row.label, dataset)
            else:
                assert ours["name"] == "seresnet20_cifar"
            assert run.config.data.name == dataset
    counted = {create_model(**split_origin(paper_config(which, row).model.to_dict())[1])
               for row in which.rows}  # fmt: skip
    assert len(counted) == {"transfer": 1, "recipes": 2}.get(which.name, len(which.rows))


def test_a_network_is_compared_with_the_one_that_had_its_recipe():
    which = STUDIES["recipes"]
    references = {row.label: which.reference_of(row) for row in which.rows}
    assert {label: other and other.label for label, other in references.items()} == {
        "plain,2016": None,
        "SE,2016": "plain,2016",
        "plain,modern": None,
        "SE,modern": "plain,modern",
    }


def test_the_ablations_are_of_the_authors_network_on_its_dataset_only():
    for which in ABLATIONS:
        for dataset, stride in (("imagenet2012:5.1.0", "1x1"), ("digits:1.0.0", "3x3")):
            for run in planned(which, dataset=dataset, smoke=False):
                assert run.config.model.stride_on == stride


def test_networks_that_flags_made_others_are_named_below_the_table(tmp_path):
    which = STUDIES["reduction"]
    for name, arguments in (("as_counted", ()), ("other", ("--config.model.stride_on=3x3",))):
        directory = tmp_path / name
        runs = planned(which, directory, "imagenet2012", smoke=False, arguments=arguments)
        for run in runs:
            finish(run.workdir, run.config)
        text = "\n".join(table.remarks(which, collect(which, directory).results, {}))
        sentence = "ours differ in model.stride_on (1x1 counted, 3x3 trained)."
        assert (sentence in text) == (name == "other")


@pytest.mark.parametrize(
    ("dataset", "smoke"),
    one_in(
        2,
        [("cifar100", False), ("digits", True), ("imagenet2012", False)],
        "has the network of CIFAR-100 with fewer blocks",
    ),
)
@pytest.mark.parametrize(
    "which", one_in(3, ABLATIONS, "counts one more grid"), ids=lambda which: which.name
)
def test_every_row_of_an_ablation_is_another_network(which, dataset, smoke):
    programs = set()
    for run in planned(which, dataset=dataset, smoke=smoke):
        fields = run.config.model.to_dict()
        _, fields = split_origin(fields)
        size, stages = (64, 4) if fields["name"] == "seresnet50" else (32, 3)
        # What no row varies, for programs that are traced in a fifth of the time.
        fields = {"stage_sizes": (1,) * stages} | fields | {"implementation": "xla"}
        images = jax.ShapeDtypeStruct((1, size, size, 3), "float32")
        model = create_model(**fields)
        programs.add(str(jax.make_jaxpr(model.init_with_output)(jax.random.key(0), images)))
        assert fields["name"] == ("seresnet50" if dataset == "imagenet2012" else "seresnet20_cifar")
    assert len(programs) == len(which.rows)
    assert which.reference in {row.label for row in which.rows}


@pytest.mark.parametrize("which", [BACKBONES, CIFAR], ids=lambda which: which.name)
def test_counts_are_exact(which):
    counted = {
        (row["model"], row["fields"], kind): row[kind]
        for row in golden("counts.csv")
        for kind in ("params", "gmacs")
        if row[kind]
    }
    for row in which.rows:
        network, counts = which.network_of(row), numbers.counts(which, row)
        fields = json.dumps({k.removeprefix("model."): v for k, v in row.overrides.items()})
        expected = {
            kind: counted.get((network, fields, kind)) or counted.get((network, "{}", kind))
            for kind in ("params", "gmacs")
        }
        assert str(counts.params) == expected["params"]
        if gmacs := expected["gmacs"]:
            assert round(counts.macs / 1e9, len(gmacs.partition(".")[2])) == float(gmacs)


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_says_what_its_rows_are_compared_with(name):
    which = STUDIES[name]
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
        _, fields = split_origin(fields)
        model = create_model(**fields)
        assert fields["name"] == which.network_of(run.row)
        assert ("se" in fields) == bool(model.se.stages) == run.row.label.startswith("SE-")
        assert run.config.data.name == dataset
        assert run.config.data.train_split == ("train[:80]" if smoke else "train")


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
    results = collect(CIFAR, tmp_path).results
    columns = table.text_columns(CIFAR, numbers.number_rows(CIFAR, results))
    assert columns["our top-1"][:2] == ["31.00 ± 1.41 (2)", "27.00 ± 2.83 (2)"]
    half = 12.706 / 2**0.5 * 2**0.5  # t(0.975, 1) times the deviation of (5, 3) over the root of 2
    assert columns["our gain"] == ["-", f"+4.00 [{4 - half:.2f}, {4 + half:.2f}]", *["-"] * 8]
    assert columns["paper"][:2] == ["26.88", "23.85"]
    assert columns["paper gain"] == [
        *("-", "+3.03", "-", "+3.02", "-", "+1.29", "-", "-", "-", "+0.44"),
    ]
    write_report(CIFAR, results, tmp_path, {})
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
        assert len(collect(CIFAR, tmp_path).results) == 2
    else:
        with pytest.raises(InputError, match=sentence):
            collect(CIFAR, tmp_path)


def test_rows_that_start_from_anothers_weights_follow_it_seed_by_seed(tmp_path):
    runs = planned(STUDIES["transfer"], tmp_path, "cifar100", smoke=False, seeds=(0, 1))
    for place, run in enumerate(runs):
        earlier = [str(other.workdir) for other in runs[:place] if other.seed == run.seed]
        if run.row.starts_from:
            assert run.config.model.pretrained == earlier[0]
            assert run.config.data.classes == (50, 100)
        else:
            assert not run.config.model.pretrained
    assert runs[0].config.data.classes == (0, 50)
    compared = {run.row.label for run in runs if STUDIES["transfer"].reference_of(run.row)}
    assert compared == {"linear-probe", "all-layers", "layer-decay"}


@pytest.mark.parametrize("dataset", ["emnist/letters:3.1.0", "caltech101", "folder:photos"])
def test_halves_of_the_classes_are_shares_where_their_number_is_not_known(dataset, tmp_path):
    runs = planned(STUDIES["transfer"], tmp_path, dataset)
    assert {tuple(run.config.data.classes) for run in runs} == {(0.0, 0.5), (0.5, 1.0)}
    for name, count in CLASSES.items():
        first, second = (on_dataset(part, name)["data.classes"] for part in (FIRST, SECOND))
        assert (first, second) == ((0, count // 2), (count // 2, count))
    half = planned(STUDIES["transfer"], tmp_path, "cifar10_half")
    assert {tuple(run.config.data.classes) for run in half} == {(0, 5), (5, 10)}


def test_what_weights_bring_need_not_be_the_same_in_all_rows(tmp_path):
    which = STUDIES["transfer"]
    for run in planned(which, tmp_path, seeds=(0, 1)):
        if run.row.starts_from:
            run.config.data.mean, run.config.data.std = (0.25,), (0.5,)
        finish(run.workdir, run.config)
    results = collect(which, tmp_path).results
    assert len(results) == 5
    sources = [run["config"]["model.pretrained"] for run in results["all-layers"]]
    assert sources == ["pretraining/seed0", "pretraining/seed1"]
    for run in planned(which, tmp_path, arguments=("--config.train.epochs=9",)):
        if run.row.label == "all-layers":
            finish(run.workdir, run.config)
    with pytest.raises(InputError, match=r"train\.epochs"):
        collect(which, tmp_path)


def test_counts_are_of_the_network_whatever_it_starts_from():
    which = STUDIES["transfer"]
    assert {numbers.counts(which, row).params for row in which.rows} == {274_490}


OURS = [which for which in STUDIES.values() if not which.paper_columns]


@pytest.mark.parametrize("which", OURS, ids=lambda which: which.name)
def test_a_table_of_ours_names_the_networks_that_are_counted(which):
    (line,) = table._about_other_columns(which, {})
    names = ", ".join(dict.fromkeys(which.network_of(row) for row in which.rows))
    assert line == f"Parameters and multiply-adds (GMACs) are those of {names}, counted here."
    assert "None" not in line
