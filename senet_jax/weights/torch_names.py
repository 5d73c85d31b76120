"""What our parameters are called in timm's PyTorch networks, and how they lie in memory there.

A path of ours, `("stage2", "block1", "conv1", "kernel")`, becomes a key of a `state_dict`,
`layer1.0.conv1.weight`. Knows no PyTorch: arrays are NumPy's on both sides, and moving them only
changes the order of their axes.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from senet_jax.errors import InputError
from senet_jax.layers.network import Network
from senet_jax.models.inception_resnet import STAGES, InceptionResNet
from senet_jax.models.mobilenet import MobileNet
from senet_jax.models.resnet import ResNet
from senet_jax.models.vgg import VGG

Path = tuple[str, ...]
Shapes = dict[Path, tuple[int, ...]]
HEAD = ("params", "head", "kernel")
LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A parameter or statistic of ours, and how it lies in PyTorch.

    Attributes:
      path: of ours, from "params" or "batch_stats" on.
      ours: its shape here.
      shape: its shape in PyTorch.
    """

    path: Path
    ours: tuple[int, ...]
    shape: tuple[int, ...]


def tensors(model: nn.Module, shapes: Shapes, *, legacy: bool = False) -> dict[str, Tensor]:
    """Every variable of `model`, given by path and shape, by its key in timm's network.

    Paths are from "params" or "batch_stats" on; see name_of for the rest.
    """
    found = {}
    for path, shape in shapes.items():
        name = name_of(model, path[1:], legacy=legacy)
        found[name] = Tensor(path, shape, _shape_of(name, shape))
    return found


def _shape_of(name: str, ours: tuple[int, ...]) -> tuple[int, ...]:
    """In PyTorch, which has convolutions for the dense layers of excitations and VGG's fc1, fc2."""
    if len(ours) == 4:
        height, width, inputs, outputs = ours
        return outputs, inputs, height, width
    if len(ours) == 2:
        inputs, outputs = ours
        if name == "pre_logits.fc1.weight":
            return outputs, inputs // 49, 7, 7
        is_convolution = re.search(r"(^|\.)fc[12]\.weight$", name)
        return (outputs, inputs, 1, 1) if is_convolution else (outputs, inputs)
    return ours


def is_legacy(network: str) -> bool:
    """Whether a network of timm's has the names of the first PyTorch port."""
    return network.startswith("legacy_")


def name_of(model: nn.Module, path: Sequence[str], *, legacy: bool = False) -> str:
    """The key of a parameter or statistic of `model` in timm's network of the same architecture.

    Args:
      path: below `params` or `batch_stats`.
      legacy: names of timm's `legacy_*` networks, those of the first PyTorch port.

    Raises:
      KeyError: for a network that timm has not.
    """
    *scopes, leaf = path
    scope = "/".join(scopes)
    if isinstance(model, ResNet):
        module = _legacy_resnet(scope) if legacy else _resnet(scope)
    elif isinstance(model, MobileNet):
        module = _mobilenet(scope)
    elif isinstance(model, VGG):
        module = _vgg(model, scope)
    elif isinstance(model, InceptionResNet):
        module = _inception_resnet(model, scope)
    else:
        raise KeyError(f"timm has no {type(model).__name__}")
    return f"{module}.{LEAVES.get(leaf, leaf)}"


def shapes_of(model: Network) -> Shapes:
    """Of all variables, by their paths from "params" or "batch_stats" on, for RGB images."""
    side = model.image_size
    images = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    flat: dict[Path, Any] = flatten_dict(dict(variables))
    return {path: leaf.shape for path, leaf in flat.items()}


def check_fits(
    problem: str,
    found: Mapping[str, tuple[int, ...]],
    expected: Mapping[str, tuple[int, ...]],
    channels: int,
) -> None:
    """Raises: InputError that names the first array that is missing, unknown or of another shape.

    Args:
      channels: the axis of kernels where the first has the number of channels of the images, which
        is free.
    """
    faults = [f"{name} is missing" for name in sorted(expected.keys() - found.keys())]
    faults += [f"{name} has no place in it" for name in sorted(found.keys() - expected.keys())]
    for name in sorted(expected.keys() & found.keys()):
        there, here = found[name], expected[name]
        if len(here) == len(there) == 4 and here[channels] == 3:
            here = (*here[:channels], there[channels], *here[channels + 1 :])
        if there != here:
            faults.append(f"{name} is {list(there)} there and {list(here)} in it")
    if faults:
        more = f", and {len(faults) - 1} more do not fit" if len(faults) > 1 else ""
        raise InputError(f"{problem}: {faults[0]}{more}")


def to_torch(value: np.ndarray, tensor: Tensor) -> np.ndarray:
    """Kernels [kh, kw, I, O] and [I, O] to outputs first, dense ones [kh * kw * I, O] as well."""
    if len(tensor.shape) == 4:
        outputs, inputs, *window = tensor.shape
        value = value.reshape(*window, inputs, outputs)
    if value.ndim > 1:
        value = np.moveaxis(value, (-1, -2), (0, 1))
    return value


def from_torch(value: np.ndarray, tensor: Tensor) -> np.ndarray:
    """The way back."""
    if value.ndim > 1:
        value = np.moveaxis(value, (0, 1), (-1, -2))
    return value if value.ndim == len(tensor.ours) else value.reshape(tensor.ours)


def _replace(scope: str, rules: Sequence[tuple[str, str]]) -> str:
    for pattern, replacement in rules:
        scope = re.sub(pattern, replacement, scope)
    return scope.replace("/", ".")


def _before(text: str) -> str:
    return str(int(text) - 1)


def _layers(scope: str) -> str:
    """stage2/block1/... -> layer1/0/..."""
    return re.sub(
        r"^stage(\d+)/block(\d+)", lambda m: f"layer{_before(m[1])}/{_before(m[2])}", scope
    )


SHORTCUT = [("shortcut/conv", "downsample.0"), ("shortcut/bn", "downsample.1")]


def _resnet(scope: str) -> str:
    stem = {f"stem/{kind}": f"{kind}1" for kind in ("conv", "bn")}
    stem |= {f"stem/conv{i}": f"conv1.{3 * i - 3}" for i in (1, 2, 3)}
    stem |= {"stem/bn1": "conv1.1", "stem/bn2": "conv1.4", "stem/bn3": "bn1"}
    if scope in stem:
        return stem[scope]
    rules = [*SHORTCUT, ("se/reduce", "se.fc1"), ("se/expand", "se.fc2"), ("^head$", "fc")]
    return _replace(_layers(scope), rules)


def _legacy_resnet(scope: str) -> str:
    rules = [
        *SHORTCUT,
        (r"^stem/(conv|bn)$", r"layer0.\g<1>1"),
        (r"^stem/", "layer0."),
        ("se/reduce", "se_module.fc1"),
        ("se/expand", "se_module.fc2"),
        ("^head$", "last_linear"),
    ]
    return _replace(_layers(scope), rules)


def _mobilenet(scope: str) -> str:
    scope = re.sub(
        r"^stage(\d)/block(\d)", lambda m: f"blocks/{_before(m[1])}/{_before(m[2])}", scope
    )
    rules = [
        ("^stem/conv", "conv_stem"),
        ("^stem/bn", "bn1"),
        ("depthwise/conv", "conv_dw"),
        ("depthwise/bn", "bn1"),
        ("pointwise/conv", "conv_pw"),
        ("pointwise/bn", "bn2"),
        ("^head$", "classifier"),
    ]
    return _replace(scope, rules)


def _vgg(model: VGG, scope: str) -> str:
    if found := re.fullmatch(r"stage(\d)/(conv|bn)(\d)", scope):
        stage, kind, index = int(found[1]) - 1, found[2], int(found[3]) - 1
        # Convolution, batch norm and ReLU each; one pooling a stage.
        place = 3 * (sum(model.stage_sizes[:stage]) + index) + stage + (kind == "bn")
        return f"features.{place}"
    return {"fc1": "pre_logits.fc1", "fc2": "pre_logits.fc2", "head": "head.fc"}[scope]


def _inception_resnet(model: InceptionResNet, scope: str) -> str:
    names = {f"stem{i}": f"conv2d_{n}" for i, n in enumerate(("1a", "2a", "2b", "3b", "4a"), 1)}
    names |= {"last": "conv2d_7b", "head": "classif", "stage3/pooled": "mixed_5b.branch3.1"}
    names |= {"stage3/first": "mixed_5b", "stage4/first": "mixed_6a", "stage5/first": "mixed_7a"}
    repeats = ("repeat", "repeat_1", "repeat_2")
    for (stage, _), repeat, size in zip(STAGES.items(), repeats, model.blocks, strict=True):
        for block in range(1, size + 1):
            is_last = stage == 5 and block == size
            theirs = "block8" if is_last else f"{repeat}.{block - 1}"
            names[f"stage{stage}/block{block}/paths"] = theirs
            names[f"stage{stage}/block{block}/expand"] = f"{theirs}.conv2d"
    found = re.fullmatch(r"(stage(\d)/(first|block\d+/paths))/path(\d)_conv(\d)/(.*)", scope)
    if not found:
        parent, _, kind = scope.rpartition("/")
        return f"{names[parent]}.{kind}" if parent in names else names[scope]
    plan = STAGES[int(found[2])]
    paths = plan.first if found[3] == "first" else plan.paths
    path, index = int(found[4]) - 1, int(found[5]) - 1
    place = "" if len(paths[path]) == 1 else f".{index}"  # the only one of a path has no number
    return f"{names[found[1]]}.branch{path}{place}.{found[6]}"
