"""Table 16: the squeeze against the added parameters alone (Hu et al., section 7.1).

NoSqueeze lacks the pooling: the two layers become 1x1 convolutions on the map, with the same number
of parameters.
"""

from experiments.grid.comparison import worse
from experiments.grid.study import Row
from experiments.studies._section6 import COUNTS, ERRORS, PLAIN, SE, WITHOUT, ablation

STUDY = ablation(
    order=16,
    title="Table 16 of Hu et al.: the role of the squeeze",
    column="design",
    rows=(
        Row("plain", WITHOUT, PLAIN),
        Row(
            "NoSqueeze",
            {"model.se.squeeze": "none"},
            {"params": 28.1, "gflops": 4.27, "top1": 22.93, "top5": 6.39},
        ),
        Row("SE", {"model.se.squeeze": "avg"}, SE),
    ),
    reference="SE",
    paper_columns=COUNTS | ERRORS,
    secondary=("printed", "GFLOPs"),
    primary=(worse("NoSqueeze", "SE"),),
)
