"""The common part of the studies of section 6: SE-ResNet-50, its recipe, and two rows' figures.

All networks of Tables 10 to 16 are trained alike, and their rows for ResNet-50 and for the standard
SE block are the same two networks.
"""

import functools
from typing import Any

from experiments.grid.study import Study

PLAIN: dict[str, float] = {"params": 25.6, "gflops": 3.86, "top1": 23.30, "top5": 6.55}
SE: dict[str, float] = {"params": 28.1, "gflops": 3.87, "top1": 22.28, "top5": 6.03}

WITHOUT: dict[str, Any] = {"model.se.stages": ()}

ERRORS = {"paper 1/5": ("top1", "top5")}
COUNTS = {"printed": ("params",), "GFLOPs": ("gflops",)}


# A study of section 6 that lacks only its title, its column and its rows. Its network is
# SE-ResNet-50, or a smaller SE-ResNet on small images, beside the errors that the paper prints.
ablation = functools.partial(
    Study,
    base={
        "digits": "digits:seresnet20",
        "imagenet2012": "imagenet:seresnet50,{dataset},ablation",
        "*": "cifar:seresnet20,{dataset}",
    },
    network="seresnet50",
    network_fields={"stride_on": "1x1"},
    narrow={"stage_sizes": (1, 1, 1, 1), "width": 8},
    paper_columns=ERRORS,
    plotted={"paper": "top1"},
)
