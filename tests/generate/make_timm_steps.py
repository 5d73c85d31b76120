"""Write tests/golden/timm_steps.json: ten steps of timm's optimizers and losses, by recipe.

PYTHONPATH=tests python tests/generate/make_timm_steps.py        (needs timm; tests do not)

The network is a narrow SE-ResNet-18, without stochastic depth. Each recipe has the arguments of
timm's training script, of which `schedule` and the rest come in as the rates and batches of
tests/helpers/timm_steps.py.
"""

import json
from pathlib import Path

import numpy as np
import timm
import torch
from helpers.timm_steps import CLASSES, RATES, SHARE, batch, soft_targets, summary, tensor
from timm.data.mixup import mixup_target
from timm.loss import BinaryCrossEntropy, LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from timm.models.resnet import BasicBlock, ResNet
from timm.optim import create_optimizer_v2
from timm.utils import ModelEmaV3

# Arguments of create_optimizer_v2, and beside them the loss, smoothing, and whether images mix.
RSB = {"opt": "lamb", "bce": True, "mixes": True}
RECIPES = {
    "rsb_a1": RSB | {"lr": 5e-3, "weight_decay": 0.01, "smoothing": 0.1},
    "rsb_a2": RSB | {"lr": 5e-3, "weight_decay": 0.02, "threshold": 0.2},
    "rsb_a3": RSB | {"lr": 8e-3, "weight_decay": 0.02, "threshold": 0.2},
    "ra2": {
        "opt": "rmsproptf",
        "lr": 0.048,
        "weight_decay": 1e-5,
        "eps": 1e-3,
        "momentum": 0.9,
        "smoothing": 0.1,
        "ema": {"decay": 0.9999},
    },
    "modern": {
        "opt": "sgd",
        "lr": 0.1,
        "weight_decay": 5e-4,
        "momentum": 0.9,
        "smoothing": 0.1,
        "mixes": True,
    },
    "adamw": {
        "opt": "adamw",
        "lr": 1e-3,
        "weight_decay": 0.05,
        "smoothing": 0.1,
        "mixes": True,
        "ema": {"decay": 0.7, "use_warmup": True},
    },
}


def ten_steps(bce=False, mixes=False, smoothing=0.0, threshold=None, ema=None, *, lr, **arguments):
    se = {"attn_layer": "se"}
    model = ResNet(BasicBlock, (1, 1), CLASSES, channels=(8, 16), block_args=se)
    model.layer3 = model.layer4 = torch.nn.Identity()
    state = {name: tensor(name, value.shape) for name, value in model.state_dict().items()}
    numbers = {name: 0 for name in state if name.endswith("num_batches_tracked")}
    model.load_state_dict({name: torch.as_tensor(v) for name, v in (state | numbers).items()})
    optimizer = create_optimizer_v2(model, lr=lr, **arguments)
    if bce:
        loss_of = BinaryCrossEntropy(smoothing=smoothing, target_threshold=threshold)
    else:
        loss_of = SoftTargetCrossEntropy() if mixes else LabelSmoothingCrossEntropy(smoothing)
    averages = ModelEmaV3(model, **ema) if ema else None
    model.train()
    losses = []
    for step, rate in enumerate(RATES):
        for group in optimizer.param_groups:
            group["lr"] = float(rate) * lr
        images, labels = batch(step)
        targets = torch.as_tensor(labels)
        if mixes:
            targets = mixup_target(targets, CLASSES, SHARE, smoothing).float()
            ours = soft_targets(labels, smoothing, mixes)
            np.testing.assert_allclose(targets, ours, atol=1e-6)
        loss = loss_of(model(torch.as_tensor(images.transpose(0, 3, 1, 2))), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if averages:
            averages.update(model, step=step + 1)  # as timm's train.py counts
        losses.append(loss.item())
    variables = {name: value.detach() for name, value in model.named_parameters()}
    steps = {"losses": losses, "tensors": {k: summary(k, v) for k, v in variables.items()}}
    if averages:
        means = averages.module.state_dict().items()
        # Running variances are those of n - 1 examples there, and of n here.
        left_out = ("num_batches_tracked", "running_var")
        steps["ema"] = {k: summary(k, v) for k, v in means if not k.endswith(left_out)}
    return steps


def main():
    torch.use_deterministic_algorithms(True)
    steps = {name: ten_steps(**arguments) for name, arguments in RECIPES.items()}
    path = Path(__file__).parents[1] / "golden" / "timm_steps.json"
    text = json.dumps({"timm": timm.__version__} | steps, indent=1)
    text = json.dumps(json.loads(text, parse_float=lambda x: float(f"{float(x):.8g}")), indent=None)
    path.write_text(text.replace('}, "', '},\n"') + "\n", "utf-8")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
