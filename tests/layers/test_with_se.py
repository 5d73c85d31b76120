"""SE blocks in modules that are not ours: the same block, the same weights beside it, or a word."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from helpers.quick import some_quick

import senet_jax
from senet_jax import SEConfig, SqueezeExcite, create_model, gates_of, with_se
from senet_jax.layers.attention import KINDS

IMAGES = jax.random.normal(jax.random.key(9), (2, 8, 8, 3))


class CNN(nn.Module):
    """A user's network, with a parameter of its own at the root and a word for training."""

    @nn.compact
    def __call__(self, x, train=False):
        x = x + self.param("shift", nn.initializers.normal(), (1, 1, 1, 3))
        for number in range(2):
            x = nn.relu(nn.Conv(32, (3, 3), name=f"conv{number}")(x))
        x = nn.BatchNorm(use_running_average=not train, name="bn")(x)
        return nn.Dense(5, name="head")(x.mean((1, 2)))


class ViT(nn.Module):
    """Tokens instead of maps, `deterministic` for `train`, layers made in setup, and remat."""

    def setup(self):
        self.patches = nn.Conv(16, (2, 2), strides=(2, 2))
        self.blocks = [nn.remat(Encoder)(name=f"encoder{number}") for number in range(2)]
        self.head = nn.Dense(5)

    def __call__(self, x, deterministic=True):
        x = self.patches(x).reshape(len(x), -1, 16)
        for block in self.blocks:
            x = block(x, deterministic)
        return self.head(x.mean(1))


class Encoder(nn.Module):
    @nn.compact
    def __call__(self, x, deterministic):
        x = x + nn.MultiHeadDotProductAttention(2, name="attention")(nn.LayerNorm()(x))
        return x + nn.Dense(16, name="mlp")(nn.gelu(nn.LayerNorm()(x)))


def drawn(model, **arguments):
    return jax.jit(lambda key: model.init(key, IMAGES, **arguments))(jax.random.key(0))


def paths(tree):
    return {"/".join(path) for path in flatten_dict(tree)}


@pytest.mark.slow(reason="compiles eight programs of two whole networks")
def test_a_block_after_each_unit_is_the_placement_post():
    """The paper's network, and the plain one with blocks put into it, with the same weights."""
    small = {"num_classes": 5, "width": 8, "stage_sizes": (1, 1)}
    se = {"ratio": 4, "stages": (2, 3)}
    ours = create_model("seresnet18", se=se | {"placement": "post"}, **small)
    plain = create_model("resnet18", **small)
    other = with_se(plain, SEConfig(ratio=4), where=r"stage\d/block\d")
    variables = drawn(ours)
    flat = flatten_dict(variables["params"])
    params = {path: value for path, value in flat.items() if "se" not in path}
    blocks = {path: value for path, value in flat.items() if "se" in path}
    moved = {
        "params": unflatten_dict(params),
        "se": unflatten_dict(blocks),
        "batch_stats": variables["batch_stats"],
    }
    assert jax.tree.map(jnp.shape, moved) == jax.tree.map(jnp.shape, drawn(other))
    for train in (False, True):

        def outputs(model, values, train=train):
            run = functools.partial(model.apply, train=train, mutable=["batch_stats"])
            return jax.jit(run)(values, IMAGES)

        one, other_one = outputs(ours, variables), outputs(other, moved)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), one, other_one)
    gates, same = (
        jax.jit(functools.partial(gates_of, model))(values, IMAGES)
        for model, values in ((ours, variables), (other, moved))
    )
    assert list(gates) == list(same) == ["stage2/block1/se", "stage3/block1/se"]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), gates, same)


@pytest.mark.parametrize(
    ("model", "where", "blocks"),
    [
        (CNN(), r"conv\d", {"conv0", "conv1"}),
        (CNN(), lambda path, module: isinstance(module, nn.Conv) and path != "conv0", {"conv1"}),
        (ViT(), r"encoder\d", {"encoder0", "encoder1"}),
        (ViT(), r".*/attention", {"encoder0/attention", "encoder1/attention"}),
    ],
)
def test_the_weights_of_the_module_stay_where_and_what_they_are(model, where, blocks):
    plain, wrapped = drawn(model), drawn(with_se(model, {"ratio": 4}, where))
    assert paths(wrapped.pop("se")) == {
        f"{block}/se/{layer}/kernel" for block in blocks for layer in ("reduce", "expand")
    }
    jax.tree.map(np.testing.assert_array_equal, plain, wrapped)


@pytest.mark.parametrize("kind", some_quick(KINDS, ("bam",), "compiles one more kind"))
def test_any_kind_of_block_is_trained_beside_the_module(kind):
    """It has a gradient of its own, and its batch statistics where the call says that it trains."""
    model = with_se(CNN(), {"kind": kind}, r"conv\d")
    variables = drawn(model)
    others = {name: value for name, value in variables.items() if name not in ("params", "se")}

    @jax.jit
    def gradients(trained):
        def loss(trained):
            state = [*others]
            logits, changed = model.apply(trained | others, IMAGES, train=True, mutable=state)
            return jnp.square(logits - jnp.arange(5.0)[None]).mean(), changed

        return jax.grad(loss, has_aux=True)(trained)

    trained = {name: variables[name] for name in ("params", "se")}
    found, changed = gradients(trained)
    for block in found["se"].values():
        # Some begin as the identity, and then not all of their parts have a gradient.
        assert kind == "simam" or any(jnp.abs(leaf).max() > 0 for leaf in jax.tree.leaves(block))
    has_norm = "layers" in {field.name for field in dataclasses.fields(KINDS[kind])}
    assert ("se_stats" in changed) == has_norm
    if has_norm:
        moved = jax.tree.map(lambda a, b: bool((a != b).any()), changed, others)
        assert any(jax.tree.leaves(moved["se_stats"]))
        frozen = functools.partial(model.apply, train=True, mutable=["batch_stats"])
        with pytest.raises(Exception, match="immutable"):
            jax.eval_shape(frozen, variables, IMAGES)
    assert jax.eval_shape(model.apply, variables, IMAGES).shape == (2, 5)


def test_a_module_inside_others_and_called_twice_has_one_block():
    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x):
            conv = nn.Conv(3, (3, 3), name="conv")
            return conv(conv(x))

    class Outer(nn.Module):
        @nn.compact
        def __call__(self, x):
            return with_se(Twice(name="twice"), {"ratio": 1}, "conv")(x)

    variables = drawn(Outer())
    assert {path.partition("/conv/")[2] for path in paths(variables["se"])} == {
        "se/reduce/kernel",
        "se/expand/kernel",
    }


class Scanned(nn.Module):
    """Three layers in a scan, which passes on what it is told to."""

    collections: tuple[str, ...] = ("params",)

    @nn.compact
    def __call__(self, x):
        class Layer(nn.Module):
            @nn.compact
            def __call__(self, x, _):
                return nn.Conv(3, (3, 3), name="conv")(x), None

        axes = dict.fromkeys(self.collections, 0)
        layers = nn.scan(Layer, variable_axes=axes, split_rngs={"params": True}, length=3)
        return layers(name="layers")(x, None)[0]


def test_gates_inside_a_scan_are_those_of_each_image_or_refused():
    """The axis of layers is none of positions, and a block that cannot be asked is not left out."""

    def wrapped(*collections):
        return with_se(Scanned(("params", "se", *collections)), {"ratio": 1}, "layers/conv")

    variables = drawn(wrapped())
    with pytest.raises(ValueError, match="does not pass the collection 'gates' on"):
        gates_of(wrapped(), variables, IMAGES)
    (found,) = gates_of(wrapped("gates"), variables, IMAGES).values()
    x = IMAGES
    for layer, gates in enumerate(found):
        params, block = (
            jax.tree.map(lambda leaf, layer=layer: leaf[layer], variables[collection]["layers"])
            for collection in ("params", "se")
        )
        conv = nn.Conv(3, (3, 3)).apply({"params": params["conv"]}, x)
        x = SqueezeExcite(ratio=1).apply({"params": block["conv"]["se"]}, conv)
        np.testing.assert_allclose(gates, (x / conv).mean((1, 2)), rtol=1e-4)


def test_a_scan_that_passes_the_blocks_on_has_one_for_each_of_its_layers():
    model = with_se(Scanned(("params", "se")), {"ratio": 1}, "layers/conv")
    kernels = jax.tree.leaves(drawn(model)["se"])
    assert [kernel.shape for kernel in kernels] == [(3, 3, 3)] * 2
    assert not np.array_equal(kernels[0][0], kernels[0][1])


class Tokens(nn.Module):
    @nn.compact
    def tokens(self, x):
        return nn.Dense(3)(x)

    def __call__(self, x):
        return self.tokens(x)


class ByMethod(nn.Module):
    @nn.compact
    def __call__(self, x):
        return Tokens(name="block1").tokens(Tokens(name="block0")(x))


class Trained(Scanned):
    train: bool = True


@pytest.mark.parametrize(
    ("model", "se", "where", "sentence"),
    [
        (CNN(), {}, "convo0", "'convo0' matches no submodule; did you mean 'conv0'"),
        (CNN(), {}, "conv", "matches no submodule.*conv0, conv1, bn, head"),
        (CNN(), {}, "head", r"head returns \(2, 5\), and a block needs a map \[B, H, W, C\]"),
        (CNN(), {"placement": "pre"}, "conv0", r"se\.placement has no effect here"),
        (CNN(), {"stages": (2,)}, "conv0", r"se\.stages has no effect here"),
        (CNN(), {"kind": "bam", "placement": "standard"}, "conv0", "sits between the stages"),
        (CNN(), {"ration": 4}, "conv0", "se has no key 'ration'"),
        (CNN(), {}, "conv(", r"where is 'conv\(', no regular expression"),
        (CNN(), {}, None, "where must be a regular expression or a function, not None"),
        (np.ones(3), {}, "conv0", "a Flax Linen module .*, not ndarray"),
        (with_se(CNN(), {}, "bn"), {}, "conv0", "without blocks of its own making, not WithSE"),
        (CNN(), {"ratio": 0}, "conv0", "ratio must be a whole number of at least 1, not 0"),
        (Scanned(), {}, "layers/conv", "layers/conv is inside a lifted transformation"),
        (Trained(("params", "se")), {"kind": "srm"}, "layers/conv", "collection 'se_stats' on"),
        (ByMethod(), {}, r"block\d", "block1 is called by its method 'tokens' alone"),
        (nn.Sequential([nn.Conv(3, (1, 1))]), {"kind": "srm"}, "layers_0", "choose a kind without"),
    ],
)
def test_what_cannot_be_is_refused(model, se, where, sentence):
    with pytest.raises(ValueError, match=sentence):
        with_se(model, se, where).init(jax.random.key(0), IMAGES)


def test_variables_without_blocks_are_refused():
    model = with_se(CNN(), {"ratio": 4}, r"conv\d")
    variables = drawn(model)
    del variables["se"]
    with pytest.raises(ValueError, match="the variables lack the collection 'se'"):
        model.apply(variables, IMAGES)


def test_modules_say_in_their_own_words_whether_they_train():
    model = with_se(ViT(), {"kind": "srm"}, r"encoder\d")
    variables = drawn(model)
    for flags, moves in (({"deterministic": False}, True), ({}, False)):
        run = functools.partial(model.apply, **flags, mutable=["se_stats"])
        _, changed = jax.jit(run)(variables, IMAGES)
        before = jax.tree.leaves(variables["se_stats"])
        differ = [
            bool((a != b).any())
            for a, b in zip(before, jax.tree.leaves(changed["se_stats"]), strict=True)
        ]
        assert any(differ) == moves
    assert senet_jax.with_se is with_se


class Recurrent(nn.Module):
    """The same convolution twice, on maps of two sizes."""

    @nn.compact
    def __call__(self, x):
        conv = nn.Conv(3, (3, 3), name="conv")
        return conv(nn.relu(conv(x))[:, ::2, ::2])


def test_gates_of_a_submodule_that_is_called_twice_are_those_of_both_calls():
    model = with_se(Recurrent(), {"ratio": 1}, "conv")
    variables = drawn(model)
    result, sown = model.apply(variables, IMAGES, mutable=["gates"])
    (found,) = gates_of(model, variables | sown, IMAGES).values()
    assert found.shape == (2, len(IMAGES), 3)
    x = IMAGES
    for gates in found:
        conv = nn.Conv(3, (3, 3)).apply({"params": variables["params"]["conv"]}, x)
        block = {"params": variables["se"]["conv"]["se"]}
        _, asked = SqueezeExcite(ratio=1).apply(block, conv, mutable=["gates"])
        np.testing.assert_allclose(gates, asked["gates"]["gate"][0][:, 0, 0], rtol=1e-6)
        x = nn.relu(SqueezeExcite(ratio=1).apply(block, conv))[:, ::2, ::2]
    np.testing.assert_allclose(nn.relu(result)[:, ::2, ::2], x, atol=1e-6)
