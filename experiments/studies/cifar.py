"""Tables 4 and 5: SE in networks for CIFAR-10 and CIFAR-100 (Hu et al., section 5.1).

The paper's figures are those for the dataset of the runs. It prints Shake-Shake for CIFAR-10 only,
and Shake-Even for CIFAR-100 only.
"""

from typing import Any

from experiments.grid.narrow import NARROW
from experiments.grid.study import Row, Study, plain_and_se
from senet_jax.models.paper import CIFAR


def _rows(label: str, network: str, overrides: dict[str, Any] | None = None) -> tuple[Row, Row]:
    se = f"se{network}"
    figures = ({"top1": CIFAR[network]}, {"top1": CIFAR[se]})
    return plain_and_se(label, network, *figures, narrow=NARROW[se], overrides=overrides)


STUDY = Study(
    order=21,
    title="Tables 4 and 5 of Hu et al.: plain and SE networks on CIFAR",
    column="network",
    rows=(
        *_rows("ResNet-110", "preresnet110_cifar"),
        *_rows("ResNet-164", "preresnet164_cifar", {"model.stride_on": "1x1"}),
        *_rows("WRN-16-8", "wrn16_8_cifar"),
        *_rows("Shake-Shake-26-2x96d", "shakeshake26_2x96d"),
        *_rows("Shake-Even-29-2x4x64d", "shakeeven29_2x4x64d"),
    ),
    base={"digits": "digits:{network}", "*": "cifar:{network},{dataset}"},
    dataset="cifar10",
    paper_datasets={"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"},
    paper_columns={"paper": ("top1",)},
    plotted={"paper": "top1"},
    notes=(
        "Parameters and GMACs are those with 10 classes at 32 pixels.",
        "The ResNets are pre-activation networks, as their errors say. For CIFAR, Shake-Shake and "
        "Shake-Even have cutout, as their labels in the paper say.",
    ),
)
