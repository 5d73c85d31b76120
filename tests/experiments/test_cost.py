"""The cost study measures every network of the ablations once; nothing here looks at the times."""

import csv
from pathlib import Path

import pytest

from experiments import cost
from experiments.timing.cost_table import markdown
from senet_jax.errors import InputError
from senet_jax.models import create_model

ROOT = Path(__file__).parents[2]


def test_every_network_of_the_ablations_is_measured_once():
    networks = cost.variants("seresnet50")
    configs = [create_model(**fields).se for fields in networks.values()]
    assert len(set(configs)) == len(configs)
    assert list(networks)[:2] == ["plain", "SE"]
    kinds = {config.kind for config in configs}
    assert {"conv", "eca", "cbam", "bam", "gct", "fca"} < kinds
    assert {"r = 2", "gate = tanh", "stages = 5", "SE-POST", "SE_3x3", "NoSqueeze"} < set(networks)
    smaller = cost.variants("seresnet20_cifar")
    assert set(networks) - set(smaller) == {"stages = 5"}


def row(label, what, ratio, **fields):
    return {
        "row": label,
        "network": "seresnet50",
        "what": what,
        "batch": "8",
        "size": "224",
        "params": "28071976",
        "gmacs": "3.8605",
        "median_s": "2.0",
        "plain_s": "1.0",
        "times_plain": str(ratio),
        "low": str(0.9 * ratio),
        "high": str(1.1 * ratio),
        "compile_s": "7.0",
        "peak_gb": "3.0",
        "plain_gb": "2.0",
        "turns": "6",
        "steps": "12",
        "machine": "a machine",
        "commit": "abc",
        **fields,
    }


def test_the_table_and_the_figure_say_what_was_measured(tmp_path, capsys):
    rows = [
        row("SE", "train", 1.25),
        row("SE", "infer", 1.0, batch="1", steps="170"),
        row("ECA", "train", 1.1, turns="5", steps="10", low="", high=""),
        row("wrong-2", "train", 8.5, commit="def"),
    ]
    text = markdown(rows)
    assert "| SE | 28,071,976 | 3.861 | 1.250 (1.12 to 1.38) | 1.000 (0.90 to 1.10) |" in text
    assert "| ECA | 28,071,976 | 3.861 | 1.100 | - | 1.50 |" in text
    assert "train 8 images a step, plain 1.000 s, 10 to 12 steps in 5 to 6 turns; infer" in text
    assert text.endswith("- a machine, commit abc.\n- a machine, commit def: wrong-2.\n")
    assert "1.100 (training" in text
    path = tmp_path / "rows.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    cost.main(["cost", "--draw", f"--csv={path}"])
    assert "wrong-2" in capsys.readouterr().out
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow(reason="compiles networks of full depth and times them in turn")
def test_rows_race_beside_the_plain_network(tmp_path, capsys):
    path = tmp_path / "cost.csv"
    flags = ["--network=seresnet20_cifar", "--only=ECA", "--what=infer", "--steps=2"]
    cost.main(["cost", *flags, f"--csv={path}"])
    (measured,) = csv.DictReader(path.read_text().splitlines())
    assert (measured["row"], measured["what"], measured["batch"]) == ("ECA", "infer", "1")
    assert int(measured["params"]) > 272_474  # resnet20_cifar
    assert 0 < float(measured["low"]) <= float(measured["times_plain"]) <= float(measured["high"])
    assert float(measured["peak_gb"]) > 0
    assert "ECA" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["resnet50"], "cost takes flags only, not 'resnet50'"),
        (["--network=resnet50"], "must be one with SE blocks, not 'resnet50'"),
        (["--network=seresnet5"], "did you mean 'seresnet50'"),
        (["--what=trian"], "--what takes train, infer, not 'trian'"),
        (["--steps=0"], "--steps must be at least 1, not 0"),
        (["--only=EAC"], "--only has no row 'EAC'; did you mean 'ECA'"),
        (["--csv=cost.md"], "cost.md is where the table or the figure goes"),
        (["--csv=pyproject.toml"], "pyproject.toml exists already"),
        (["--draw", "--csv=nothing.csv"], "nothing.csv cannot be read: No such file"),
    ],
)
def test_bad_input_is_refused_with_a_sentence(arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        cost.main(["cost", *arguments])


def test_the_published_table_is_that_of_the_published_rows():
    results = ROOT / "experiments" / "results" / "timing"
    rows = list(csv.DictReader((results / "cost.csv").read_text("utf-8").splitlines()))
    assert (results / "cost.md").read_text("utf-8") == markdown(rows)
    for what in ("train", "infer"):
        measured = {row["row"] for row in rows if row["what"] == what}
        assert measured == set(cost.variants("seresnet50")) - {cost.PLAIN}
    assert not any(row["commit"].endswith("-dirty") for row in rows)
