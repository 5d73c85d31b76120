"""Write golden/activations.json: what timm's networks give for weights that need no file.

    PYTHONPATH=tests python -m generate.make_activations [NAME ...]    (needs timm)

Every tensor is drawn by a generator seeded with its name (weights.py): both sides can make it.
Stored are how many tensors and numbers a network has, and digests of the output of each stage and
of the logits, computed in float64. With names, only these are made again.

Stored as well is how far the logits move, relative to their size, when one bend of the network is
straightened or one of its parts is left out. Where they did not move, the digests would not see it.
"""

import copy
import functools
import json
import sys
from pathlib import Path

import timm
import torch
from helpers.weights import digest, images, tensor
from torch import nn

from senet_jax.weights.timm import NETWORKS

FILE = Path(__file__).parents[1] / "golden" / "activations.json"
# Modules whose outputs are our stages, by the beginning of a network's name.
STAGES = {
    "mobilenet": {f"stage{n + 1}": f"blocks.{n}" for n in range(5)},
    "vgg": {f"stage{n + 1}": f"features.{i}" for n, i in enumerate((5, 12, 22, 32, 42))},
    "inception": {
        "stage2": "conv2d_4a",
        "stage3": "repeat",
        "stage4": "repeat_1",
        "stage5": "conv2d_7b",
    },
    "": {f"stage{n + 1}": f"layer{n}" for n in (1, 2, 3, 4)},
}
# Height and width: neither the same nor both even on the way, for windows at the border.
PIXELS = {"inception": (107, 92), "": (71, 58)}


def replace(model, kind, new):
    """Put `new(module)` in the place of each module of a kind, PyTorch's or timm's."""
    for name, module in list(model.named_modules()):
        if type(module).__name__ == kind:
            model.set_submodule(name, new(module))


def rewrite(model, kind, ending, change):
    """Change a parameter or statistic of all modules of a kind, by its last name."""
    for module in model.modules():
        if isinstance(module, kind) and getattr(module, ending) is not None:
            getattr(module, ending).data = change(getattr(module, ending))


def epsilon(model):
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-3 if module.eps < 1e-4 else 1e-5


def pool(module):
    if module.kernel_size == 2:
        return nn.MaxPool2d(2, 2, ceil_mode=True)
    if module.padding:
        return nn.MaxPool2d(3, 2, ceil_mode=True)
    # Inception-ResNet's, which lack both, give the sizes of the convolutions beside them.
    return nn.MaxPool2d(3, 2, padding=1) if module.ceil_mode else module


def counted(module):
    return nn.AvgPool2d(3, 1, 1, count_include_pad=not module.count_include_pad)


def strides(model):
    """The stride of a bottleneck on its other convolution."""
    for module in model.modules():
        if "Bottleneck" in type(module).__name__:
            module.conv1.stride, module.conv2.stride = module.conv2.stride, module.conv1.stride


BENDS = {
    "activations end at 6": lambda m: replace(m, "ReLU", lambda _: nn.ReLU6()),
    "activations do not end at 6": lambda m: replace(m, "ReLU6", lambda _: nn.ReLU()),
    "gates are hard sigmoids": lambda m: replace(m, "Sigmoid", lambda _: nn.Hardsigmoid()),
    "epsilon is 1e-3, or 1e-5 for 1e-3": epsilon,
    "scales are positive": lambda m: rewrite(m, nn.BatchNorm2d, "weight", torch.abs),
    "norms have no biases": lambda m: rewrite(m, nn.BatchNorm2d, "bias", torch.zeros_like),
    "convolutions have no biases": lambda m: rewrite(m, nn.Conv2d, "bias", torch.zeros_like),
    "means are zero": lambda m: rewrite(m, nn.BatchNorm2d, "running_mean", torch.zeros_like),
    "maxima are taken with another border": lambda m: replace(m, "MaxPool2d", pool),
    "means count their border otherwise": lambda m: replace(m, "AvgPool2d", counted),
    "bottlenecks stride on the other convolution": strides,
}


def keep(found, stage, module, inputs, output):
    found[stage] = output


def starting(table, name):
    return next(value for start, value in table.items() if name.startswith(start))


def case(name):
    stages, size = starting(STAGES, name), starting(PIXELS, name)
    model = timm.create_model(name).eval().double()
    tensors = {k: v for k, v in model.state_dict().items() if "num_batches" not in k}
    for key, value in tensors.items():
        value.copy_(torch.from_numpy(tensor(key, tuple(value.shape))))
    x = torch.from_numpy(images(*size).transpose(0, 3, 1, 2).copy()).double()
    found = {}
    hooks = [
        model.get_submodule(module).register_forward_hook(functools.partial(keep, found, stage))
        for stage, module in stages.items()
    ]
    with torch.inference_mode():
        logits = model(x)
    for hook in hooks:
        hook.remove()
    maps = {stage: found[stage].permute(0, 2, 3, 1).numpy() for stage in stages}
    return {
        "size": size,
        "tensors": len(tensors),
        "numbers": sum(value.numel() for value in tensors.values()),
        "outputs": {stage: digest(array) for stage, array in maps.items()}
        | {"logits": digest(logits.numpy())},
        "bends": bends(model, x, logits),
    }


def bends(model, x, logits):
    """How far the logits move, relative to their size, by bends that the network has."""
    moved = {}
    for bend, change in BENDS.items():
        other = copy.deepcopy(model)
        change(other)
        state, changed = model.state_dict(), other.state_dict()
        if repr(other) != repr(model) or any(not torch.equal(state[k], changed[k]) for k in state):
            with torch.inference_mode():
                distance = torch.linalg.norm(other(x) - logits) / torch.linalg.norm(logits)
            moved[bend] = float(f"{distance:.2g}")
    return moved


def main():
    cases = json.loads(FILE.read_text("utf-8"))["cases"] if FILE.exists() else {}
    for name in sys.argv[1:] or NETWORKS:
        cases[name] = case(name)
        print(name, cases[name]["outputs"]["logits"][:3], cases[name]["bends"], flush=True)
        write(cases)


def write(cases):
    versions = {"torch": torch.__version__, "timm": timm.__version__}
    lines = ",\n".join(
        f"{json.dumps(name)}: {json.dumps(cases[name])}" for name in NETWORKS if name in cases
    )
    text = f'{{"versions": {json.dumps(versions)},\n"cases": {{\n{lines}\n}}}}\n'
    FILE.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
