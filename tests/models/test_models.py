"""Exact counts agree with their sources, and networks with each other."""

import csv
import json
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.gates import open_gates, without_se
from helpers.quick import one_in
from helpers.weights import fill

import senet_jax
from senet_jax.layers.slot import PLACEMENTS
from senet_jax.models.counts import image_shape_of, summarize
from senet_jax.summary import markdown_table

GOLDEN = list(
    csv.DictReader((Path(__file__).parents[1] / "golden" / "counts.csv").read_text().splitlines())
)


def quick_and_slow(rows):
    """Quick: the first row of each network, and every row of SE-ResNet-50, which has all fields."""
    seen, params = set(), []
    for row in rows:
        again = row["model"] in seen and row["model"] != "seresnet50"
        seen.add(row["model"])
        marks = pytest.mark.slow(reason="traces a network once more") if again else ()
        params.append(pytest.param(row, id=f"{row['model']} {row['fields']}", marks=marks))
    return params


@pytest.mark.parametrize("row", quick_and_slow(GOLDEN))
def test_counts_equal_their_source(row):
    fields = json.loads(row["fields"])
    summary = summarize(
        senet_jax.create_model(row["model"], **fields), image_shape_of(row["model"])
    )
    if row["params"]:
        assert summary.params == int(row["params"]), row["source"]
    if row["gmacs"]:
        digits = len(row["gmacs"].partition(".")[2])
        assert round(summary.macs / 1e9, digits) == float(row["gmacs"]), row["source"]


def test_every_network_has_counts_from_a_source():
    """Its parameters, with biases as well if it has SE blocks, and a plain one's multiply-adds."""
    counted = {
        (row["model"], kind, '"bias": true' in row["fields"])
        for row in GOLDEN
        for kind in ("params", "gmacs")
        if row[kind]
    }
    for name in senet_jax.list_models():
        assert (name, "params", False) in counted, name
        wanted = ("params", True) if name.startswith("se") else ("gmacs", False)
        assert (name, *wanted) in counted, name


@pytest.mark.slow(reason="traces every network, with biases and without")
def test_the_docs_list_every_model_with_its_counts():
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text("utf-8")
    assert f"<!-- models -->\n{markdown_table()}<!-- end models -->" in page


def test_stages_add_what_the_paper_formula_says():
    # Hu et al., equation 5, by stage: 2/r N_s C_s^2.
    plain = summarize(senet_jax.create_model("resnet50"), (224, 224, 3))
    se = summarize(senet_jax.create_model("seresnet50", se={"ratio": 8}), (224, 224, 3))
    added = {a.name: a.params - b.params for a, b in zip(se.parts, plain.parts, strict=True)}
    assert list(added) == ["stem", "stage2", "stage3", "stage4", "stage5", "head"]
    for stage, blocks, channels in ((2, 3, 256), (3, 4, 512), (4, 6, 1024), (5, 3, 2048)):
        assert added[f"stage{stage}"] == 2 * blocks * channels**2 // 8
    assert added["stem"] == added["head"] == 0


def test_a_layer_that_is_called_again_has_its_parameters_once_and_one_like_it_has_its_own():
    class Shares(nn.Module):
        @nn.compact
        def __call__(self, x):
            again = nn.Conv(4, (3, 3), name="again")
            return nn.Conv(4, (3, 3), name="other")(again(again(x)))

    macs = 9 * 4 * 4 * 8 * 8
    parts = summarize(Shares(), (8, 8, 4)).parts
    assert [(part.name, part.params, part.macs) for part in parts] == [
        ("again", 9 * 4 * 4 + 4, 2 * macs),
        ("other", 9 * 4 * 4 + 4, macs),
    ]


def tiny(name="seresnet20_cifar", stage_sizes=(1, 2, 1), **fields):
    return senet_jax.create_model(name, stage_sizes=stage_sizes, width=4, **fields)


IMAGES = jax.random.normal(jax.random.key(7), (2, 8, 8, 3))


def variables_of(model, seed=0):
    return jax.jit(model.init)(jax.random.key(seed), IMAGES)


def filled(model):
    """Variables that depend on their paths alone, without compiling the initialisation."""
    return fill(jax.eval_shape(model.init, jax.random.key(0), IMAGES))


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("block", one_in(2, ["bottleneck", "basic"], "every placement once more"))
def test_with_gates_at_one_an_se_network_is_the_plain_network(placement, block):
    if block == "basic":
        build = tiny
    else:

        def build(name="seresnet50", **fields):
            fields = {"stem": "cifar", "width": 4, "stage_sizes": (1, 1)} | fields
            return senet_jax.create_model(name, **fields)

    stages = (2, 3, 4) if block == "basic" else (2, 3)
    se = build(se={"placement": placement, "bias": True, "stages": stages})
    plain = build("resnet20_cifar" if block == "basic" else "resnet50")
    variables = open_gates(filled(se))
    expected = plain.apply(without_se(variables), IMAGES)
    # The default num_classes depends on the family alone, so shapes agree.
    np.testing.assert_array_equal(se.apply(variables, IMAGES), expected)


def test_placements_differ_from_each_other():
    outputs = []
    for placement in PLACEMENTS:
        se = {"placement": placement, "ratio": 2, "stages": (2,)}
        model = tiny(stage_sizes=(1, 1), se=se)
        outputs.append(jax.jit(model.apply)(filled(model), IMAGES))
    for i, a in enumerate(outputs):
        for b in outputs[i + 1 :]:
            assert not np.allclose(a, b)


def test_se_only_in_the_named_stages_of_every_block():
    params = variables_of(tiny(se={"stages": (3,)}))["params"]
    assert "se" in params["stage3"]["block1"]
    assert "se" in params["stage3"]["block2"]
    assert "se" not in params["stage2"]["block1"]
    assert "se" not in params["stage4"]["block1"]


def test_parameter_paths_read_like_the_paper():
    model = senet_jax.create_model("seresnet50")
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))["params"]
    assert list(shapes) == sorted(["stem", "stage2", "stage3", "stage4", "stage5", "head"])
    block = shapes["stage2"]["block1"]
    assert set(block) == {"conv1", "bn1", "conv2", "bn2", "conv3", "bn3", "se", "shortcut"}
    assert block["se"]["reduce"]["kernel"].shape == (256, 16)
    assert block["se"]["expand"]["kernel"].shape == (16, 256)


def test_senet154_differs_from_a_resnext_where_the_appendix_says():
    model = senet_jax.create_model("senet154")
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))["params"]
    stem, first, second = shapes["stem"], shapes["stage2"]["block1"], shapes["stage3"]["block1"]
    assert [stem[f"conv{i}"]["kernel"].shape[-1] for i in (1, 2, 3)] == [64, 64, 128]
    assert first["conv1"]["kernel"].shape == (1, 1, 128, 128)
    assert first["conv2"]["kernel"].shape == (3, 3, 2, 256)
    assert first["shortcut"]["conv"]["kernel"].shape == (1, 1, 128, 256)
    assert second["shortcut"]["conv"]["kernel"].shape == (3, 3, 256, 512)
    assert model.dropout == 0.2


def test_dropout_acts_in_training_only():
    model = tiny(dropout=0.5)
    variables = variables_of(model)
    outputs = [jax.jit(each.apply)(variables, IMAGES) for each in (model, tiny())]
    np.testing.assert_array_equal(*outputs)

    @jax.jit
    def trained(key):
        how = {"train": True, "mutable": ["batch_stats"], "rngs": {"dropout": key}}
        return model.apply(variables, IMAGES, **how)[0]

    assert not np.allclose(*map(trained, jax.random.split(jax.random.key(0))))


def test_last_scale_of_a_branch_is_zero_only_if_asked():
    for asked in (False, True):
        params = variables_of(tiny(zero_init_last_bn=asked))["params"]
        scales = (
            params["stage3"]["block2"]["bn2"]["scale"],
            params["stage3"]["block2"]["bn1"]["scale"],
        )
        assert float(scales[0].max()) == (0.0 if asked else 1.0)
        assert float(scales[1].min()) == 1.0


def test_convolutions_are_initialised_as_he_et_al_say():
    model = senet_jax.create_model("seresnet20_cifar", stage_sizes=(1, 1, 1), width=64)
    kernel = variables_of(model)["params"]["stage4"]["block1"]["conv2"]["kernel"]
    assert kernel.shape == (3, 3, 256, 256)
    np.testing.assert_allclose(kernel.std(), np.sqrt(2 / (9 * 256)), rtol=0.01)
    np.testing.assert_allclose(kernel.mean(), 0, atol=1e-3)


def test_bfloat16_activations_keep_float32_parameters_and_logits():
    model = tiny(dtype="bfloat16")
    variables = variables_of(model)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    logits, exact = (jax.jit(m.apply)(variables, IMAGES) for m in (model, tiny()))
    assert logits.dtype == jnp.float32
    np.testing.assert_allclose(logits, exact, atol=0.15)


def test_list_models_matches_shell_patterns():
    assert senet_jax.list_models("seresnet*_cifar") == [
        "seresnet110_cifar",
        "seresnet20_cifar",
        "seresnet56_cifar",
    ]
    assert len(senet_jax.list_models()) == 50
