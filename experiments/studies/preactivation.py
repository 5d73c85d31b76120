"""Ours: a pre-activation ResNet-20 with and without SE, which is said to gain more from it.

The fallback of the campaign on CIFAR-100 (docs/decisions/statistics.md). osmr/imgclsmob prints
30.22 and 28.31 % top-1 error on CIFAR-100 for this network without and with SE, once each.
"""

from experiments.grid.comparison import better
from experiments.grid.study import Row, Study

NARROW = {"stage_sizes": (1, 1, 1), "width": 8}

STUDY = Study(
    order=24,
    title="Ours: plain and SE networks with pre-activation",
    column="network",
    rows=(
        Row("plain", {}, network="preresnet20_cifar", narrow=NARROW),
        Row("SE", {}, network="sepreresnet20_cifar", narrow=NARROW),
    ),
    base={"digits": "digits:{network}", "*": "cifar:{network},{dataset}"},
    dataset="cifar100",
    paper_datasets={},
    notes=(
        "On cifar100_half it is the fallback of `reduction`, whose gain of SE was below the half "
        "width of its interval after three seeds.",
    ),
    primary=(better("SE", "plain"),),
    declared="2026-11-28",
)
