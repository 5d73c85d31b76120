"""Weights for RGB images, adapted: one channel sees grey images as RGB does, others a known sum."""

from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from helpers.families import FEW, fields_of
from helpers.quick import one_in
from helpers.weights import SMALL, THREE, equal, fill, state_dict

from experiments.grid.narrow import NARROW, size_of
from senet_jax import create_model
from senet_jax.errors import InputError
from senet_jax.layers.conv import Conv
from senet_jax.runs.stored import StoredRun
from senet_jax.weights import loading
from senet_jax.weights.channels import adapted, in_words


def stored(name, channels=3):
    """A run of a narrow network of RGB images, as it is read."""
    side = size_of(name)
    model = create_model(name, **fields_of(name), num_classes=5)
    images = jax.ShapeDtypeStruct((1, side, side, channels), np.float32)
    variables = fill(jax.eval_shape(model.init, jax.random.key(0), images))
    config = {"model": {"name": name, "num_classes": 5, **fields_of(name)}}
    result = {"image_shape": [side, side, channels]}
    return StoredRun(Path(name), config, result, variables, 1, {})


def grey_images(name):
    side = size_of(name)
    return np.random.default_rng(0).standard_normal((2, side, side, 1), dtype=np.float32)


class FirstConvolution(Exception):
    """What the first convolution of a network gives."""


def first_map(model, variables, images):
    """What the first convolution gives: the only layer that sees the images."""

    def stop(call, arguments, keywords, context):
        if isinstance(context.module, Conv) and context.method_name == "__call__":
            raise FirstConvolution(call(*arguments, **keywords))
        return call(*arguments, **keywords)

    with nn.intercept_methods(stop), pytest.raises(FirstConvolution) as caught:
        model.apply(variables, images)
    return caught.value.args[0]


@pytest.mark.parametrize("name", one_in(5, NARROW, "runs one more family"))
def test_of_every_family_one_channel_sees_a_grey_image_as_rgb_does(name):
    run, grey = stored(name), grey_images(name)
    weights = loading.from_run(run, in_channels=1)
    assert weights.channels == 3
    old, new = flatten_dict(run.variables), flatten_dict(weights.variables)
    changed = [path for path in old if old[path].shape != new[path].shape]
    assert len(changed) == 1  # the kernel that sees the images
    assert all(np.array_equal(old[path], new[path]) for path in old if path not in changed)
    ours = first_map(weights.model, weights.variables, jnp.asarray(grey))
    theirs = first_map(weights.model, run.variables, jnp.asarray(grey).repeat(3, axis=-1))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=() if n in FEW else pytest.mark.slow(reason="compiles two networks"))
        for n in NARROW
    ],
)
def test_and_so_its_logits_are_those_of_the_rgb_network(name):
    run, grey = stored(name), grey_images(name)
    weights = loading.from_run(run, in_channels=1)
    apply = jax.jit(weights.model.apply)
    logits = apply(weights.variables, grey)
    np.testing.assert_allclose(
        logits, apply(run.variables, grey.repeat(3, axis=-1)), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6, 13])
def test_a_kernel_is_adapted_by_the_rule_of_timm(channels):
    """In loops, from the definition of `adapt_input_conv`: sum, or repeat, cut and scale."""
    kernel = np.random.default_rng(1).standard_normal((3, 2, 3, 4), dtype=np.float32)
    ours = adapted(kernel, channels)
    assert ours.shape == (3, 2, channels, 4)
    for number in range(channels):
        theirs = kernel.sum(2) if channels == 1 else kernel[:, :, number % 3] * 3 / channels
        np.testing.assert_allclose(ours[:, :, number], theirs, rtol=1e-6)
    if channels % 3 == 0:  # the image beside itself gives what it gives alone
        image = np.random.default_rng(2).standard_normal((3, 2, 3))
        again = np.concatenate([image] * (channels // 3), axis=-1)
        np.testing.assert_allclose(
            np.einsum("hwc,hwco", again, ours), np.einsum("hwc,hwco", image, kernel), rtol=1e-5
        )


@pytest.mark.parametrize("channels", one_in(2, [1, 2, 4, 13], "loads them once more"))
def test_published_weights_are_adapted_alike(folder, channels):
    model, variables = create_model(SMALL, pretrained=folder, in_channels=channels)
    kernel = state_dict(SMALL, **THREE)["conv_stem.weight"].transpose(2, 3, 1, 0)
    first = variables["params"]["stem"]["conv"]["kernel"]
    np.testing.assert_array_equal(first, adapted(kernel, channels))
    images = jax.ShapeDtypeStruct((1, 64, 64, channels), np.float32)
    assert jax.eval_shape(model.apply, variables, images).shape == (1, 3)


def test_as_many_channels_as_there_are_change_nothing(folder):
    own = create_model(SMALL, pretrained=folder)[1]
    assert equal(create_model(SMALL, pretrained=folder, in_channels=3)[1], own)
    grey = loading.from_run(run := stored("seresnet20_cifar", 1), in_channels=1)
    assert equal(grey.variables, run.variables)
    assert grey.channels == 0


def test_what_cannot_be_adapted_is_refused(folder):
    run = stored("seresnet20_cifar", channels=1)
    with pytest.raises(InputError, match="for images of 1 channel; only those for 3 can be adap"):
        loading.from_run(run, in_channels=3)
    run = stored("seresnet20_cifar", channels=4)
    with pytest.raises(InputError, match="4 channels; only those for 3 can be adapted to "):
        loading.from_run(run, in_channels=1)
    for wrong in (0, -1, True, 1.0, "4"):
        with pytest.raises(InputError, match="in_channels must be a whole number from 1 on, not"):
            create_model(SMALL, pretrained=folder, in_channels=wrong)
    with pytest.raises(InputError, match="in_channels is for weights"):
        create_model("seresnet50", in_channels=4)


def test_it_is_said_in_words():
    assert in_words(3, 1) == (
        "weights for images of 3 channels, their first kernel summed for 1 channel"
    )
    assert in_words(3, 4).endswith("repeated and scaled for 4 channels")
