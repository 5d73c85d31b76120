"""Write golden/activations.json: what timm's networks give for weights that need no file.

    PYTHONPATH=tests python -m generate.make_activations [NAME ...]    (needs timm)

Every tensor is drawn by a generator seeded with its name (weights.py): both sides can make it.
Stored are how many tensors and numbers a network has, and a few numbers of the output of each stage
and of the logits. With names, only these are made again.
"""

import functools
import json
import sys
from pathlib import Path

import timm
import torch
from helpers.weights import digest, images, tensor

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
PIXELS = {"inception": 107, "": 64}


def keep(found, stage, module, inputs, output):
    found[stage] = output


def starting(table, name):
    return next(value for start, value in table.items() if name.startswith(start))


def case(name):
    stages, size = starting(STAGES, name), starting(PIXELS, name)
    model = timm.create_model(name).eval()
    counted = {k: v for k, v in model.state_dict().items() if "num_batches" not in k}
    model.load_state_dict(
        {key: torch.from_numpy(tensor(key, tuple(v.shape))) for key, v in counted.items()},
        strict=False,
    )
    found = {}
    for stage, module in stages.items():
        model.get_submodule(module).register_forward_hook(functools.partial(keep, found, stage))
    with torch.inference_mode():
        logits = model(torch.from_numpy(images(size).transpose(0, 3, 1, 2).copy()))
    maps = {stage: found[stage].permute(0, 2, 3, 1).numpy() for stage in stages}
    return {
        "size": size,
        "tensors": len(counted),
        "numbers": sum(value.numel() for value in counted.values()),
        "outputs": {stage: digest(array) for stage, array in maps.items()}
        | {"logits": digest(logits.numpy())},
    }


def main():
    cases = json.loads(FILE.read_text("utf-8"))["cases"] if FILE.exists() else {}
    for name in sys.argv[1:] or NETWORKS:
        cases[name] = case(name)
        print(name, cases[name]["outputs"]["logits"][:3], flush=True)
    versions = {"torch": torch.__version__, "timm": timm.__version__}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(cases[name])}" for name in NETWORKS)
    text = f'{{"versions": {json.dumps(versions)},\n"cases": {{\n{lines}\n}}}}\n'
    FILE.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
