"""The names of our parameters in timm's PyTorch networks, and their layout in memory there.

A path of ours, `("stage2", "block1", "conv1", "kernel")`, becomes a key of a `state_dict`,
`layer1.0.conv1.weight`. PyTorch itself is not needed: arrays are NumPy's on both sides, and moving
them only changes the order of their axes.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import numpy as np
from flax.traverse_util import flatten_dict

from senet_jax.errors import InputError
from senet_jax.layers.network import Network
from senet_jax.models.inception_resnet import STAGES, InceptionResNet
from senet_jax.models.mobilenet import MobileNet
from senet_jax.models.resnet import ResNet
from senet_jax.models.shapes import variable_shapes
from senet_jax.models.vgg import VGG

Path = tuple[str, ...]
Shapes = dict[Path, tuple[int, ...]]
HEAD = ("params", "head", "kernel")
# Of nn.DataParallel, torch.compile, Lightning and many a training script, and saved checkpoints.
WRAPPERS = ("module.", "_orig_mod.", "model.", "state_dict.")
LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A parameter or statistic of ours, and its form in PyTorch.

    Attributes:
      path: its path here, from "params" or "batch_stats" on.
      ours: its shape here.
      shape: its shape in PyTorch.
    """

    path: Path
    ours: tuple[int, ...]
    shape: tuple[int, ...]


def tensors(model: nn.Module, shapes: Shapes, *, legacy: bool = False) -> dict[str, Tensor]:
    """Every variable of `model` by its key in timm's network.

    Args:
      shapes: the variables by their paths, from "params" or "batch_stats" on.
      legacy: see name_of.
    """
    by_key = {}
    for path, shape in shapes.items():
        name = name_of(model, path[1:], legacy=legacy)
        by_key[name] = Tensor(path, shape, _shape_of(name, shape))
    return by_key


def _shape_of(name: str, ours: tuple[int, ...]) -> tuple[int, ...]:
    """The shape in PyTorch, where excitations and the fc1 and fc2 of VGG are convolutions."""
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
    """Whether a network in timm has the names of the first PyTorch port."""
    return network.startswith("legacy_")


def name_of(model: nn.Module, path: Sequence[str], *, legacy: bool = False) -> str:
    """The key of a parameter or statistic of `model` in timm's network of the same architecture.

    Args:
      path: scopes and leaf below `params` or `batch_stats`.
      legacy: whether the names are those of timm's `legacy_*` networks, the first PyTorch port.

    Raises:
      KeyError: for a network that timm lacks.
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


def unwrapped(tensors: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """The tensors without what wrappers put before all names, one in another: "module." and such.

    A prefix that only some names have is none.
    """
    while tensors:
        shared = [p for p in WRAPPERS if all(key.startswith(p) for key in tensors)]
        if not shared:
            break
        tensors = {key.removeprefix(shared[0]): value for key, value in tensors.items()}
    return tensors


def shapes_of(model: Network, image_shape: Sequence[int] | None = None) -> Shapes:
    """The shapes of all variables, by their paths from the collection on.

    Args:
      image_shape: [H, W, C] of the images; those of the network's usual size in RGB by default.
    """
    image_shape = image_shape or (model.image_size, model.image_size, 3)
    flat: dict[Path, Any] = flatten_dict(dict(variable_shapes(model, image_shape)))
    return {path: leaf.shape for path, leaf in flat.items()}


def check_fits(
    problem: str,
    stored: Mapping[str, tuple[int, ...]],
    expected: Mapping[str, tuple[int, ...]],
    channels: int,
) -> None:
    """Check that stored arrays are those of a network, all by name and shape.

    Args:
      problem: what an error begins with.
      stored, expected: the shapes of the arrays that there are and of those in the network.
      channels: the axis of a kernel that counts its inputs. In the first kernel of a network these
        are the channels of the images, whose number is free.

    Raises: InputError that names the first array that is missing, unknown or different in shape.
    """
    faults = [f"{name} is missing" for name in sorted(expected.keys() - stored.keys())]
    faults += [f"{name} has no place in it" for name in sorted(stored.keys() - expected.keys())]
    for name in sorted(expected.keys() & stored.keys()):
        shape, right = stored[name], expected[name]
        if len(right) == len(shape) == 4 and right[channels] == 3:
            right = (*right[:channels], shape[channels], *right[channels + 1 :])
        if shape != right:
            faults.append(f"{name} is {list(shape)} there and {list(right)} in it")
    if faults:
        more = f", and {len(faults) - 1} more do not fit" if len(faults) > 1 else ""
        raise InputError(f"{problem}: {faults[0]}{more}")


def to_torch(value: np.ndarray, tensor: Tensor) -> np.ndarray:
    """Put the outputs of a kernel [kh, kw, I, O], [I, O] or [kh * kw * I, O] first."""
    if len(tensor.shape) == 4:
        outputs, inputs, *window = tensor.shape
        value = value.reshape(*window, inputs, outputs)
    if value.ndim > 1:
        value = np.moveaxis(value, (-1, -2), (0, 1))
    return value


def from_torch(value: np.ndarray, tensor: Tensor) -> np.ndarray:
    """Put the outputs of a kernel last: the way back from `to_torch`."""
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
    if match := re.fullmatch(r"stage(\d)/(conv|bn)(\d)", scope):
        stage, kind, index = int(match[1]) - 1, match[2], int(match[3]) - 1
        # Convolution, batch norm and ReLU each; one pooling per stage.
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
            name = "block8" if is_last else f"{repeat}.{block - 1}"
            names[f"stage{stage}/block{block}/paths"] = name
            names[f"stage{stage}/block{block}/expand"] = f"{name}.conv2d"
    match = re.fullmatch(r"(stage(\d)/(first|block\d+/paths))/path(\d)_conv(\d)/(.*)", scope)
    if not match:
        parent, _, kind = scope.rpartition("/")
        return f"{names[parent]}.{kind}" if parent in names else names[scope]
    plan = STAGES[int(match[2])]
    paths = plan.first if match[3] == "first" else plan.paths
    path, index = int(match[4]) - 1, int(match[5]) - 1
    place = "" if len(paths[path]) == 1 else f".{index}"  # the only one of a path has no number
    return f"{names[match[1]]}.branch{path}{place}.{match[6]}"
