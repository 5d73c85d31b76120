"""Table 14: where the SE block sits in a residual unit (Hu et al., section 6.5, Figure 5)."""

from experiments.grid.study import Row
from experiments.studies import section6

STUDY = section6.study(
    "integration",
    "Table 14 of Hu et al.: the place of the SE block",
    "design",
    (
        Row("plain", section6.WITHOUT, section6.PLAIN),
        Row("SE", {"model.se.placement": "standard"}, section6.SE),
        Row("SE-PRE", {"model.se.placement": "pre"}, {"top1": 22.23, "top5": 6.00}),
        Row("SE-POST", {"model.se.placement": "post"}, {"top1": 22.78, "top5": 6.35}),
        Row("SE-Identity", {"model.se.placement": "identity"}, {"top1": 22.20, "top5": 6.15}),
    ),
    reference="SE",
    notes=(
        "SE-PRE scales the input of the branch only; SE-Identity scales the shortcut after its "
        "projection, which the paper leaves open.",
    ),
)
