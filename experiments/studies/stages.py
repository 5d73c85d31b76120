"""Table 13: SE blocks in one stage only (Hu et al., section 6.4).

The row with stage 5 alone is ours. CIFAR networks have three stages; here they get four of two
blocks each, so that all rows exist.
"""

from experiments.grid.comparison import better
from experiments.grid.study import Row
from experiments.studies._section6 import COUNTS, ERRORS, PLAIN, SE, WITHOUT, ablation

STUDY = ablation(
    order=13,
    title="Table 13 of Hu et al.: the stages that have SE blocks",
    column="stages",
    rows=(
        Row("none", WITHOUT, PLAIN),
        Row(
            "2",
            {"model.se.stages": (2,)},
            {"params": 25.6, "gflops": 3.86, "top1": 23.03, "top5": 6.48},
        ),
        Row(
            "3",
            {"model.se.stages": (3,)},
            {"params": 25.7, "gflops": 3.86, "top1": 23.04, "top5": 6.32},
        ),
        Row(
            "4",
            {"model.se.stages": (4,)},
            {"params": 26.4, "gflops": 3.86, "top1": 22.68, "top5": 6.22},
        ),
        Row("5", {"model.se.stages": (5,)}),
        Row("all", {"model.se.stages": (2, 3, 4, 5)}, SE),
    ),
    reference="none",
    paper_columns=COUNTS | ERRORS,
    secondary=("printed", "GFLOPs"),
    cifar_fields={"stage_sizes": (2, 2, 2, 2)},
    notes=("The paper has no row for stage 5 alone.",),
    primary=(*(better(stage, "none") for stage in ("2", "3", "4", "all")),),
)
