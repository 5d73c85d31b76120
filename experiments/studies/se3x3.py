"""Table 15: the SE block right after the 3x3 convolution (Hu et al., section 6.5)."""

from experiments.grid.comparison import equivalent
from experiments.grid.study import Row
from experiments.studies._section6 import COUNTS, ERRORS, SE, ablation

STUDY = ablation(
    order=15,
    title="Table 15 of Hu et al.: SE after the 3x3 convolution",
    column="design",
    rows=(
        Row("SE", {"model.se.placement": "standard"}, SE),
        Row(
            "SE_3x3",
            {"model.se.placement": "after_3x3"},
            {"params": 25.8, "gflops": 3.86, "top1": 22.48, "top5": 6.02},
        ),
    ),
    reference="SE",
    paper_columns=COUNTS | ERRORS,
    secondary=("printed", "GFLOPs"),
    notes=(
        "After batch norm and ReLU of the 3x3, which the paper leaves open. In basic blocks, as "
        "the CIFAR networks have them, it is the first of the two 3x3.",
    ),
    primary=(equivalent("SE_3x3", "SE"),),
)
