"""A study of two factors is declared like any other, and its table has a column for each."""

import csv

from helpers.runs import finish

from experiments.grid.plan import base_config, plan
from experiments.grid.study import Row, grid
from experiments.reporting.collect import collect
from experiments.reporting.write import write_report
from experiments.studies._section6 import WITHOUT, ablation

STUDY = ablation(
    name="ratio_and_gate",
    title="Ours: the reduction ratio and the gate",
    rows=(
        Row("plain", WITHOUT),
        *grid({"model.se.ratio": (2, 16), "model.se.gate": ("relu", "sigmoid")}),
    ),
    reference="ratio=16,gate=sigmoid",
    paper_columns={},
    plotted={},
)


def test_from_the_declaration_to_the_table(tmp_path):
    bases = [base_config(STUDY, row, "digits", smoke=True) for row in STUDY.rows]
    runs = plan(STUDY, bases, (0, 1), tmp_path)
    assert [run.row.label for run in runs[:5]] == [
        "plain",
        *(f"ratio={ratio},gate={gate}" for ratio in (2, 16) for gate in ("relu", "sigmoid")),
    ]
    for run in runs:
        if run.row.factors:
            se = run.config.model.se
            assert {"ratio": se.ratio, "gate": se.gate} == run.row.factors
        assert run.config.data.train_split == "train[:80]"
        error = 20.0 + run.seed + len(run.row.label) / 7
        finish(run.workdir, run.config, (90.0, error), **{"eval/top1_error": error})
    write_report(STUDY, collect(STUDY, tmp_path).results, tmp_path, {})
    text = (tmp_path / "table.md").read_text("utf-8")
    head, *rows = (line.strip("| ").split(" | ") for line in text.splitlines() if "| " in line)
    assert head[:4] == ["ratio", "gate", "parameters", "GMACs"]
    assert [row[:3] for row in rows] == [
        ["plain", "-", "25,557,032"],
        ["2", "relu", "45,676,584"],
        ["2", "sigmoid", "45,676,584"],
        ["16", "relu", "28,071,976"],
        ["16", "sigmoid", "28,071,976"],
    ]
    assert "Compared with ratio=16,gate=sigmoid: " in text
    with (tmp_path / "table.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [(line["row"], line["ratio"], line["gate"]) for line in lines][:2] == [
        ("plain", "", ""),
        ("ratio=2,gate=relu", "2", "relu"),
    ]
