"""Table 16: is it the squeeze, or the added parameters? (Hu et al., section 7.1.)

NoSqueeze has no pooling: the two layers become 1x1 convolutions on the map, of the same parameters.
"""

from experiments.grid.study import Row
from experiments.studies import section6 as ablation

STUDY = ablation.study(
    "no_squeeze",
    "Table 16 of Hu et al.: the role of the squeeze",
    "design",
    (
        Row("plain", ablation.WITHOUT, ablation.PLAIN),
        Row(
            "NoSqueeze",
            {"model.se.squeeze": "none"},
            {"params": 28.1, "gflops": 4.27, "top1": 22.93, "top5": 6.39},
        ),
        Row("SE", {"model.se.squeeze": "avg"}, ablation.SE),
    ),
    reference="SE",
    paper_columns=ablation.COUNTS | ablation.ERRORS,
    secondary=("printed", "GFLOPs"),
)
