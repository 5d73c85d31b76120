"""What differs between platforms: both ways where they are open, one where they are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.weights import fill

import senet_jax
from senet_jax.layers.platforms import by_platform, on
from senet_jax.system.devices import all_devices, map_step, split_batch


@jax.jit
def sine_on_a_cpu(x):
    return by_platform(x, cpu=jnp.sin, default=jnp.cos)


def test_a_platform_that_is_known_has_one_way_and_what_jax_kept_of_the_other_is_not_taken():
    """Also of a function that JAX has traced before, outside or for another platform."""
    x = jnp.ones(())
    for _ in range(2):
        assert sine_on_a_cpu(x) == jnp.sin(x)  # where the tests run
        for platform, way in {"cpu": jnp.sin, "gpu": jnp.cos, "tpu": jnp.cos}.items():
            assert on(platform, sine_on_a_cpu)(x) == way(x)
            traced = str(jax.make_jaxpr(on(platform, sine_on_a_cpu))(x))
            assert (" sin" in traced, " cos" in traced) == (way is jnp.sin, way is jnp.cos)
            gradient = jax.grad(on(platform, sine_on_a_cpu))(x)
            np.testing.assert_allclose(gradient, jax.grad(way)(x), rtol=1e-6)
    traced = str(jax.make_jaxpr(sine_on_a_cpu)(x))
    assert " sin" in traced
    assert " cos" in traced


@pytest.mark.parametrize("train", [False, True])
def test_a_program_for_another_platform_is_the_same_after_a_step_here(train):
    fields = {"stage_sizes": (1,), "width": 4, "se": {"stages": (2,)}}
    model = senet_jax.create_model("seresnet20_cifar", **fields)
    images = jnp.ones((4, 16, 16, 3))
    variables = fill(jax.eval_shape(model.init, jax.random.key(0), images))

    def loss(variables, batch):
        logits, _ = model.apply(variables, batch["image"], train, mutable=["batch_stats"])
        return jnp.square(logits).mean()

    def abroad():
        step = jax.jit(lambda variables: jax.grad(loss)(variables, {"image": images}))
        return step.trace(variables).lower(lowering_platforms=("cuda",)).as_text()

    before, devices = abroad(), all_devices()[:1]
    step = map_step(jax.grad(loss), devices, donate_state=False)
    batch = split_batch({"image": np.asarray(images)}, devices)
    assert "platform_index" in str(jax.make_jaxpr(jax.grad(loss))(variables, {"image": images}))
    assert "platform_index" not in str(jax.make_jaxpr(step)(variables, batch))
    step(variables, batch)
    assert abroad() == before
