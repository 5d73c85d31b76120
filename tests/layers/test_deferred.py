"""Batch norm and SE in one are what they are one after another, and read a map as often as one."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.numeric import distance, normal
from hypothesis import given, settings
from hypothesis import strategies as st

from senet_jax.layers.deferred import means_after
from senet_jax.layers.network import Layers
from senet_jax.layers.norm import BatchNorm
from senet_jax.layers.slot import SEConfig
from senet_jax.layers.squeeze_excite import GATES, SqueezeExcite
from senet_jax.models import create_model, resnet
from senet_jax.models.resnet import BasicBlock, Bottleneck
from senet_jax.models.shapes import variable_shapes


class NormSE(nn.Module):
    """Batch norm and an SE block, with and without waiting for the gate."""

    defer: bool
    fields: tuple = ()
    norm: tuple = ()

    @nn.compact
    def __call__(self, x):
        norm = BatchNorm(**dict(self.norm), name="bn")
        return SqueezeExcite(**dict(self.fields), name="se")(norm(x, defer=self.defer))


def variables_of(module, x):
    shapes = jax.eval_shape(module.init, jax.random.key(0), x)
    drawn = {
        path: 0.5 + np.abs(normal(leaf.shape, place))
        if path[-1].key == "var"
        else normal(leaf.shape, place)
        for place, (path, leaf) in enumerate(jax.tree_util.tree_leaves_with_path(shapes))
    }
    return jax.tree.map_with_path(lambda path, _: drawn[path], shapes)


def all_of(module, variables, x):
    """The value, the moved statistics, and all gradients, in one list."""
    stats = {"batch_stats": variables["batch_stats"]}

    def function(x, params):
        y, moved = module.apply({"params": params} | stats, x, mutable=["batch_stats"])
        return y, moved

    @jax.jit
    def run(x, params):
        y, back, moved = jax.vjp(function, x, params, has_aux=True)
        return y, moved, back(jnp.asarray(normal(y.shape, 9), y.dtype))

    return jax.tree.leaves(run(x, variables["params"]))


def exact(fields, norm, variables, x):
    """The same in float64, by NumPy's rules of differentiation: JAX's, of the plain formulas."""
    standard = jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow")
    with jax.enable_x64(True), standard[0], standard[1]:
        params, stats, x = jax.tree.map(
            lambda leaf: jnp.asarray(leaf, "float64"),
            (variables["params"], variables["batch_stats"], x),
        )

        def function(x, params):
            bn, axes = params["bn"], (0, 1, 2)
            if norm["use_running_average"]:
                mean, var, moved = stats["bn"]["mean"], stats["bn"]["var"], stats
            else:
                mean, var = x.mean(axes), x.var(axes)
                moved = {
                    "bn": {
                        "mean": 0.9 * stats["bn"]["mean"] + 0.1 * mean,
                        "var": 0.9 * stats["bn"]["var"] + 0.1 * var,
                    }
                }
            u = (x - mean) / jnp.sqrt(var + 1e-5) * bn["scale"] + bn["bias"]
            z = u.mean((1, 2), keepdims=True)
            if fields["excitation"] == "mlp":
                se = params["se"]
                z = z @ se["reduce"]["kernel"] + se["reduce"].get("bias", 0)
                z = jnp.maximum(z, 0) @ se["expand"]["kernel"] + se["expand"].get("bias", 0)
            return u * GATES[fields["gate"]](z), moved

        @jax.jit
        def run(x, params):
            y, back, moved = jax.vjp(function, x, params, has_aux=True)
            return y, moved, back(jnp.asarray(normal(y.shape, 9), "float64"))

        return [np.asarray(leaf) for leaf in jax.tree.leaves(run(x, params))]


CASES = st.fixed_dictionaries(
    {
        "gate": st.sampled_from(sorted(GATES)),
        "excitation": st.sampled_from(["mlp", "none"]),
        "ratio": st.sampled_from([1, 2, 16]),
        "bias": st.booleans(),
    }
).map(lambda case: case if case["excitation"] == "mlp" else case | {"ratio": 16, "bias": False})
SHAPES = st.tuples(*(st.integers(1, most) for most in (4, 5, 6, 20))).filter(
    lambda shape: np.prod(shape[:3]) > 3
)


@settings(max_examples=5, derandomize=True)
@given(CASES, SHAPES, st.booleans(), st.sampled_from(["auto", "fused"]), st.sampled_from([0, 30]))
def test_one_after_another_and_in_one_are_equal(fields, shape, running, implementation, mean):
    """To the rounding of the plain layers, forward, in the statistics and in every gradient."""
    norm = {"use_running_average": running, "implementation": implementation}
    x = normal(shape, 1) + np.float32(mean)
    build = functools.partial(NormSE, fields=tuple(fields.items()))
    fused = build(defer=True, norm=tuple(norm.items()))
    plain = build(defer=False, norm=tuple((norm | {"implementation": "auto"}).items()))
    variables = variables_of(plain, x)
    wanted = exact(fields, norm, variables, x)
    got, usual = (all_of(module, variables, x) for module in (fused, plain))
    for ours, plains, want in zip(got, usual, wanted, strict=True):
        error, usual_error = (
            np.abs(np.asarray(value, "float64") - want).max() for value in (ours, plains)
        )
        assert error <= 4 * usual_error + 2e-6 * max(1, np.abs(want).max()), ours.shape


@pytest.mark.parametrize("implementation", ["auto", "fused"])
def test_in_half_precision_it_is_no_worse_than_the_plain_layers(implementation):
    x = jnp.asarray(normal((4, 6, 6, 32)) + 1, "bfloat16")
    norm = {"use_running_average": False, "dtype": jnp.bfloat16}
    fused = NormSE(True, norm=tuple((norm | {"implementation": implementation}).items()))
    plain = NormSE(False, norm=tuple((norm | {"implementation": "xla"}).items()))
    variables = variables_of(plain, x)
    fields = {"gate": "sigmoid", "excitation": "mlp"}
    wanted = exact(fields, norm, variables, np.asarray(x, "float32"))
    for got, usual, want in zip(
        all_of(fused, variables, x), all_of(plain, variables, x), wanted, strict=True
    ):
        assert got.dtype == usual.dtype
        assert distance(got, want) <= 1.1 * distance(usual, want) + 1e-6


def test_devices_that_share_statistics_give_what_one_gives():
    x, axis = normal((8, 4, 4, 6)), "devices"
    norm = {"use_running_average": False}
    one = NormSE(True, norm=tuple(norm.items()))
    several = NormSE(True, norm=tuple((norm | {"axis_name": axis}).items()))
    variables = variables_of(one, x)

    def gradients(module, x, dy):
        def loss(params):
            y, moved = module.apply(variables | {"params": params}, x, mutable=["batch_stats"])
            return jnp.sum(y * dy), moved

        return jax.grad(loss, has_aux=True)(variables["params"])

    dy = normal(x.shape, 9)
    want = jax.jit(functools.partial(gradients, one))(x, dy)
    parts = [part.reshape(4, 2, *x.shape[1:]) for part in (x, dy)]
    summed = jax.pmap(
        lambda x, dy: jax.tree.map(
            lambda leaf: jax.lax.psum(leaf, axis), gradients(several, x, dy)[0]
        ),
        axis,
    )
    for got, wanted in zip(jax.tree.leaves(summed(*parts)), jax.tree.leaves(want[0]), strict=True):
        assert distance(got[0], wanted) < 1e-5


def test_a_frozen_norm_waits_as_well_and_learns_nothing_about_its_batch():
    x = normal((4, 4, 4, 6))
    frozen = {"use_running_average": False, "frozen": True}
    modules = [NormSE(defer, norm=tuple(frozen.items())) for defer in (True, False)]
    variables = variables_of(modules[0], x)
    for got, want in zip(*(all_of(module, variables, x) for module in modules), strict=True):
        assert distance(got, want) < 1e-6


def test_the_means_after_a_1x1_convolution_are_known_before_it():
    a, kernel = normal((3, 5, 4, 6)), normal((1, 1, 6, 9), 1)
    want = (a.astype("float64") @ kernel[0, 0].astype("float64")).mean((1, 2))
    assert distance(means_after(a, kernel), want) < 1e-6


def test_means_come_from_what_has_fewer_numbers(monkeypatch):
    """Of one image the maps of the last stages are smaller than the kernels before them."""
    known = []

    def noted(a, kernel):
        known.append(kernel.shape[-1])
        return means_after(a, kernel)

    monkeypatch.setattr(resnet, "means_after", noted)
    model = create_model("seresnet50", stage_sizes=(1, 1, 1, 1))
    variables = variable_shapes(model, (224, 224, 3))
    channels = {}
    for batch in (1, 16):
        known.clear()
        images = jax.ShapeDtypeStruct((batch, 224, 224, 3), jnp.float32)
        jax.eval_shape(model.apply, variables, images)
        channels[batch] = [*known]
    assert channels == {1: [256, 512], 16: [256, 512, 1024, 2048]}


def summed(jaxpr):
    """Number of values that the sums over maps read in a program for a CPU."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "reduce_sum":
            shape = equation.invars[0].aval.shape
            is_map = len(shape) == 4 and shape[1] > 1
            total += math.prod(shape) if is_map else 0
        elif "branches" in equation.params:  # of `platform_dependent`; a CPU's is the first
            total += summed(equation.params["branches"][0].jaxpr)
        else:
            inner = (getattr(value, "jaxpr", None) for value in equation.params.values())
            total += sum(summed(each) for each in inner if each is not None)
    return total


def read_by_sums(se, train, **fields):
    unit = Bottleneck(features=16, se=se, layers=Layers(**fields))
    x = jax.ShapeDtypeStruct((2, 8, 8, 64), jnp.float32)
    variables = jax.eval_shape(lambda x: unit.init(jax.random.key(0), x, train), x)

    def program(variables, x):
        def loss(params, x):
            given = {"params": params, "batch_stats": variables["batch_stats"]}
            if not train:
                return unit.apply(given, x, False).max()
            return unit.apply(given, x, True, mutable=["batch_stats"])[0].max()

        return (
            jax.value_and_grad(loss, argnums=(0, 1))(variables["params"], x)
            if train
            else loss(variables["params"], x)
        )

    return summed(jax.make_jaxpr(program)(variables, x).jaxpr)


def test_no_map_is_read_once_more_than_without_se():
    """In inference, the one mean is taken before the last convolution, of a quarter of the map."""
    se, wide, narrow = SEConfig(), 2 * 8 * 8 * 64, 2 * 8 * 8 * 16
    assert read_by_sums(se, True) == read_by_sums(None, True)
    assert read_by_sums(se, False) == read_by_sums(None, False) + narrow
    plain = {"implementation": "xla"}  # so this test can fail
    assert read_by_sums(se, True, **plain) >= read_by_sums(None, True, **plain) + 2 * wide
    assert read_by_sums(se, False, **plain) == read_by_sums(None, False, **plain) + wide


@pytest.mark.parametrize("train", [False, True])
def test_captured_intermediates_are_those_of_plain_layers(train):
    """Above all the last batch norm: its map, not the one before normalisation and four vectors."""
    x, captured = normal((2, 6, 6, 8)), []
    for implementation in ("auto", "xla"):
        layers = Layers(implementation=implementation)
        unit = Bottleneck(features=2, se=SEConfig(), layers=layers)
        variables = jax.jit(functools.partial(unit.init, train=train))(jax.random.key(0), x)
        kept = ["intermediates", "batch_stats"]
        how = {"train": train, "capture_intermediates": True, "mutable": kept}
        _, also = jax.jit(functools.partial(unit.apply, **how))(variables, x)
        captured.append(also["intermediates"])
    assert captured[0]["bn3"]["__call__"][0].shape == x.shape
    got, want = (jax.tree.flatten(tree) for tree in captured)
    assert got[1] == want[1]
    assert max(map(distance, got[0], want[0])) < 1e-5


class ActivatedBranch(BasicBlock):
    """Someone's unit, with more after the branch that it inherits."""

    def branch(self, x, train):
        return nn.relu(super().branch(x, train)) + 1


def test_whoever_goes_on_with_a_branch_has_the_normalised_map():
    x = normal((2, 6, 6, 8))
    units = [
        ActivatedBranch(features=8, se=SEConfig(), layers=Layers(implementation=implementation))
        for implementation in ("auto", "xla")
    ]
    variables = units[0].init(jax.random.key(0), x, True)
    got, want = (unit.apply(variables, x, False) for unit in units)
    assert distance(got, want) < 1e-6


def test_a_block_of_another_squeeze_sees_the_map_itself():
    x, maximum = normal((2, 4, 4, 6)), (("squeeze", "max"),)
    norm = (("use_running_average", True),)
    waiting, usual = (NormSE(defer, maximum, norm) for defer in (True, False))
    variables = variables_of(usual, x)
    assert distance(waiting.apply(variables, x), usual.apply(variables, x)) < 1e-6
