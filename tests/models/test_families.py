"""Properties of every family, held by a narrow member of each while it trains."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.families import FEW, few_quick, fields_of
from helpers.gates import open_gates, without_se
from helpers.quick import one_in, some_quick
from helpers.weights import fill

import senet_jax
from experiments.grid.narrow import NARROW, least_size_of, size_of
from senet_jax.errors import InputError
from senet_jax.models.counts import summarize

BATCH = 8
CLASSES = 4
RANDOM = {"senet154", "sevgg16_bn", "seshakeshake26_2x96d", "seshakeeven29_2x4x64d"}


def narrow(name, **fields):
    se = {"ratio": 2, "bias": True} | NARROW[name].get("se", {}) | fields.pop("se", {})
    return senet_jax.create_model(
        name, num_classes=CLASSES, **fields_of(name) | fields | {"se": se}
    )


class Trained:
    """A few steps of Adam on eight images, and the results of the first of them."""

    def __init__(self, name):
        self.model = narrow(name)
        # Wide ones, whose two stages leave maps of some positions even of the smallest images.
        is_wide = name in ("seresnext50_32x4d", "senet154")
        size = least_size_of(name) if is_wide else size_of(name)
        self.images = jax.random.normal(jax.random.key(1), (BATCH, size, size, 3))
        labels = jnp.arange(BATCH) % CLASSES
        # Not drawn by the network: compiling its initialisation takes as long as all its steps.
        variables = fill(jax.eval_shape(self.model.init, jax.random.key(0), self.images))
        self.before = variables
        optimizer = optax.adam(3e-3)

        @jax.jit
        def step(params, stats, moments, key):
            def loss_of(params):
                logits, updates = self.model.apply(
                    {"params": params, "batch_stats": stats},
                    self.images,
                    train=True,
                    mutable=["batch_stats"],
                    rngs={"dropout": key},
                )
                losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
                return losses.mean(), (updates["batch_stats"], logits)

            (loss, (stats, logits)), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
            with jax.numpy_dtype_promotion("standard"):  # Optax raises to a whole number
                updates, moments = optimizer.update(gradients, moments)
            return optax.apply_updates(params, updates), stats, moments, loss, gradients, logits

        params, stats = variables["params"], variables["batch_stats"]
        moments, self.losses, self.logits = optimizer.init(params), [], []
        for number in range(2):  # the same step with two keys
            *_, self.gradients, logits = step(params, stats, moments, jax.random.key(number))
            self.logits.append(logits)
        *_, logits = step(params, stats, moments, jax.random.key(0))
        self.logits.append(logits)
        for number in range(80):  # at most
            params, stats, moments, loss, _, _ = step(
                params, stats, moments, jax.random.key(number)
            )
            self.losses.append(float(loss))
            if len(self.losses) >= 10 and np.mean(self.losses[-10:]) < 0.1:
                break
        self.after = {"params": params, "batch_stats": stats}
        self.evaluate = jax.jit(functools.partial(self.model.apply, mutable=["batch_stats"]))


def leaves(tree):
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


# Parameters that the next batch norm cancels, so that their gradient is rounding only.
CANCELLED = {
    "sevgg16_bn": r"conv\d'\]\['bias",
    "seshufflenet_g3": r"depthwise.*bias",
}


def check_that_every_parameter_receives_a_gradient(name, run):
    gradients = leaves(run.gradients)
    largest = max(float(np.abs(leaf).max()) for leaf in gradients.values())
    for path, leaf in gradients.items():
        cancelled = re.search(CANCELLED.get(name, "^$"), path)
        assert (np.abs(leaf).max() > 1e-6 * largest) == (not cancelled), path


def check_that_a_few_images_can_be_memorised(name, run):
    losses = run.losses
    assert np.mean(losses[-10:]) < 0.1 < losses[0]


def check_that_training_and_evaluation_differ_where_they_should(name, run):
    """Statistics move in training only; the step's key matters to dropout and shaking only."""
    one, other, again = run.logits
    np.testing.assert_array_equal(one, again)
    assert np.array_equal(one, other) == (name not in RANDOM)
    stats = [leaves(variables["batch_stats"]) for variables in (run.before, run.after)]
    for path, leaf in stats[0].items():
        assert not np.array_equal(leaf, stats[1][path]), path
    logits, updates = run.evaluate(run.after, run.images)
    jax.tree.map(np.testing.assert_array_equal, updates["batch_stats"], run.after["batch_stats"])
    np.testing.assert_array_equal(logits, run.evaluate(run.after, run.images)[0])
    assert not np.allclose(logits, one)


def check_that_a_gate_of_one_leaves_the_plain_network(name, run):
    opened = open_gates(run.after)
    fields = {key: value for key, value in fields_of(name).items() if key != "se"}
    plain = senet_jax.create_model(name.removeprefix("se"), num_classes=CLASSES, **fields)
    expected = np.asarray(jax.jit(plain.apply)(without_se(run.after), run.images))
    # Two programs, whose fused operations are rounded differently; bit for bit in test_models.py.
    logits, _ = run.evaluate(opened, run.images)
    np.testing.assert_allclose(logits, expected, atol=1e-5 * np.abs(expected).max())
    assert not np.allclose(run.evaluate(run.after, run.images)[0], expected, rtol=0.01)


@pytest.mark.parametrize("name", some_quick(NARROW, FEW[:1], "a training step is compiled"))
def test_every_family_trains(name):
    """One test, so that one process compiles a training step for all of it."""
    run = Trained(name)
    check_that_every_parameter_receives_a_gradient(name, run)
    check_that_a_few_images_can_be_memorised(name, run)
    check_that_training_and_evaluation_differ_where_they_should(name, run)
    check_that_a_gate_of_one_leaves_the_plain_network(name, run)


@pytest.mark.slow(reason="every network is trained for it")
@pytest.mark.parametrize("name", NARROW)
def test_a_trained_network_classifies_in_bfloat16_as_in_float32(name):
    run = Trained(name)
    labels = np.arange(BATCH) % CLASSES
    model = narrow(name, dtype="bfloat16")
    logits = (jax.jit(model.apply)(run.after, run.images), run.evaluate(run.after, run.images)[0])
    ours, expected = ((np.argmax(each, -1) == labels).mean() for each in logits)
    assert ours >= expected - 1 / BATCH


@pytest.mark.parametrize("name", one_in(2, NARROW, "asks one more family"))
def test_features_are_the_ends_of_the_stages(name):
    model = narrow(name, features=True)
    size = 2 * size_of(name)
    images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    assert "head" not in shapes["params"]
    maps = jax.eval_shape(model.apply, shapes, images)
    assert list(maps) == list(model.strides)
    for stage, stride in model.strides.items():
        batch, height, width, _ = maps[stage].shape
        assert batch == 2
        # Inception-ResNet lacks padding where it strides, and in parts of its stem.
        lost = 4 if "inception_resnet" in name else 0
        assert size // stride - lost <= height == width <= size // stride


@pytest.mark.parametrize("name", one_in(2, NARROW, "runs one more network operation by operation"))
def test_whatever_method_returns_an_array_can_be_captured(name):
    """No method has the name of a submodule, and those that return something else are no layers."""
    model = narrow(name, implementation="xla")
    images = jax.ShapeDtypeStruct((1, size_of(name), size_of(name), 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)

    def captured(variables, images):
        return model.apply(variables, images, capture_intermediates=lambda *_: True)

    _, found = jax.eval_shape(captured, variables, images)
    assert found["intermediates"]


PLACES = ("pre", "post", "identity", "after_3x3", "parallel", "before_convs", "between_stages")
MEANINGLESS = {
    **dict.fromkeys(("semobilenetv1", "sebninception", "sevgg16_bn"), PLACES),
    **dict.fromkeys(
        ("seinception_resnet_v2", "seshakeshake26_2x96d", "seshakeeven29_2x4x64d"),
        ("after_3x3", "before_convs", "between_stages"),
    ),
    "seshufflenet_g3": ("before_convs", "between_stages"),
}


@functools.cache
def program(name, **se):
    images = jax.ShapeDtypeStruct((1, size_of(name), size_of(name), 3), jnp.float32)
    fields = NARROW[name] | {"se": NARROW[name].get("se", {}) | se}
    model = senet_jax.create_model(name, implementation="xla", **fields)  # traced in half the time
    return str(jax.make_jaxpr(model.init_with_output)(jax.random.key(0), images))


@pytest.mark.parametrize("name", few_quick("sixteen programs of a network are traced"))
@pytest.mark.parametrize(
    "fields",
    [
        {"ratio": 4},
        {"squeeze": "max"},
        {"squeeze": "none"},
        {"gate": "tanh"},
        {"excitation": "none"},
        {"bias": True},
        *({"placement": place} for place in PLACES),
        {"kind": "conv"},
        {"kind": "eca"},
        {"kind": "ge_theta"},
    ],
    ids=str,
)
def test_every_ablation_acts_or_is_refused_with_a_sentence(name, fields):
    if fields.get("placement") in MEANINGLESS.get(name, ()):
        with pytest.raises(InputError, match="has no meaning in"):
            program(name, **fields)
    else:
        assert program(name, **fields) != program(name)


@pytest.mark.parametrize("name", NARROW)
def test_the_added_weights_are_those_of_the_paper_formula(name):
    """Equation 5 of Hu et al.: 2 C^2 / r per block, by the shapes of its two layers."""
    size = size_of(name)
    fields = NARROW[name]
    plain = {key: value for key, value in fields.items() if key != "se"}
    se = senet_jax.create_model(name, **fields)
    base = senet_jax.create_model(name.removeprefix("se"), **plain)
    shapes = jax.eval_shape(
        se.init, jax.random.key(0), jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    )
    scaled = [
        leaf.shape
        for path, leaf in jax.tree.leaves_with_path(shapes["params"])
        if "expand" in jax.tree_util.keystr(path) and "'se" in jax.tree_util.keystr(path)
    ]
    added = summarize(se, (size, size, 3)).params - summarize(base, (size, size, 3)).params
    assert added == sum(2 * channels * max(1, channels // 16) for _, channels in scaled) > 0


@pytest.mark.parametrize("name", one_in(3, NARROW, "asks one more family"))
def test_what_are_no_images_is_refused_and_no_images_have_no_logits(name):
    model, size = narrow(name, se={"squeeze": "max"}), least_size_of(name)
    key, images = jax.random.key(0), jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    variables = jax.eval_shape(model.init, key, images)

    def logits(*shape, train=False, dtype=jnp.float32):
        images = jax.ShapeDtypeStruct(shape, dtype)
        return jax.eval_shape(functools.partial(model.apply, train=train), variables, images)

    assert logits(0, size, size, 3).shape == (0, CLASSES)
    with pytest.raises(InputError, match="no statistics to train with"):
        logits(0, size, size, 3, train=True)
    with pytest.raises(InputError, match=rf"PyTorch's .* give \[2, {size}, {size}, 3\]"):
        logits(2, 3, size, size)
    with pytest.raises(InputError, match=rf"\[B, H, W, C\], not of shape \[{size}, {size}, 3\]"):
        logits(size, size, 3)
    for dtype in ("uint8", "int32", "bool"):  # which no normalised image has
        with pytest.raises(InputError, match=rf"must be normalised, .*, not of {dtype}"):
            logits(1, size, size, 3, dtype=dtype)


@pytest.mark.parametrize("name", one_in(3, NARROW, "exports one more family"))
def test_a_batch_of_unknown_size_can_be_exported(name):
    model, size = narrow(name), least_size_of(name)
    key, images = jax.random.key(0), jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    variables = jax.eval_shape(model.init, key, images)
    (batch,) = jax.export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.float32)
    exported = jax.export.export(jax.jit(model.apply))(variables, images)
    assert exported.out_avals[0].shape == (batch, CLASSES)
