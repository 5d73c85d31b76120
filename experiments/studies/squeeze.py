"""Table 11: squeeze by the maximum or by the mean (Hu et al., section 6.2)."""

from experiments.grid.study import Row
from experiments.studies import section6

STUDY = section6.study(
    "squeeze",
    "Table 11 of Hu et al.: the squeeze operator",
    "squeeze",
    (
        Row("max", {"model.se.squeeze": "max"}, {"top1": 22.57, "top5": 6.09}),
        Row("avg", {"model.se.squeeze": "avg"}, section6.SE),
    ),
    reference="avg",
)
