"""timm's networks under their names there, and the weights that timm publishes for them.

`NETWORKS` says which network of ours each is, with the fields that give timm's architecture; what
differs from the network of the same name here is said in loading.py. `ALIKE` are networks that only
we have, whose weights are kept in the same form. `timm.csv` has what every set of weights was made
for, in timm's words; tests/generate/make_timm.py writes it.
"""

import csv
import functools
import re
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any

import flax.linen as nn
import jax

from senet_jax.errors import InputError, did_you_mean, named
from senet_jax.layers.slot import SEConfig
from senet_jax.models import inception_resnet, mobilenet, resnet, resnext, senet, vgg
from senet_jax.models.resnet import BasicBlock
from senet_jax.weights import declared
from senet_jax.weights.image_spec import ImageSpec


class CaffeBasicBlock(BasicBlock):
    """The basic block of timm's legacy_seresnet18 and 34, with a ReLU before its SE block."""

    def branch(self, x: jax.Array, train: bool) -> jax.Array:
        return nn.relu(super().branch(x, train))


Constructor = functools.partial[Any]

_OURS: dict[str, Constructor] = {
    name: constructor
    for family in (resnet, resnext, senet, vgg, inception_resnet, mobilenet)
    for name, constructor in family.MODELS.items()
}


def _like(ours: str, **fields: Any) -> Constructor:
    return functools.partial(_OURS[ours], **fields)


_BIASED = SEConfig(bias=True)
_ROUNDED = SEConfig(bias=True, rounding="timm")
# As the authors' Caffe networks, of which these are ports; the dropout is timm's.
_CAFFE: dict[str, Any] = {"se": _BIASED, "stem_pool": "caffe", "dropout": 0.2}
_TWINS = (
    *(f"resnet{depth}" for depth in (18, 34, 50, 101, 152)),
    *("resnext50_32x4d", "resnext101_32x4d", "resnext101_64x4d"),
)

NETWORKS: dict[str, Constructor] = {
    **{name: _like(name) for name in _TWINS},
    **{
        f"resnext101_32x{width}d": _like("resnext101_32x4d", base_width=width)
        for width in (8, 16, 32)
    },
    **{f"se{name}": _like(f"se{name}", se=_BIASED) for name in _TWINS[2:]},
    **{name: _like(name, se=_ROUNDED) for name in ("seresnet18", "seresnet34")},
    "seresnext101_32x8d": _like("seresnext101_32x4d", se=_BIASED, base_width=8),
    "senet154": _like("senet154", se=_BIASED, dropout=0.0),
    **{
        f"legacy_seresnet{depth}": _like(f"seresnet{depth}", block=CaffeBasicBlock, **_CAFFE)
        for depth in (18, 34)
    },
    **{
        f"legacy_seresnet{depth}": _like(f"seresnet{depth}", stride_on="1x1", **_CAFFE)
        for depth in (50, 101, 152)
    },
    "legacy_seresnext26_32x4d": _like("seresnext50_32x4d", stage_sizes=(2, 2, 2, 2), **_CAFFE),
    **{
        f"legacy_{name}": _like(name, **_CAFFE)
        for name in ("seresnext50_32x4d", "seresnext101_32x4d", "senet154")
    },
    "mobilenetv1_100": _like("mobilenetv1", relu6=True),
    "vgg16_bn": _like("vgg16_bn", dropout=0.0),
    "inception_resnet_v2": _like("inception_resnet_v2"),
}

# Networks that timm lacks, with the tensors of a ResNet there: files of their weights have the same
# form, with the fields that these networks have here.
ALIKE: dict[str, Constructor] = {
    name: constructor for name, constructor in resnet.MODELS.items() if name.endswith("_cifar")
}

# What networks here lack of timm's variants, by the letters beside the depth.
_VARIANT = re.compile(r"(?:legacy_)?(?:se|eca)?resnex?t(aa)?\d+(ts|[dtcs])?(?:_\d+x\d+d)?")
_LACKING = {
    "aa": "anti-aliased strides",
    "ts": "a tiered stem and SiLU",
    "d": "a deep stem and shortcuts that average before they project",
    "t": "a tiered stem and shortcuts that average before they project",
    "c": "a deep stem",
    "s": "a deep stem",
}


@functools.cache
def weights() -> dict[str, ImageSpec]:
    """What images every set of weights was made for, by its name: "seresnet50.ra2_in1k".

    The first set of a network is the one that timm takes where none is named.
    """
    specs = {}
    for row in _rows():
        side, test_side = int(row["pixels"]), int(row["test_pixels"] or 0)
        specs[row["weights"]] = ImageSpec(
            (3, side, side),
            float(row["crop_pct"]),
            row["interpolation"],
            tuple(map(float, row["mean"].split())),
            tuple(map(float, row["std"].split())),
            int(row["num_classes"]),
            (3, test_side, test_side) if test_side else None,
            float(row["test_crop_pct"]) if row["test_crop_pct"] else None,
        )
    return specs


def licence_of(name: str) -> str:
    """The identifier of the licence of a set of weights: "apache-2.0"; "" where none is known."""
    return next((row["license"] for row in _rows() if row["weights"] == name), "")


def _rows() -> Iterator[dict[str, str]]:
    text = resources.files("senet_jax.weights").joinpath("timm.csv").read_text("utf-8")
    yield from csv.DictReader(text.splitlines())


def image_spec_of(name: str, config_json: Mapping[str, Any]) -> ImageSpec:
    """What images weights of timm's network `name` are made for, by their config.json.

    Raises: InputError as declared.image_spec.
    """
    # A field that is not stated there has timm's usual value, not that of the tag in `name`.
    if stated := declared.image_spec(config_json):
        return stated
    names = (key for key in weights() if key == name or key.partition(".")[0] == name)
    return weights().get(next(names, ""), ImageSpec())


def architecture_in(config_json: Mapping[str, Any]) -> str | None:
    """The network that a config.json names, without a tag; None if it names none.

    Raises: InputError for a network that is not here.
    """
    if architecture := declared.architecture(config_json):
        with named("config.json: architecture"):
            constructor_of(architecture)
    return architecture


def constructor_of(name: str) -> Constructor:
    """The constructor of a network with weights in timm's form.

    Args:
      name: the network's name, with or without the tag of weights.

    Raises: InputError for a network that is not here, and for a tag that timm lacks.
    """
    network, _, tag = name.partition(".")
    constructors = NETWORKS | ALIKE
    if network not in constructors:
        variant = _VARIANT.fullmatch(network)
        if variant and (lacking := _LACKING.get(variant[1] or variant[2])):
            raise InputError(f"timm's {network} has {lacking}, which no network here has")
        raise InputError(
            f"{network!r} is not among timm's networks here{did_you_mean(network, constructors)}"
        )
    if tag and name not in weights():
        raise InputError(f"timm publishes no weights {name!r}; {_published(network)}")
    return constructors[network]


def default_weights(network: str) -> str:
    """The set of weights that timm takes for a network of NETWORKS where none is named.

    Raises: InputError if it publishes none.
    """
    for name in weights():
        if name.partition(".")[0] == network:
            return name
    raise InputError(f"timm publishes {_published(network)}; give a file or a folder of them")


def _published(network: str) -> str:
    """Half a sentence on the weights that timm has for a network."""
    names = [name for name in weights() if name.partition(".")[0] == network]
    return f"of {network} it has {', '.join(names)}" if names else f"no weights of {network}"
