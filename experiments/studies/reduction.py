"""Table 10: the reduction ratio r (Hu et al., section 6.1).

Errors are those on ImageNet with a single 224-pixel crop. "paper" is version 4 of the paper (about
300 epochs, label smoothing); "CVPR" is the CVPR 2018 version (100 epochs), which lacks r = 2.
"""

from experiments.grid.comparison import better, equivalent, worse
from experiments.grid.study import Row
from experiments.studies._section6 import PLAIN, SE, WITHOUT, ablation

STUDY = ablation(
    order=10,
    title="Table 10 of Hu et al.: the reduction ratio r",
    column="r",
    rows=(
        Row("original", WITHOUT, PLAIN | {"cvpr1": 24.80, "cvpr5": 7.48}),
        Row("2", {"model.se.ratio": 2}, {"params": 45.7, "top1": 22.29, "top5": 6.00}),
        Row(
            "4",
            {"model.se.ratio": 4},
            {"params": 35.7, "top1": 22.25, "top5": 6.09, "cvpr1": 23.21, "cvpr5": 6.63},
        ),
        Row(
            "8",
            {"model.se.ratio": 8},
            {"params": 30.7, "top1": 22.26, "top5": 5.99, "cvpr1": 23.19, "cvpr5": 6.64},
        ),
        Row("16", {"model.se.ratio": 16}, SE | {"cvpr1": 23.29, "cvpr5": 6.62}),
        Row(
            "32",
            {"model.se.ratio": 32},
            {"params": 26.9, "top1": 22.72, "top5": 6.20, "cvpr1": 23.40, "cvpr5": 6.77},
        ),
    ),
    reference="16",
    paper_columns={
        "printed": ("params",),
        "paper 1/5": ("top1", "top5"),
        "CVPR 1/5": ("cvpr1", "cvpr5"),
    },
    plotted={"journal version": "top1", "CVPR 2018": "cvpr1"},
    secondary=("CVPR 1/5", "printed"),
    notes=(
        "Parameters are exact and without biases in the excitation, as section 6 says; the printed "
        "column fits only networks with biases, rounded up.",
        "Multiply-adds are those of convolutions and fully connected layers at 224 pixels, with "
        "the stride on the first 1x1 as in the authors' networks.",
    ),
    primary=(
        better("16", "original"),
        *(equivalent(ratio, "16") for ratio in ("2", "4", "8")),
        worse("32", "16"),
    ),
)
