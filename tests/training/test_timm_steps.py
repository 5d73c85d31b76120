"""Ten steps of each recipe's optimizer and loss are timm's, from the same weights and batches."""

import functools
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from helpers.quick import some_quick
from helpers.timm_steps import CLASSES, RATES, SIZE, batch, soft_targets, summary, tensor

from configs import cifar, imagenet
from senet_jax.models import construct
from senet_jax.training.averages import moving_average
from senet_jax.training.losses import loss_of
from senet_jax.training.optim import OptimConfig, make_optimizer
from senet_jax.training.state import create_state
from senet_jax.training.step import make_train_step
from senet_jax.weights import torch_names
from senet_jax.weights.loading import from_tensors, shapes_of
from senet_jax.weights.timm import constructor_of

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "timm_steps.json").read_text("utf-8"))
RECIPES = {
    name: imagenet.get_config(f"seresnet50,imagenet2012,{name}")
    for name in ("rsb_a1", "rsb_a2", "rsb_a3", "ra2")
}
RECIPES["modern"] = cifar.get_config("seresnet20,cifar100,modern")
RECIPES["adamw"] = cifar.get_config("seresnet20,cifar100,modern")  # no recipe here has AdamW
RECIPES["adamw"].optim.update(name="adamw", learning_rate=1e-3, weight_decay=0.05)
RECIPES["adamw"].train.update(ema_decay=0.7, ema_warmup="timm")


@pytest.fixture(scope="module")
def network():
    """A narrow network with its weights, and the place of each of timm's tensors in it."""
    fields = {"stage_sizes": (1, 1), "width": 8, "stem_width": 64, "num_classes": CLASSES}
    fields["se"] = {"stages": (2, 3)}
    model = construct("seresnet18", constructor_of("seresnet18"), **fields)
    shape = (SIZE, SIZE, 3)
    places = torch_names.tensors(model, shapes_of(model, shape))
    weights = {name: tensor(name, place.shape) for name, place in places.items()}
    return model, from_tensors("seresnet18", weights, **fields).variables, places


@pytest.mark.parametrize(
    "name",
    some_quick(RECIPES, ("rsb_a2",), "a program of its own for each recipe"),
)
def test_ten_steps_are_timms(network, name):
    model, variables, places = network
    config, expected = RECIPES[name], GOLDEN[name]
    has_averages = config.train.ema_decay > 0
    optim = OptimConfig(**config.optim.to_dict())
    rates = jax.numpy.asarray(RATES * np.float32(optim.learning_rate))
    optimizer = make_optimizer(optim, lambda step: rates[step])
    step = jax.jit(
        make_train_step(
            model,
            optimizer,
            lambda keys, batch, classes: (batch["image"], batch["target"]),
            None,
            loss=loss_of(config.train.loss, config.train.target_threshold),
            average=functools.partial(
                moving_average, decay=config.train.ema_decay, warmup=config.train.ema_warmup
            )
            if has_averages
            else None,
        )
    )
    state = create_state(model, optimizer, (SIZE, SIZE, 3), 0, weights=variables, ema=has_averages)
    losses = []
    for number in range(len(RATES)):
        images, labels = batch(number)
        smoothing, mixes = config.train.label_smoothing, bool(config.data.mixup)
        targets = soft_targets(labels, smoothing, mixes)
        state, sums = step(state, {"image": images, "label": labels, "target": targets})
        losses.append(float(sums["loss"]) / len(labels))
    np.testing.assert_allclose(losses, expected["losses"], rtol=1e-4)
    params = {key: place for key, place in places.items() if place.path[0] == "params"}
    compare(state.variables, expected["tensors"], params)
    assert ("ema" in expected) == has_averages
    if has_averages:
        means = {key: place for key, place in places.items() if place.path[-1] != "var"}
        compare(state.ema, expected["ema"], means)


def compare(variables, expected, places):
    """Hold the tensors at some places against their summaries, to 1e-4 of each norm."""
    leaves = flatten_dict(dict(variables))
    assert expected.keys() == places.keys()
    for key, place in places.items():
        value = np.asarray(torch_names.to_torch(leaves[place.path], place))
        wanted = expected[key]
        np.testing.assert_allclose(summary(key, value), wanted, atol=1e-4 * wanted[0], err_msg=key)
