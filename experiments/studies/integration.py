"""Table 14: the place of the SE block in a residual unit (Hu et al., section 6.5, Figure 5)."""

from experiments.grid.comparison import equivalent, worse
from experiments.grid.study import Row
from experiments.studies._section6 import PLAIN, SE, WITHOUT, ablation

STUDY = ablation(
    order=14,
    title="Table 14 of Hu et al.: the place of the SE block",
    column="design",
    rows=(
        Row("plain", WITHOUT, PLAIN),
        Row("SE", {"model.se.placement": "standard"}, SE),
        Row("SE-PRE", {"model.se.placement": "pre"}, {"top1": 22.23, "top5": 6.00}),
        Row("SE-POST", {"model.se.placement": "post"}, {"top1": 22.78, "top5": 6.35}),
        Row("SE-Identity", {"model.se.placement": "identity"}, {"top1": 22.20, "top5": 6.15}),
    ),
    reference="SE",
    notes=(
        "SE-PRE scales the input of the branch only; SE-Identity scales the shortcut after its "
        "projection, which the paper leaves open.",
    ),
    primary=(
        worse("SE-POST", "SE"),
        *(equivalent(place, "SE") for place in ("SE-PRE", "SE-Identity")),
    ),
)
