"""Table 11: squeeze by the maximum or by the mean (Hu et al., section 6.2)."""

from experiments.grid.comparison import equivalent
from experiments.grid.study import Row
from experiments.studies._section6 import SE, ablation

STUDY = ablation(
    order=11,
    title="Table 11 of Hu et al.: the squeeze operator",
    column="squeeze",
    rows=(
        Row("max", {"model.se.squeeze": "max"}, {"top1": 22.57, "top5": 6.09}),
        Row("avg", {"model.se.squeeze": "avg"}, SE),
    ),
    reference="avg",
    primary=(equivalent("max", "avg"),),
)
