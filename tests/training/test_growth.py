"""Training images grow in stages, on the device, to the size that they have."""

import functools

import jax
import numpy as np
import pytest
from helpers.runs import interrupt_training
from PIL import Image

from senet_jax.errors import InputError
from senet_jax.system.devices import split_batch
from senet_jax.training.loop import train_and_evaluate
from senet_jax.training.plan import Growth
from senet_jax.training.prepare import prepare
from senet_jax.training.step import shrunk


def test_sizes_are_evenly_between_and_parts_of_a_run_equal():
    assert Growth(128, 4).stages(224, 400) == ((100, 128), (200, 160), (300, 192))
    assert Growth(4, 2).stages(8, 7) == ((3, 4),)
    assert Growth().stages(224, 400) == ()


def test_images_are_shrunk_as_pillow_does():
    image = np.random.default_rng(0).integers(0, 256, (24, 36, 3), np.uint8)
    ours = shrunk(np.float32(image)[None], 10)[0]
    theirs = Image.fromarray(image).resize((15, 10), Image.Resampling.BILINEAR)
    assert ours.shape == (10, 15, 3)
    np.testing.assert_allclose(ours, theirs, atol=1.01)


def test_a_step_is_that_of_shrunk_images(tiny, one_device):
    tiny.data.update(first_size=4, size_stages=2, pad=0)
    run = prepare(tiny, one_device)
    assert run.plan.stages == ((4, 4),)
    assert run.steps.after(run.plan, 3) is run.steps.smaller[4]
    assert run.steps.after(run.plan, 4) is run.steps.train
    batch = next(run.dataset.train.train_batches(32, 0))
    images = shrunk(run.normalize(batch["image"]), 4)
    train = functools.partial(run.model.apply, train=True, mutable=["batch_stats"])
    logits, _ = jax.jit(train)(run.initial_state.variables, images)
    losses = -jax.nn.log_softmax(logits)[np.arange(32), batch["label"]]
    _, sums = run.steps.smaller[4](run.initial_state, split_batch(batch, run.devices))
    np.testing.assert_allclose(sums["loss"], losses.sum(), rtol=1e-5)


@pytest.mark.parametrize("steps_per_call", [1, 3])
def test_calls_end_with_stages(tiny, one_device, steps_per_call):
    tiny.data.update(first_size=4, size_stages=3)
    tiny.train.update(steps_per_call=steps_per_call, epochs=3.0)
    plan = prepare(tiny, one_device).plan
    ends = np.cumsum([*plan.calls(0)])
    assert {end for end, _ in plan.stages} <= {*ends.tolist()}
    assert [plan.size_after(step) for step in (0, 3, 4, 7, 8, 11)] == [4, 4, 6, 6, 0, 0]


@pytest.mark.slow(reason="trains twice at three sizes")
def test_a_run_continues_to_the_same_bits(tiny, tmp_path, one_device):
    tiny.data.update(first_size=4, size_stages=2)
    tiny.train.update(checkpoint_every_steps=3)
    whole = train_and_evaluate(tiny, tmp_path / "whole", one_device)
    interrupt_training(tiny, tmp_path / "cut", one_device)
    assert (
        train_and_evaluate(tiny, tmp_path / "cut", one_device)["params_sha256"]
        == (whole["params_sha256"])
    )


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"first_size": 8}, "data.first_size 8 must be below the 8 pixels of the images"),
        ({"first_size": 6}, "data.size_stages 4 are too many from 6 to 8 pixels in 8 steps"),
        ({"first_size": 4, "size_stages": 1}, "size_stages must be at least 2, not 1"),
        (
            {"first_size": 4, "cutout": 5},
            "data.cutout 5 is more than the images of .* 4 x 4 pix",
        ),
    ],
)
def test_sizes_that_cannot_grow_are_refused(tiny, one_device, values, sentence):
    tiny.data.update(values)
    with pytest.raises(InputError, match=sentence):
        prepare(tiny, one_device)


@pytest.mark.parametrize(("frozen", "refused"), [(0.5, False), (1.0, False), (1.25, True)])
def test_batch_norm_is_frozen_in_the_last_stage_alone(tiny, one_device, frozen, refused):
    tiny.data.update(first_size=4, size_stages=2)
    tiny.train.freeze_bn_epochs = frozen
    if not refused:
        assert prepare(tiny, one_device).plan.freeze_after >= 4
        return
    with pytest.raises(InputError, match=r"freeze batch norm at step 3, .* have grown by step 4"):
        prepare(tiny, one_device)


def test_networks_that_are_tied_to_a_size_are_refused_another(tiny, one_device):
    tiny.model.se.kind = "ge_theta_plus"  # a gate whose kernel is as large as its map
    tiny.data.update(first_size=4, size_stages=2)
    with pytest.raises(InputError, match=r"tied to the 8 x 8 pixels .* data\.first_size must be 0"):
        prepare(tiny, one_device)
