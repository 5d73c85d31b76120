"""Grad-CAM against gradients computed in a different way, and where it must point."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.weights import fill

from experiments.grid.narrow import NARROW
from senet_jax.inference import explain
from senet_jax.layers.network import Network
from senet_jax.layers.slot import SEConfig
from senet_jax.layers.with_se import with_se
from senet_jax.models import create_model


def images_and_variables(model, side, seed=0):
    images = np.random.default_rng(seed).standard_normal((2, side, side, 3), np.float32)
    return images, fill(jax.eval_shape(model.init, jax.random.key(0), images))


def test_where_the_head_is_one_layer_weights_are_those_of_the_class():
    """The logit is the mean over the map times the head, so its gradient is the head's column."""
    model = create_model("seresnet20_cifar", stage_sizes=(1, 1, 1), width=4)
    images, variables = images_and_variables(model, 16)
    classes = np.array([3, 7])
    heat = jax.jit(explain.grad_cam, static_argnums=0)(model, variables, images, classes)
    *_, last = jax.jit(model.clone(features=True).apply)(variables, images).values()
    head = variables["params"]["head"]["kernel"][:, classes]
    positions = last.shape[1] * last.shape[2]
    expected = np.maximum(np.einsum("bhwc,cb->bhw", last, head) / positions, 0)
    assert heat.shape == (2, 4, 4)
    assert expected.max() > 0
    np.testing.assert_allclose(heat, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.slow(reason="two forward passes for each channel")
def test_where_the_head_has_more_layers_weights_are_finite_differences():
    model = create_model("sevgg16_bn", **NARROW["sevgg16_bn"])
    images, variables = images_and_variables(model, 64, seed=2)  # no ReLU turns within the step
    classes = np.array([1, 0])
    last, weights = [], []

    def logits(channel, shift):
        def shifted(next_fun, args, kwargs, context):
            if context.method_name == "logits":
                last[:] = args[:1]
                args = (args[0].at[..., channel].add(shift), *args[1:])
            return next_fun(*args, **kwargs)

        with nn.intercept_methods(shifted):
            return np.asarray(model.apply(variables, images))[np.arange(2), classes]

    step = 2e-3
    logits(0, 0.0)
    _, height, width, channels = last[0].shape
    for channel in range(channels):
        slope = (logits(channel, step) - logits(channel, -step)) / (2 * step)
        weights.append(slope / (height * width))  # the mean over positions, not the sum
    expected = np.maximum(np.einsum("bhwc,cb->bhw", last[0], np.array(weights)), 0)
    heat = explain.grad_cam(model, variables, images, classes)
    np.testing.assert_allclose(heat, expected, rtol=0.02, atol=0.02 * expected.max())
    assert expected.max() > 0


class Detector(Network):
    """Class 0 is what is brighter than grey, class 1 what is darker."""

    def maps(self, x: jax.Array, train: bool) -> dict[str, jax.Array]:
        batch, height, width, _ = x.shape
        mean = x.reshape(batch, height // 4, 4, width // 4, 4, -1).mean((2, 4, 5))[..., None]
        return {"stage": nn.relu(jnp.concatenate([mean, -mean], -1))}


def test_the_map_is_where_the_class_is():
    model = Detector(num_classes=2)
    variables = {"params": {"head": {"kernel": jnp.eye(2), "bias": jnp.zeros(2)}}}
    image = np.zeros((32, 32, 3), np.float32)
    image[4:12, 16:24], image[20:28, 8:16] = 1, -1
    images = np.stack([image, image])
    bright, dark = explain.grad_cam(model, variables, images, np.array([0, 1]))
    expected = np.zeros((8, 8))
    expected[1:3, 4:6] = 1
    np.testing.assert_allclose(bright / bright.max(), expected, atol=1e-6)
    expected = np.zeros((8, 8))
    expected[5:7, 2:4] = 1
    np.testing.assert_allclose(dark / dark.max(), expected, atol=1e-6)


def test_a_class_that_there_is_not_has_no_map():
    """A map of zeros would say that nothing speaks for it."""
    model = Detector(num_classes=2)
    variables = {"params": {"head": {"kernel": jnp.eye(2), "bias": jnp.zeros(2)}}}
    images = np.ones((4, 8, 8, 3), np.float32)
    maps = jax.jit(explain.grad_cam, static_argnums=0)(
        model, variables, images, np.array([0, 2, 1, -1])
    )
    assert np.isnan(maps).all((1, 2)).tolist() == [False, True, False, True]
    assert np.isfinite(maps[::2]).all()
    with pytest.raises(ValueError, match="a network with features=True has no logits"):
        explain.grad_cam(model.clone(features=True), variables, images, [0, 1, 1, 0])
    with pytest.raises(ValueError, match="takes a network of senet_jax, not a WithSE"):
        explain.grad_cam(with_se(model, SEConfig(), where="stage"), {}, images, [0, 1, 1, 0])
    with pytest.raises(ValueError, match=r"one for each of 4 images, not \[1\]"):
        explain.grad_cam(model, variables, images, np.array([0]))
    with pytest.raises(ValueError, match="must be whole numbers, not of float32"):
        explain.grad_cam(model, variables, images, np.zeros(4))
    listed = explain.grad_cam(model, variables, images, [0, 1, 1, 0])
    np.testing.assert_array_equal(listed[::2], maps[::2])


@pytest.mark.parametrize("channels", [1, 3])
def test_an_overlay_colours_what_the_map_has_and_nothing_else(channels):
    image = np.random.default_rng(0).integers(0, 256, (56, 56, channels), np.uint8)
    heat = np.zeros((7, 7), np.float32)
    plain = explain.overlay(image, heat)
    whole = np.broadcast_to(image.repeat(4, 0).repeat(4, 1), (224, 224, 3))
    assert plain.size == (224, 224)
    np.testing.assert_array_equal(plain, whole)
    heat[2, 5] = 0.3
    changed = np.abs(np.asarray(explain.overlay(image, heat)).astype(int) - whole).sum(-1) > 0
    rows, columns = np.nonzero(changed)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (48, 111, 144, 207)
    scaled = explain.overlay(image, 10 * heat)
    np.testing.assert_array_equal(scaled, explain.overlay(image, heat))
    large = np.zeros((300, 400, channels), np.uint8)
    assert explain.overlay(large, heat).size == (400, 300)
