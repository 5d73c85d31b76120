"""Write golden/activations.json: what timm's networks give for weights that need no file.

    python tests/make_activations.py        (needs PyTorch and timm; tests do not)

Every parameter is drawn by a generator seeded with its name (weights.py): both sides can make it.
Stored are a few numbers of the output of each stage and of the logits.
"""

import functools
import json
from pathlib import Path

import jax
import timm
import torch
from weights import digest, fill, images

import senet_jax
from senet_jax import torch_names

BIAS = {"se": {"bias": True}}
CAFFE = BIAS | {"stem_pool": "caffe"}
# Ours, its fields, timm's name, pixels, modules whose outputs are our stages.
LAYERS = {f"stage{n + 1}": f"layer{n}" for n in (1, 2, 3, 4)}
CASES = [
    ("resnet18", {}, "resnet18", 64, LAYERS),
    ("resnet50", {}, "resnet50", 64, LAYERS),
    ("seresnet50", BIAS, "seresnet50", 64, LAYERS),
    ("seresnext50_32x4d", BIAS, "seresnext50_32x4d", 64, LAYERS),
    ("senet154", BIAS, "senet154", 64, LAYERS),
    ("seresnet50", CAFFE | {"stride_on": "1x1"}, "legacy_seresnet50", 64, LAYERS),
    ("seresnext50_32x4d", CAFFE, "legacy_seresnext50_32x4d", 64, LAYERS),
    ("senet154", CAFFE, "legacy_senet154", 64, LAYERS),
    ("mobilenetv1", {}, "mobilenetv1_100", 64, {f"stage{n + 1}": f"blocks.{n}" for n in range(5)}),
    (
        "vgg16_bn",
        {},
        "vgg16_bn",
        64,
        {f"stage{n + 1}": f"features.{i}" for n, i in enumerate((5, 12, 22, 32, 42))},
    ),
    (
        "inception_resnet_v2",
        {},
        "inception_resnet_v2",
        107,
        {
            "stage2": "conv2d_4a",
            "stage3": "repeat",
            "stage4": "repeat_1",
            "stage5": "conv2d_7b",
        },
    ),
]


def keep(found, stage, module, inputs, output):
    found[stage] = output


def main():
    golden = {"versions": {"torch": torch.__version__, "timm": timm.__version__}, "cases": []}
    for name, fields, theirs, size, stages in CASES:
        model = senet_jax.create_model(name, **fields)
        shapes = jax.eval_shape(model.init, jax.random.key(0), images(size)[:1])
        other = timm.create_model(theirs).eval()
        state = other.state_dict()
        missing = {key for key in state if not key.endswith("num_batches_tracked")}
        for path, value in jax.tree.leaves_with_path(fill(shapes)):
            keys = [part.key for part in path]
            key = torch_names.name_of(model, keys[1:], legacy=theirs.startswith("legacy"))
            state[key] = torch.from_numpy(torch_names.to_torch(value, state[key].shape).copy())
            missing.remove(key)
        assert not missing, missing
        other.load_state_dict(state)
        found = {}
        for stage, module in stages.items():
            other.get_submodule(module).register_forward_hook(functools.partial(keep, found, stage))
        with torch.inference_mode():
            logits = other(torch.from_numpy(images(size).transpose(0, 3, 1, 2).copy()))
        maps = {stage: found[stage].permute(0, 2, 3, 1).numpy() for stage in stages}
        case = {"model": name, "fields": fields, "timm": theirs, "size": size}
        case["stages"] = {stage: digest(array) for stage, array in maps.items()}
        golden["cases"].append(case | {"logits": digest(logits.numpy())})
        print(theirs, golden["cases"][-1]["logits"][:3], flush=True)
    text = json.dumps(golden, indent=1)
    (Path(__file__).parent / "golden" / "activations.json").write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
