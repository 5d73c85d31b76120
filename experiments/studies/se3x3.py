"""Table 15: the SE block right after the 3x3 convolution (Hu et al., section 6.5)."""

from experiments.grid.study import Row
from experiments.studies import section6

STUDY = section6.study(
    "se3x3",
    "Table 15 of Hu et al.: SE after the 3x3 convolution",
    "design",
    (
        Row("SE", {"model.se.placement": "standard"}, section6.SE),
        Row(
            "SE_3x3",
            {"model.se.placement": "after_3x3"},
            {"params": 25.8, "gflops": 3.86, "top1": 22.48, "top5": 6.02},
        ),
    ),
    reference="SE",
    paper_columns=section6.COUNTS | section6.ERRORS,
    secondary=("printed", "GFLOPs"),
    notes=(
        "After batch norm and ReLU of the 3x3, which the paper leaves open. In basic blocks, as "
        "the CIFAR networks have them, it is the first of the two 3x3.",
    ),
)
