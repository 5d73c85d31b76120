"""Convolutions by oneDNN, which tests have: those of XLA, in training alone, and on record."""

import functools
import importlib.metadata
import json
import os
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.runs import tiny_config

from senet_jax.layers.conv import Conv
from senet_jax.layers.cpu import conv as cpu_conv
from senet_jax.layers.cpu import onednn, xla_call
from senet_jax.layers.cpu.spec import ConvSpec
from senet_jax.runs import provenance
from senet_jax.training.loop import train_and_evaluate
from senet_jax.training.prepare import prepare

KINDS = (onednn.OUTPUT, onednn.INPUT_GRADIENT, onednn.KERNEL_GRADIENT)
LAYERS = [
    ConvSpec((32, 32), (3, 3), (1, 1), 1, (16, 16)),
    ConvSpec((9, 7), (3, 3), (2, 2), 1, (3, 8)),
    ConvSpec((8, 8), (3, 3), (2, 2), 1, (16, 32)),
    ConvSpec((12, 10), (7, 7), (2, 1), 1, (5, 4)),
    ConvSpec((6, 6), (1, 3), (1, 1), 1, (6, 7)),
    ConvSpec((2, 2), (5, 5), (1, 1), 1, (8, 64)),
    ConvSpec((1, 1), (3, 3), (1, 1), 1, (1, 1)),
]


@pytest.fixture(autouse=True)
def one_of_one(monkeypatch):
    """Tests have four devices, and commands one, with which alone oneDNN is taken, enabled."""
    monkeypatch.setattr(jax, "device_count", lambda *_: 1)
    monkeypatch.setattr(onednn, "_enabled", [True])


def arrays(kind, layer, images=4):
    rng = np.random.default_rng(0)
    x = (images, *layer.size, layer.channels[0])
    y = (images, *layer.windows.count, layer.channels[1])
    w = (*layer.kernel, *layer.channels)
    shapes = dict(zip(KINDS, ((x, w), (y, w), (x, y)), strict=True))[kind]
    # Whole numbers, whose sums are exact in any order.
    return [jnp.asarray(rng.integers(-3, 4, shape), jnp.float32) for shape in shapes]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_each_function_of_a_layer_is_that_of_xla(kind, layer):
    given = arrays(kind, layer)
    assert onednn.takes(kind, layer, *given)
    found = jax.jit(functools.partial(getattr(onednn, kind), layer))(*given)
    expected = getattr(cpu_conv, f"native_{kind}")(layer, *given)
    np.testing.assert_array_equal(found, expected)


def test_calls_at_the_same_time_do_not_disturb_each_other():
    """XLA computes on several threads what does not depend on each other."""
    layer = ConvSpec((64, 64), (3, 3), (1, 1), 1, (16, 16))
    x, dy = arrays(onednn.KERNEL_GRADIENT, layer, 16)
    one = cpu_conv.native_kernel_gradient(layer, x, dy)
    program = jax.jit(lambda x, dy: [onednn.kernel_gradient(layer, n * x, dy) for n in range(1, 9)])
    for _ in range(10):
        for number, found in enumerate(program(x, dy), start=1):
            np.testing.assert_array_equal(found, number * one)


class Network(nn.Module):
    """Convolutions whose gradients of any order are not zero."""

    implementation: str = "auto"

    @nn.compact
    def __call__(self, x):
        for number, strides in enumerate((1, 2), start=1):
            conv = Conv(
                *(6, (3, 3), strides),
                use_bias=False,
                implementation=self.implementation,
                name=f"conv{number}",
            )
            x = jnp.tanh(conv(x))
        return x


IMAGES = jnp.asarray(np.random.default_rng(1).normal(size=(4, 9, 7, 3)), jnp.float32)


def variables():
    return Network("xla").init(jax.random.key(0), IMAGES)


def loss(variables, images, implementation="auto"):
    return (Network(implementation).apply(variables, images) ** 2).sum()


def bent(variables, images, implementation="auto"):
    """A function whose gradient has second derivatives of a loss."""
    gradient = jax.grad(loss, 1)(variables, images, implementation)
    return (gradient**2).sum()


def assert_close(found, expected):
    assert jax.tree.map(jnp.shape, found) == jax.tree.map(jnp.shape, expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(b).max())


@pytest.mark.parametrize("function", [loss, bent])
def test_gradients_of_a_network_are_those_of_plain_layers(function):
    found, expected = (
        jax.jit(jax.grad(function), static_argnums=2)(variables(), IMAGES, implementation)
        for implementation in ("auto", "xla")
    )
    assert_close(found, expected)


def test_mapped_over_networks_it_is_what_a_loop_gives():
    several = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf, -leaf]), variables())
    mapped = jax.vmap(jax.grad(loss), in_axes=(0, None))(several, IMAGES)
    looped = jax.lax.map(lambda one: jax.grad(loss)(one, IMAGES), several)
    assert_close(mapped, looped)


def calls(function, *args):
    """The convolutions of oneDNN in a program, by kind."""
    text = jax.jit(function).lower(*args).as_text()
    return {kind: text.count(f"@senet_jax_onednn_{kind}") for kind in KINDS}


def test_it_is_called_in_training_and_never_in_evaluation():
    given = variables()
    assert calls(Network().apply, given, IMAGES) == dict.fromkeys(KINDS, 0)
    # Nothing asks for the gradient of the images.
    assert calls(jax.grad(loss), given, IMAGES) == dict(zip(KINDS, (2, 1, 2), strict=True))


@pytest.mark.parametrize("why", ["several devices", "turned off", "not installed", "unusable"])
def test_otherwise_programs_are_as_without_it(why, monkeypatch, caplog, tmp_path):
    if why == "several devices":
        monkeypatch.setattr(jax, "device_count", lambda *_: 2)
    if why == "turned off":
        monkeypatch.setenv(onednn.VARIABLE, "0")
    if why == "not installed":
        monkeypatch.setattr(onednn, "PACKAGE", "no-such-package")
    if why == "unusable":
        (tmp_path / onednn.FILE).write_text("no library")
        broken = importlib.metadata.PackagePath(onednn.FILE)
        broken.dist = importlib.metadata.PathDistribution(tmp_path / "x.dist-info")
        monkeypatch.setattr(importlib.metadata, "files", lambda _: [broken])
    onednn.library.cache_clear()
    try:
        assert onednn.in_use("cpu") is None
        assert calls(jax.grad(loss), variables(), IMAGES) == dict.fromkeys(KINDS, 0)
    finally:
        onednn.library.cache_clear()
    assert (why == "unusable") == ("is installed and cannot be used" in caplog.text)


@pytest.mark.parametrize(
    ("dtype", "groups", "kernel"),
    [(jnp.bfloat16, 1, 3), (jnp.float16, 1, 3), (jnp.float32, 2, 3), (jnp.float32, 1, 1)],
)
def test_what_it_does_not_take_is_as_before(dtype, groups, kernel):
    layer = ConvSpec((5, 5), (kernel, kernel), (1, 1), groups, (4, 4))
    x, w = jnp.zeros((2, 5, 5, 4), dtype), jnp.zeros((kernel, kernel, 4 // groups, 4), dtype)
    assert not onednn.takes(onednn.OUTPUT, layer, x, w)
    empty = jnp.zeros((0, 5, 5, 4), jnp.float32)
    dense = ConvSpec((5, 5), (3, 3), (1, 1), 1, (4, 4))
    assert not onednn.takes(onednn.OUTPUT, dense, empty, jnp.zeros((3, 3, 4, 4)))


def test_an_error_within_a_call_is_the_programs_error_and_no_result():
    def fail(addresses):
        raise RuntimeError(f"{len(addresses)} arrays are too many")

    xla_call.register("senet_jax_test_failing", fail)
    program = jax.jit(lambda x: xla_call.call("senet_jax_test_failing", (3,), x, x))
    with pytest.raises(Exception, match="RuntimeError: 3 arrays are too many"):
        program(jnp.zeros(2)).block_until_ready()


def test_a_run_with_it_has_the_same_bits_again_and_says_what_it_had(tmp_path):
    hashes = set()
    for name in ("once", "twice"):
        train_and_evaluate(tiny_config(), tmp_path / name, devices=jax.local_devices()[:1])
        result = json.loads((tmp_path / name / "result.json").read_text())
        assert result["onednn_version"] == onednn.in_use("cpu")
        hashes.add(result["params_sha256"])
    assert len(hashes) == 1
    assert "onednn_version" in provenance.BITS


@pytest.mark.parametrize(
    ("fields", "is_used"),
    [({}, True), ({"implementation": "xla"}, False), ({"dtype": "bfloat16"}, False)],
)
def test_a_network_that_does_without_has_none_on_record(fields, is_used, one_device):
    config = tiny_config()
    config.model.update(fields)
    run = prepare(config, one_device)
    shape = (4, *run.dataset.train.image_shape)
    step = jax.grad(lambda x: run.model.apply(run.initial_state.variables, x).sum())
    assert any(calls(step, jnp.zeros(shape)).values()) == is_used
    recorded = provenance.environment(one_device, run.model)
    assert ("onednn_version" in recorded) == is_used


@pytest.mark.parametrize("end", ["", "raise SystemExit(3)", "del results"])
def test_a_process_ends_that_never_looked_at_what_it_computed(end):
    """Programs that call Python in the background would wait for a lock that the exit holds."""
    code = f"""
import jax, jax.numpy as jnp
from senet_jax.layers.conv import convolve
from senet_jax.layers.cpu import onednn
onednn.enable(2)
x, w = jnp.ones((64, 64, 64, 16)), jnp.ones((3, 3, 16, 16))
step = jax.jit(jax.grad(lambda w: sum((convolve(x, w * n) ** 2).sum() for n in range(1, 9))))
assert "onednn" in step.lower(w).as_text()
results = [step(w) for _ in range(3)]
{end}
"""
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1", "JAX_NUMPY_DTYPE_PROMOTION": "standard"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, timeout=120)
    assert done.returncode == (3 if "SystemExit" in end else 0)


def test_a_process_ends_while_arguments_are_still_on_their_way():
    """Of which JAX computes in the background whatever its setting is."""
    code = """
import jax, jax.numpy as jnp, numpy as np
from senet_jax.layers.conv import convolve
from senet_jax.layers.cpu import onednn
onednn.enable(2)
x, w, late = jnp.ones((64, 64, 64, 16)), jnp.ones((3, 3, 16, 16)), np.ones(2**26 + 1, np.float32)
step = jax.jit(lambda w, b: jax.grad(lambda w: (convolve(x * b[0], w) ** 2).sum())(w))
step.lower(w, late[1:]).compile()
result = step(w, late[1:])
raise SystemExit(3)
"""
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1", "JAX_NUMPY_DTYPE_PROMOTION": "standard"}
    assert subprocess.run([sys.executable, "-c", code], env=environment, timeout=60).returncode == 3


def test_once_jax_has_its_devices_it_cannot_be_enabled(monkeypatch):
    monkeypatch.setattr(onednn, "_enabled", [])
    jax.local_devices()
    onednn.enable(2)
    assert onednn.in_use("cpu") is None


def test_many_processors_do_without(monkeypatch):
    monkeypatch.setattr(onednn, "_enabled", [])
    monkeypatch.setattr(onednn.xla_bridge, "backends_are_initialized", lambda: False)
    monkeypatch.setattr(onednn.atexit, "register", lambda _: None)
    monkeypatch.setattr(jax.config, "update", lambda *_: None)
    onednn.enable(16)
    assert onednn.in_use("cpu")
    onednn._enabled.clear()
    onednn.enable(17)
    assert onednn.in_use("cpu") is None


def test_what_divides_its_work_is_on_record(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert onednn.in_use("cpu").endswith(" OMP_NUM_THREADS=1")


def test_without_being_enabled_it_is_not_taken(monkeypatch):
    monkeypatch.setattr(onednn, "_enabled", [])
    assert onednn.in_use("cpu") is None
    assert calls(jax.grad(loss), variables(), IMAGES) == dict.fromkeys(KINDS, 0)
