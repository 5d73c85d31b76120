"""Write tests/golden/policies.json: torchvision's AutoAugment policies and timm's RandAugment.

python tests/generate/make_policies.py     (needs torchvision and timm; tests do not)

Of timm there are its lists of operations, and what it makes of each at some magnitudes.
"""

import json
from pathlib import Path

import timm
import torchvision
from timm.data import auto_augment
from torchvision.transforms import AutoAugment, AutoAugmentPolicy

MAGNITUDES = (0, 2.6, 7, 10)


def arguments(name):
    """The sizes of an operation's argument at MAGNITUDES; those with a sign go either way."""
    level = auto_augment.LEVEL_TO_ARG[name]
    auto_augment.random.random = lambda: 0.0  # positive, where there is a sign
    return None if level is None else [level(m, {"translate_pct": 0.45})[0] for m in MAGNITUDES]


def main():
    content = {
        "torchvision": torchvision.__version__,
        "timm": timm.__version__,
        "magnitudes": MAGNITUDES,
        "policies": {
            policy.value: AutoAugment(policy)._get_policies(policy) for policy in AutoAugmentPolicy
        },
        "inc1": {name: arguments(name) for name in auto_augment._RAND_INCREASING_TRANSFORMS},
        "inc0": {name: arguments(name) for name in auto_augment._RAND_TRANSFORMS},
    }
    path = Path(__file__).parents[1] / "golden" / "policies.json"
    path.write_text(json.dumps(content).replace("]], ", "]],\n") + "\n", "utf-8")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
