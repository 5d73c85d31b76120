"""The benchmark's networks in PyTorch: timm's where timm has them, otherwise written here.

The module is imported only when PyTorch is a contestant. A twin whose number of parameters differs
from ours is refused before anything is timed.
"""

from collections.abc import Sequence

import timm
import torch
from torch import nn

from senet_jax.errors import InputError

# Our names of networks to timm's and its arguments, where they differ.
TIMM = {"mobilenetv1": {"model_name": "mobilenetv1_100", "act_layer": "relu"}}


def create(network: str, counts: Sequence[int]) -> nn.Module:
    """Create a network in PyTorch; if `counts` has any numbers, it must have one of them.

    Raises: InputError if PyTorch lacks the network, or if it has a different number of parameters.
    """
    arguments = TIMM.get(network, {"model_name": network})
    if network == "semobilenetv1":
        model = _mobilenet()
    elif network.endswith("_cifar"):
        model = CifarResNet(int("".join(filter(str.isdigit, network))), network.startswith("se"))
    elif timm.is_model(arguments["model_name"]):
        model = timm.create_model(**arguments)
    else:
        raise InputError(f"{network} has no twin in PyTorch; leave torch out of --against")
    theirs = sum(parameter.numel() for parameter in model.parameters())
    if counts and theirs not in counts:
        ours = " or ".join(f"{count:,}" for count in counts)
        raise InputError(f"{network} has {theirs:,} parameters in PyTorch and {ours} here")
    return model


class SqueezeExcite(nn.Module):
    """The SE block of Hu et al., ratio 16, without biases."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(1, channels // 16)
        self.reduce = nn.Conv2d(channels, hidden, 1, bias=False)
        self.expand = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.reduce(x.mean((2, 3), keepdim=True)).relu_()
        return x * self.expand(hidden).sigmoid()


def _conv(inputs: int, outputs: int, size: int, stride: int, groups: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(outputs)]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, as in senet_jax/models/resnet.py."""

    def __init__(self, inputs: int, outputs: int, stride: int, se: bool) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *_conv(inputs, outputs, 3, stride),
            nn.ReLU(inplace=True),
            *_conv(outputs, outputs, 3, 1),
            *([SqueezeExcite(outputs)] if se else []),
        )
        changes = stride > 1 or inputs != outputs
        self.shortcut = nn.Sequential(*(_conv(inputs, outputs, 1, stride) if changes else []))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.branch(x) + self.shortcut(x)).relu_()


class CifarResNet(nn.Sequential):
    """ResNet-(6n+2) for 32-pixel images, as in senet_jax/models/resnet.py."""

    def __init__(self, depth: int, se: bool) -> None:
        layers, inputs = [*_conv(3, 16, 3, 1), nn.ReLU(inplace=True)], 16
        for width, stride in ((16, 1), (32, 2), (64, 2)):
            for index in range((depth - 2) // 6):
                layers.append(BasicBlock(inputs, width, stride if index == 0 else 1, se))
                inputs = width
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


# Width and stride of each MobileNet block (Howard et al., Table 1).
MOBILENET = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5]
MOBILENET += [(1024, 2), (1024, 1)]


def _mobilenet() -> nn.Module:
    layers, inputs = [*_conv(3, 32, 3, 2), nn.ReLU(inplace=True)], 32
    for width, stride in MOBILENET:
        layers += [*_conv(inputs, inputs, 3, stride, groups=inputs), nn.ReLU(inplace=True)]
        layers += [*_conv(inputs, width, 1, 1), nn.ReLU(inplace=True), SqueezeExcite(width)]
        inputs = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 1000))
