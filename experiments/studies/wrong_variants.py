"""The three "wrong variants" of a well-known article on SE, beside the block and its relatives.

    SE               pools, mixes channels, multiplies, sees its own output
    wrong-1          no mixing: every channel is scaled by its own mean
    wrong-2          no pooling and no multiplication: a 3x3 convolution and batch norm instead
    wrong-2-grouped  the same in 64 groups, at about the cost of SE
    wrong-3          the gate is computed from the unit's input, not from what it scales

The article argues that these miss the point. Its drawings leave details open, and these are our
readings. Nothing here says that they fail: wrong-1 is GE-theta-minus of the SE authors, who measure
it level with SE on ResNet-50 and behind it on CIFAR and in deeper networks.
"""

from experiments.grid.comparison import better, worse
from experiments.grid.study import Row
from experiments.studies._section6 import WITHOUT, ablation

STUDY = ablation(
    order=18,
    title='The article: three "wrong variants" of the SE block',
    column="variant",
    rows=(
        Row("plain", WITHOUT, {"top1": 23.30, "top5": 6.55}),
        Row("SE", {}, {"top1": 22.12, "top5": 5.99}),
        Row("wrong-1", {"model.se.excitation": "none"}, {"top1": 22.14, "top5": 6.24}),
        Row("wrong-2", {"model.se.kind": "conv"}),
        Row("wrong-2-grouped", {"model.se.kind": "conv", "model.se.groups": 64}),
        Row("wrong-3", {"model.se.placement": "parallel"}),
    ),
    reference="SE",
    paper_columns={"GENet 1/5": ("top1", "top5")},
    plotted={"GENet, Table 2": "top1"},
    notes=(
        "wrong-1 scales a channel by the sigmoid of its own mean (GE-theta-minus); wrong-2 is a "
        "3x3 convolution with batch norm in the block's place, wrong-2-grouped the same in 64 "
        "groups or as many as divide the channels; in wrong-3 the gate is computed from the "
        "unit's input.",
        "GENet 1/5: Hu et al. 2018b (GENet), Table 2, ResNet-50 with the recipe of these "
        "ablations. For wrong-2 and wrong-3 nothing is published that could stand here.",
    ),
    primary=(
        better("SE", "plain"),
        *(worse(variant, "SE") for variant in ("wrong-1", "wrong-2", "wrong-3")),
    ),
)
