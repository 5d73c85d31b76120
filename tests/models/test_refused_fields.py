"""Fields of networks that cannot be, or would do nothing, are refused in a sentence."""

import dataclasses

import pytest

import senet_jax
from experiments.grid.narrow import NARROW
from senet_jax.errors import InputError
from senet_jax.layers.squeeze_excite import is_whole
from senet_jax.models.preresnet import PreBasicBlock, PreBottleneck
from senet_jax.models.resnet import BLOCK_FIELDS, PLAIN, BasicBlock, Bottleneck, ResNet
from senet_jax.models.senet import SENetBottleneck
from senet_jax.models.shakeshake import ShakeBlock, ShakeEvenBottleneck

MEANINGFUL = {
    BasicBlock: {"zero_init_last_bn"},
    Bottleneck: set(BLOCK_FIELDS),
    SENetBottleneck: set(BLOCK_FIELDS),
    PreBasicBlock: set(),
    PreBottleneck: {"stride_on"},
    ShakeBlock: set(),
    ShakeEvenBottleneck: {"cardinality", "base_width"},
}


@pytest.mark.parametrize("block", MEANINGFUL)
@pytest.mark.parametrize(
    "change",
    [{"stride_on": "1x1"}, {"zero_init_last_bn": True}, {"cardinality": 2}, {"base_width": 32}],
    ids=str,
)
def test_a_network_refuses_the_fields_that_its_blocks_lack(block, change):
    (field,) = change
    if field in MEANINGFUL[block]:
        network = ResNet(stage_sizes=(1,), block=block, se=PLAIN, **change)
        assert getattr(network, field) == change[field]
    else:
        with pytest.raises(
            ValueError, match=f"^{field} has no meaning in {block.__name__}s; leave"
        ):
            ResNet(stage_sizes=(1,), block=block, se=PLAIN, **change)


@pytest.mark.parametrize(
    ("name", "fields", "sentence"),
    [
        ("seresnet5", {}, "did you mean 'seresnet50'"),
        ("seresnet50", {"se": {"ratio": 0}}, "ratio must be a whole number of at least 1, not 0"),
        ("seresnet50", {"se": {"ratoi": 8}}, "did you mean 'ratio'"),
        ("seresnet50", {"se": "se"}, r"se must be its fields, as in \{'ratio': 8\}, not 'se'"),
        ("seresnet50", {"se": True}, "se must be its fields, as in"),
        ("seresnet50", {"strid_on": "1x1"}, "did you mean 'stride_on'"),
        ("seresnet50", {"stride_on": "2x2"}, "stride_on must be 3x3 or 1x1, not '2x2'"),
        ("seresnet50", {"num_classes": 0}, "num_classes must be at least 1, not 0"),
        ("seresnet50", {"dropout": 1.0}, "dropout must be from 0 to below 1, not 1.0"),
        ("seresnet50", {"implementation": "fast"}, "must be one of auto, xla, fused, not 'fast'"),
        ("resnet50", {"se": {"ratio": 8}}, "use 'seresnet50'"),
        (
            "seresnet20_cifar",
            {"se": {"stages": (5,)}},
            "stage 5, but this network has stages 2, 3, 4",
        ),
        ("seresnet50", {"dtype": "float33"}, "float33"),
        ("seresnet50", {"stem_pool": "none"}, "stem_pool must be padded or caffe, not 'none'"),
        ("sevgg16_bn", {"se": {"placement": "pre"}}, "'pre' has no meaning in VGG"),
        ("sepreresnet110_cifar", {"zero_init_last_bn": True}, "no meaning in PreBasicBlocks"),
        ("seshufflenet_g3", {"width": 100}, "width must be a multiple of 4 x 3 groups"),
        ("seshufflenet_g3", {"width": 24}, "width must be above the stem's 24, not 24"),
        ("seshufflenet_g3", {"stage_sizes": (4, 8, 4, 1)}, "must be at most 3 numbers"),
        ("seresnet50", {"stem_width": "x"}, "stem_width must be a whole number, not 'x'"),
        (
            "inception_resnet_v2",
            {"blocks": (1, 2)},
            r"blocks must be three numbers .* not \(1, 2\)",
        ),
        ("bninception", {"width_multiplier": 0}, "width_multiplier must be positive, not 0"),
    ],
)
def test_bad_models_are_refused_with_a_sentence(name, fields, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        senet_jax.create_model(name, **fields)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", NARROW)
def test_whole_numbers_of_a_network_are_at_least_one(name):
    """A stage without blocks, or a layer without channels, would be left out without a word."""
    model, checked = senet_jax.create_model(name), set()
    for field in dataclasses.fields(model):
        value = getattr(model, field.name)
        if isinstance(value, tuple) and all(map(is_whole, value)):
            wrong = [(), *((*value[:-1], last) for last in (0, -1, 1.5, True, "1"))]
        elif is_whole(value):
            wrong = [0, -1, 1.5, True, "1"]
        else:
            continue
        for bad in wrong:
            with pytest.raises(InputError, match=f"{name}: {field.name} must be "):
                senet_jax.create_model(name, **{field.name: bad})
        checked.add(field.name)
    assert {"num_classes"} <= checked


@pytest.mark.parametrize(
    ("name", "fields", "sentence"),
    [
        ("senet154", {"width": 3}, "stage2/block1/conv1 would have 6 input and 0 output channels"),
        ("seresnext50_32x4d", {"width": 7}, "conv1 would have 7 input and 0 output channels"),
        ("seresnet50", {"width": 1, "base_width": 1}, "and 0 output channels"),
        ("senet154", {"width": 24}, "conv2 has 64 groups, which must divide its 32 input and 64"),
        ("seshakeshake26_2x96d", {"width": 7}, "width must be even in ShakeBlocks, not 7"),
    ],
)
def test_networks_too_narrow_for_their_blocks_are_refused(name, fields, sentence):
    with pytest.raises(InputError, match=sentence):
        senet_jax.summarize(senet_jax.create_model(name, **fields), (32, 32, 3))


NO_SHAPES = (32, 32), (1, 32, 32, 3), (32.0, 32.0, 3), ("32", "32", "3"), 224


@pytest.mark.parametrize("shape", NO_SHAPES)
def test_what_is_no_shape_of_an_image_is_refused(shape):
    with pytest.raises(InputError, match="is height, width and channels, such as "):
        senet_jax.summarize(senet_jax.create_model("seresnet20_cifar"), shape)
