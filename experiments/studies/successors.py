"""The successors of SE, each block in the form and place of its paper, in one network and recipe.

The published figures of a row, beside those of SE and of the plain network, all come from one
source: recipes differ by more than the blocks do.
"""

from typing import Any

from experiments.grid.study import Row
from experiments.studies._section6 import PLAIN, SE, WITHOUT, ablation


def _row(
    label: str,
    overrides: dict[str, Any],
    top1: float | None = None,
    se: float | None = None,
    plain: float | None = None,
) -> Row:
    """Make a block's row from one source's top-1 accuracies of it, of SE and of ResNet-50."""
    accuracies = {"top1": top1, "reference1": se, "plain1": plain}
    figures = {key: round(100 - a, 3) for key, a in accuracies.items() if a is not None}
    return Row(label, {f"model.se.{key}": value for key, value in overrides.items()}, figures)


SECTION_6 = {"reference1": SE["top1"], "plain1": PLAIN["top1"]}

STUDY = ablation(
    order=19,
    title="Literature: what came after SE",
    column="block",
    rows=(
        Row("plain", WITHOUT, PLAIN | SECTION_6),
        Row("SE", {}, SE | SECTION_6),
        _row("ECA", {"kind": "eca"}, 77.48, 76.71, 75.20),
        _row("eSE", {"kind": "ese"}),
        _row("CBAM-channel", {"kind": "cbam_channel"}, 77.20, 76.86, 75.44),
        _row("CBAM", {"kind": "cbam"}, 77.34, 76.86, 75.44),
        _row("BAM", {"kind": "bam", "placement": "between_stages"}, 76.898, 77.184, 76.384),
        _row("GE-theta-minus", {"excitation": "none"}, 77.86, 77.88, 76.70),
        _row("GE-theta", {"kind": "ge_theta"}, 78.00, 77.88, 76.70),
        _row("GE-theta-plus", {"kind": "ge_theta_plus"}, 78.12, 77.88, 76.70),
        _row("GC", {"kind": "gc"}, 77.70, 77.26, 76.88),
        _row("SRM", {"kind": "srm"}, 77.13, 76.80, 75.89),
        _row("GCT", {"kind": "gct", "placement": "before_convs"}, 77.30, 77.10, 76.20),
        _row("SimAM", {"kind": "simam"}, 77.45, 77.51, 76.34),
        _row("FcaNet", {"kind": "fca"}, 78.57, 77.86, 77.27),
    ),
    reference="SE",
    paper_columns={"published / SE / plain": ("top1", "reference1", "plain1")},
    plotted={},
    notes=(
        "Published: top-1 errors on ImageNet of the block, of SE and of ResNet-50 in one source, "
        "never to be compared between rows. Sources: plain and SE Hu et al., section 6; ECA, CBAM, "
        "GE, SRM, GCT, SimAM and FcaNet (TS) the papers or repositories of those names (CBAM with "
        "biases); BAM the SGE paper; GC the GCNet paper, which trains first and inserts the block "
        "for a second training (from scratch the SGE paper has 26.11). eSE has none on ResNet-50.",
        "Every block is in the SE block's place, but BAM between stages and GCT before each "
        "convolution of a branch; GC is in all stages, its paper has it from the third.",
        "The row of GC on the digits was trained with 1 and 2 hidden units in the blocks of the "
        "first two stages, which then do not learn; they have 4 now.",
    ),
)
