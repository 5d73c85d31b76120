"""Tables 2 and 3: SE in networks of every family on ImageNet (Hu et al., section 5.1).

The rows are all networks that the authors trained themselves, plain and SE, with the recipes of
configs/imagenet.py. On digits, as with --smoke, the 8x8 images are enlarged to the size that the
networks need.
"""

from typing import Any

from experiments.grid.narrow import NARROW
from experiments.grid.study import Row, Study, plain_and_se
from senet_jax.models.paper import IMAGENET

Printed = tuple[float, float]


def _rows(
    label: str,
    network: str,
    *,
    gflops: Printed,
    params: Printed | None = None,
    original: tuple[float, float | None] | None = None,
    narrow: str,
    overrides: dict[str, Any] | None = None,
) -> tuple[Row, Row]:
    """The rows of a network and of the same with SE.

    Args:
      label, network: the plain row's; see plain_and_se.
      gflops, params: the printed counts of both rows, parameters in millions.
      original: the plain network's top-1 and top-5 errors as others published them.
      narrow: the family in NARROW.
      overrides: Row.overrides of both rows.
    """
    figures: list[dict[str, Any]] = []
    for index, name in enumerate((network, f"se{network}")):
        top1, top5 = IMAGENET[name]
        figures.append({"top1": top1, "top5": top5, "gflops": gflops[index]})
        if params:
            figures[index]["params"] = params[index]
    if original:
        figures[0] |= {"original1": original[0], "original5": original[1]}
    return plain_and_se(label, network, *figures, narrow=NARROW[narrow], overrides=overrides)


def _resnet(depth: int, gflops: Printed, original: Printed) -> tuple[Row, Row]:
    return _rows(
        f"ResNet-{depth}",
        f"resnet{depth}",
        gflops=gflops,
        original=original,
        narrow="seresnet50",
        overrides={"model.stride_on": "1x1"},  # as in the authors' networks, and so counted
    )


STUDY = Study(
    order=20,
    title="Tables 2 and 3 of Hu et al.: plain and SE networks on ImageNet",
    column="network",
    rows=(
        *_resnet(50, (3.86, 3.87), (24.7, 7.8)),
        *_resnet(101, (7.58, 7.60), (23.6, 7.1)),
        *_resnet(152, (11.30, 11.32), (23.0, 6.7)),
        *_rows(
            "ResNeXt-50",
            "resnext50_32x4d",
            gflops=(4.24, 4.25),
            original=(22.2, None),
            narrow="seresnext50_32x4d",
        ),
        *_rows(
            "ResNeXt-101",
            "resnext101_32x4d",
            gflops=(7.99, 8.00),
            original=(21.2, 5.6),
            narrow="seresnext50_32x4d",
        ),
        *_rows("VGG-16", "vgg16_bn", gflops=(15.47, 15.48), narrow="sevgg16_bn"),
        *_rows(
            "BN-Inception",
            "bninception",
            gflops=(2.03, 2.04),
            original=(25.2, 7.82),
            narrow="sebninception",
        ),
        *_rows(
            "Inception-ResNet-v2",
            "inception_resnet_v2",
            gflops=(11.75, 11.76),
            original=(19.9, 4.9),
            narrow="seinception_resnet_v2",
        ),
        *_rows(
            "MobileNet",
            "mobilenetv1",
            gflops=(0.569, 0.572),
            params=(4.2, 4.7),
            original=(29.4, None),
            narrow="semobilenetv1",
        ),
        *_rows(
            "ShuffleNet",
            "shufflenet_g3",
            gflops=(0.140, 0.142),
            params=(1.8, 2.4),
            original=(32.6, None),
            narrow="seshufflenet_g3",
        ),
    ),
    base={"*": "imagenet:{network},{dataset}"},
    dataset="imagenet2012",
    paper_columns={
        "printed": ("params",),
        "GFLOPs": ("gflops",),
        "original 1/5": ("original1", "original5"),
        "paper 1/5": ("top1", "top5"),
    },
    plotted={"paper": "top1", "original": "original1"},
    secondary=("printed", "original 1/5", "s/run"),
    notes=(
        "Original: the plain networks as others published them; paper: the authors' own training "
        "of both.",
        "GMACs are multiply-adds of convolutions and fully connected layers at 224 pixels, 299 for "
        "Inception-ResNet-v2; the paper calls its own counts GFLOPs.",
        "The paper's count for Inception-ResNet-v2 is that of a network of 5, 20 and 5 blocks.",
    ),
)
