"""Every network here that timm has gives, from its tensors, its activations stage by stage."""

import json
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import pytest
from helpers.weights import digest, images, state_dict

from senet_jax.weights import loading
from senet_jax.weights.timm import NETWORKS

GOLDEN = Path(__file__).parents[1] / "golden" / "activations.json"
CASES = json.loads(GOLDEN.read_text("utf-8"))["cases"]
# One of each architecture: basic blocks and bottlenecks, plain and SE, the rounded hidden width,
# Caffe's forms, and other families. The rest differ from these in depth, groups and widths.
QUICK = (
    *("resnet18", "seresnet18", "seresnet50", "resnext50_32x4d", "legacy_seresnet18"),
    *("legacy_seresnet50", "legacy_seresnext26_32x4d", "mobilenetv1_100", "vgg16_bn"),
)
SLOW = pytest.mark.slow(reason="runs the other networks in their full width and depth")


def test_there_is_a_case_for_every_network():
    assert list(CASES) == list(NETWORKS)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in QUICK else SLOW) for name in CASES],
)
def test_activations_equal_those_of_timm(name):
    case, state = CASES[name], state_dict(name)
    assert len(state) == case["tensors"]
    assert sum(value.size for value in state.values()) == case["numbers"]
    # Plain layers compile faster, where convolutions are grouped ten times; that the others compute
    # the same is tested in layers/test_implementation.py.
    implementation = "auto" if name in QUICK and "resnext" not in name else "xla"
    weights = loading.from_tensors(name, state, implementation=implementation)

    @jax.jit
    def run(variables, x):
        stages = {}

        def keep(next_fun, args, kwargs, context):
            output = next_fun(*args, **kwargs)
            if context.method_name == "maps":
                stages.update(output)
            return output

        with nn.intercept_methods(keep):
            logits = weights.model.apply(variables, x)
        return stages | {"logits": logits}

    outputs = run(weights.variables, images(case["size"]))
    assert sorted(outputs) == sorted(case["outputs"])
    for stage, expected in case["outputs"].items():
        got, want = np.array(digest(outputs[stage])), np.array(expected)
        np.testing.assert_allclose(got[0], want[0], rtol=1e-4, err_msg=stage)  # the norm
        typical = np.linalg.norm(want[2:]) / 4  # of the picked values
        np.testing.assert_allclose(got[2:], want[2:], rtol=1e-4, atol=1e-4 * typical)
