"""Every network that timm has gives timm's activations, stage by stage."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from weights import digest, fill, images

import senet_jax

GOLDEN = Path(__file__).parent / "golden" / "activations.json"
CASES = json.loads(GOLDEN.read_text("utf-8"))["cases"]
LARGE = ("senet154", "legacy_senet154", "legacy_seresnext50_32x4d", "inception_resnet_v2")


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            case, id=case["timm"], marks=[pytest.mark.slow] if case["timm"] in LARGE else []
        )
        for case in CASES
    ],
)
def test_activations_equal_those_of_timm(case):
    name, fields, x = case["model"], case["fields"], images(case["size"])
    model = senet_jax.create_model(name, **fields)
    maps = senet_jax.create_model(name, features=True, **fields)
    variables = fill(jax.eval_shape(model.init, jax.random.key(0), x[:1]))

    @jax.jit
    def run(variables, x):
        return maps.apply(variables, x), model.apply(variables, x)

    found, logits = run(variables, x)
    assert list(found) == list(case["stages"])
    for stage, expected in (*case["stages"].items(), ("logits", case["logits"])):
        got, want = np.array(digest(found.get(stage, logits))), np.array(expected)
        np.testing.assert_allclose(got[0], want[0], rtol=1e-4, err_msg=stage)  # the norm
        typical = np.linalg.norm(want[2:]) / 4  # of the picked values
        np.testing.assert_allclose(got[2:], want[2:], rtol=1e-4, atol=1e-4 * typical)
