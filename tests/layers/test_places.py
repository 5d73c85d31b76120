"""Each place of the SE block is where the paper has it: units agree with NumPy in float64."""

import jax
import numpy as np
import pytest
from helpers.numeric import check_block, distance, normal, relu
from helpers.weights import fill

from experiments.grid.narrow import NARROW
from senet_jax import create_model
from senet_jax.layers.network import Layers
from senet_jax.layers.slot import IN_UNIT, SEConfig
from senet_jax.models.inception_resnet import STAGES, InceptionBlock
from senet_jax.models.mobilenet import SeparableBlock
from senet_jax.models.preresnet import PreBasicBlock
from senet_jax.models.resnet import BasicBlock, Bottleneck
from senet_jax.models.vgg import ConvStage

PLACES = (*IN_UNIT, "before_convs")
UNITS = (
    *((Bottleneck, place) for place in PLACES),
    *((BasicBlock, place) for place in ("after_3x3", "before_convs")),
    *((PreBasicBlock, place) for place in ("pre", "parallel", "after_3x3", "post")),
)


@pytest.mark.parametrize(("block", "place"), UNITS)
def test_a_residual_unit_with_its_se_block_in_each_place(block, place):
    """Hu et al., figures 3 and 5, in units that stride and so have a projection."""

    def reference(layer, x):
        def at(here, u, name="se", source=None):
            return layer.se(u, name, source) if here == place else u

        def conv(y, index, stride=1):
            return layer.conv(at("before_convs", y, f"se{index}"), f"conv{index}", stride=stride)

        entry = relu(layer.bn(x, "bn1")) if block is PreBasicBlock else x
        y = at("pre", entry)
        if block is Bottleneck:
            y = relu(layer.bn(conv(y, 1), "bn1"))
            y = at("after_3x3", relu(layer.bn(conv(y, 2, 2), "bn2")))
            y = layer.bn(conv(y, 3), "bn3")
        elif block is BasicBlock:
            y = at("after_3x3", relu(layer.bn(conv(y, 1, 2), "bn1")))
            y = layer.bn(conv(y, 2), "bn2")
        else:
            y = at("after_3x3", relu(layer.bn(conv(y, 1, 2), "bn2")))
            y = conv(y, 2)
        y = at("parallel", at("standard", y), source=entry)
        if block is PreBasicBlock:
            return at("post", at("identity", layer.conv(entry, "shortcut", stride=2)) + y)
        shortcut = layer.conv_bn(x, "shortcut", stride=2)
        return at("post", relu(at("identity", shortcut) + y))

    se = SEConfig(ratio=4, placement=place)
    check_block(block(features=8, stride=2, se=se), 12, reference)


def test_a_block_between_stages_scales_what_the_next_stage_gets():
    """Without parameters, gate and map are the same: u times its mean."""
    fields = NARROW["seresnet20_cifar"] | {"features": True}
    se = {"placement": "between_stages", "excitation": "none", "gate": "identity"}
    images = normal((2, 16, 16, 3))
    plain, between = (
        create_model("seresnet20_cifar", **fields, se=choice) for choice in ({"stages": ()}, se)
    )
    variables = fill(jax.eval_shape(plain.init, jax.random.key(0), images))
    maps, scaled = (jax.jit(model.apply)(variables, images) for model in (plain, between))
    u = np.asarray(maps["stage2"], "float64")
    assert distance(scaled["stage2"], u * u.mean((1, 2), keepdims=True)) < 1e-5
    assert distance(scaled["stage3"], maps["stage3"]) > 1e-2


@pytest.mark.parametrize("limit", [np.inf, 1.0])
def test_a_block_of_mobilenet_has_se_after_its_relus(limit):
    """Both ReLUs may end at a limit: 6 in timm, here one that the small maps reach."""

    def reference(layer, x):
        y = np.minimum(relu(layer.conv_bn(x, "depthwise", stride=2, groups=8)), limit)
        y = layer.se(y, "se_depthwise")
        return layer.se(np.minimum(relu(layer.conv_bn(y, "pointwise")), limit))

    block = SeparableBlock(12, 2, SEConfig(ratio=4), "both", Layers(), limit)
    check_block(block, 8, reference)


def test_a_stage_of_vgg_has_se_after_each_relu():
    def reference(layer, x):
        for index in (1, 2):
            y = layer.conv(x, f"conv{index}") + layer.params[f"conv{index}"]["bias"]
            x = layer.se(relu(layer.bn(y, f"bn{index}")), f"se{index}")
        return x

    check_block(ConvStage(2, 8, SEConfig(ratio=4), Layers()), 6, reference)


@pytest.mark.parametrize("last", [False, True])
def test_a_block_of_inception_resnet_scales_its_branch_after_se(last):
    def reference(layer, x):
        y = relu(layer.conv_bn(x, "paths", "path1_conv1"))
        z = relu(layer.conv_bn(x, "paths", "path2_conv1"))
        z = relu(layer.conv_bn(z, "paths", "path2_conv2"))
        y = layer.conv(np.concatenate([y, z], -1), "expand") + layer.params["expand"]["bias"]
        y = x + 0.17 * layer.se(y)
        return y if last else relu(y)

    paths = (((4, 1),), ((4, 1), (6, (1, 7))))
    block = InceptionBlock(SEConfig(ratio=4), Layers(), 0.0, paths, 0.17, last)
    check_block(block, 12, reference)
    # TF-Slim's factors, as in timm's repeat, repeat_1 and repeat_2.
    assert {stage: plan.scale for stage, plan in STAGES.items()} == {3: 0.17, 4: 0.1, 5: 0.2}
