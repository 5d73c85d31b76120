"""Every network here that timm has gives, from its tensors, its activations stage by stage."""

import json
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import pytest
from helpers.quick import some_quick
from helpers.weights import digest, images, state_dict

from senet_jax.weights import loading
from senet_jax.weights.timm import NETWORKS

# Distance from the float64 reference; measured are 2e-7 to 1e-6, by network.
TOLERANCE = 1e-5
GOLDEN = Path(__file__).parents[1] / "golden" / "activations.json"
CASES = json.loads(GOLDEN.read_text("utf-8"))["cases"]
# One of each architecture but VGG, the slowest: basic blocks, bottlenecks, the rounded hidden
# width, Caffe's forms, MobileNet. The rest differ in depth, groups and widths, or lack SE.
QUICK = ("seresnet18", "seresnet50", "legacy_seresnext26_32x4d", "mobilenetv1_100")
OURS = (*QUICK, "legacy_seresnet50", "vgg16_bn")  # networks with the layers of users


def test_there_is_a_case_for_every_network():
    assert list(CASES) == list(NETWORKS)


@pytest.mark.parametrize(
    "name", some_quick(CASES, QUICK, "runs the other networks in their full width and depth")
)
def test_activations_equal_those_of_timm(name):
    case, state = CASES[name], state_dict(name)
    assert len(state) == case["tensors"]
    assert sum(value.size for value in state.values()) == case["numbers"]
    # Plain layers compile faster, where convolutions are grouped ten times; that the others compute
    # the same is tested in layers/test_implementation.py.
    implementation = "auto" if name in OURS and "resnext" not in name else "xla"
    outputs = outputs_of(name, state, images(*case["size"]), implementation=implementation)
    assert sorted(outputs) == sorted(case["outputs"])
    for stage, expected in case["outputs"].items():
        assert apart(digest(outputs[stage]), expected) < TOLERANCE, stage


@pytest.mark.parametrize("name", CASES)
def test_the_weights_reach_every_bend_of_a_network(name):
    """Without one of its bends timm's network gives logits that are no longer equal."""
    moved = CASES[name]["bends"]
    assert len(moved) >= 5 + 2 * ("se" in name)
    assert min(moved.values()) > 300 * TOLERANCE, moved


def test_a_network_without_the_bend_at_6_is_told_apart():
    name = "mobilenetv1_100"
    case = CASES[name]
    outputs = outputs_of(name, state_dict(name), images(*case["size"]), relu6=False)
    for stage, expected in case["outputs"].items():
        assert apart(digest(outputs[stage]), expected) > 1000 * TOLERANCE, stage


def outputs_of(name, state, x, **fields):
    """The last map of each stage, by name, and the logits."""
    weights = loading.from_tensors(name, state, **fields)

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

    return run(weights.variables, x)


def apart(got, want):
    """The distance of two arrays and that of their means, the larger, by their digests.

    Relative to the size of the second.
    """
    difference = np.array(got) - np.array(want)
    return max(np.linalg.norm(difference[1:]), abs(difference[0])) / np.linalg.norm(want[1:])
