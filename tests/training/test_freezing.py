"""What is frozen stays to the last bit, and updates shrink from layer to layer."""

import jax
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict

from senet_jax import models
from senet_jax.errors import InputError
from senet_jax.system.devices import split_batch
from senet_jax.training import freezing
from senet_jax.training.optim import OptimConfig, make_optimizer
from senet_jax.training.prepare import prepare
from senet_jax.training.schedules import make_schedule

FREEZE = ("^stem/", "stage2")


def flat(tree):
    return {"/".join(path): np.asarray(value) for path, value in flatten_dict(tree).items()}


def small(**fields):
    fields = {"stage_sizes": (1, 2, 1), "width": 4, **fields}
    return models.create_model("seresnet20_cifar", **fields)


def after_steps(run, count):
    """The state after some steps, and the sums of the first."""
    state, first = jax.tree.map(lambda leaf: leaf.copy(), run.initial_state), None
    batches = run.dataset.train.train_batches(run.settings.batch_size, 0)
    for _, batch in zip(range(count), batches, strict=False):
        state, sums = run.steps.train(state, split_batch(batch, run.devices))
        first = first or jax.device_get(sums)
    return state, first


def test_expressions_are_found_anywhere_in_a_path():
    tuning = freezing.tuning(small(), (8, 8, 1), ("^stem/", "bn1/scale$"), 1.0)
    kept = {
        path for path, is_trained in flatten_dict(tuning.trained, sep="/").items() if is_trained
    }
    assert not any(path.startswith("stem/") or path.endswith("bn1/scale") for path in kept)
    assert {"head/kernel", "stage2/block1/bn1/bias", "stage2/block1/bn2/scale"} <= kept
    # A layer of which a part is trained goes on with the statistics of its batches.
    assert tuning.frozen_norms == ("stem/bn",)
    assert tuning.scales is None
    assert freezing.tuning(small(), (8, 8, 1), (), 1.0) == freezing.Tuning()


OF_NORMS = ["train.freeze_bn_epochs=1.0", "train.sync_batch_norm=True"]


@pytest.mark.parametrize(
    ("freeze", "idle"),
    [
        ("^(?!head/)", ["optim.layer_decay=0.5", *OF_NORMS]),
        ("/(scale|bias)$", ["optim.decay_norm_and_bias=False", *OF_NORMS]),
        ("^stem/", []),
    ],
)
def test_what_has_no_effect_on_the_parameters_that_are_left_is_named(
    tiny, one_device, caplog, freeze, idle
):
    tiny.optim.freeze = (freeze,)
    prepare(tiny, one_device)
    assert "no effect" not in caplog.text  # of defaults
    tiny.optim.layer_decay, tiny.train.freeze_bn_epochs = 0.5, 1.0
    tiny.optim.decay_norm_and_bias, tiny.train.sync_batch_norm = False, True
    prepare(tiny, one_device)
    named = [line.getMessage() for line in caplog.records if "no effect" in line.getMessage()]
    assert [line.partition(" ")[0] for line in named] == idle


@pytest.mark.parametrize(
    ("patterns", "sentence"),
    [
        (("stage2", "stage4/blok1"), "'stage4/blok1', .* of no parameter; did you mean 'stage4/bl"),
        (("stag2",), "did you mean 'stage2'"),
        (("xyz",), "paths are like 'head/bias' and 'stem/conv/kernel'"),
        (("head", "stage", "stem"), "in the paths of all parameters: nothing is trained"),
    ],
)
def test_expressions_without_a_sense_are_refused(patterns, sentence):
    with pytest.raises(InputError, match=sentence):
        freezing.tuning(small(), (8, 8, 1), patterns, 1.0)


def test_updates_shrink_by_a_factor_for_each_layer_below_the_classifier():
    tuning = freezing.tuning(small(), (8, 8, 1), (), 0.5)
    order = ["stem", "stage2/block1", "stage3/block1", "stage3/block2", "stage4/block1", "head"]
    for path, scale in flatten_dict(tuning.scales, sep="/").items():
        (place,) = [place for place, layer in enumerate(order) if path.startswith(f"{layer}/")]
        assert scale == 0.5 ** (5 - place), path


def test_layers_of_a_network_without_blocks_are_its_convolutions():
    model = models.create_model(
        "sevgg16_bn", width=8, fc_width=64, stage_sizes=(2, 1), se={"stages": (1, 2)}
    )
    scales = flatten_dict(freezing.tuning(model, (32, 32, 3), (), 0.5).scales, sep="/")
    order = [
        ("conv1", "bn1", "se1", "stage1"),
        ("conv2", "bn2", "se2", "stage1"),
        ("stage2",),
        ("fc1",),
        ("fc2",),
        ("head",),
    ]
    for path, scale in scales.items():
        top, below, *_ = path.split("/")
        places = [
            p
            for p, names in enumerate(order)
            if names[-1] == top and (len(names) == 1 or below in names)
        ]
        assert [scale] == [0.5 ** (5 - place) for place in places], path


@pytest.mark.parametrize("fields", [{}, {"nesterov": True, "clip_norm": 0.1, "weight_decay": 0.1}])
def test_the_optimizer_scales_whole_updates_and_leaves_frozen_parameters_alone(fields):
    rng = np.random.default_rng(0)
    params = {
        name: {"kernel": np.float32(rng.normal(size=5))} for name in ("stem", "block", "head")
    }
    frozen = {"stem": {"kernel": False}, "block": {"kernel": True}, "head": {"kernel": True}}
    scales = {"stem": {"kernel": 0.25}, "block": {"kernel": 0.5}, "head": {"kernel": 1.0}}
    config = OptimConfig(0.1, "constant", **fields)
    schedule = make_schedule(config, 10, 1)
    whole, tuned = (make_optimizer(config, schedule, frozen, s) for s in (None, scales))
    states = [whole.init(params), tuned.init(params)]
    assert len(jax.tree.leaves(states[0])) == 3  # two momenta and a count
    for _ in range(3):
        gradients = jax.tree.map(lambda p: np.float32(rng.normal(size=p.shape)), params)
        gradients["stem"] = {"kernel": np.zeros(5, np.float32)}
        (one, states[0]), (other, states[1]) = (
            optimizer.update(gradients, state, params)
            for optimizer, state in zip((whole, tuned), states, strict=True)
        )
        assert not np.any(one["stem"]["kernel"])
        assert not np.any(other["stem"]["kernel"])
        assert np.all(one["block"]["kernel"])
        np.testing.assert_array_equal(other["block"]["kernel"], 0.5 * one["block"]["kernel"])
        np.testing.assert_array_equal(other["head"]["kernel"], one["head"]["kernel"])
        params = optax.apply_updates(params, one)


@pytest.mark.parametrize(("count", "parts"), [(1, 3), (4, 1)])
def test_frozen_parameters_and_statistics_stay_to_the_last_bit(tiny, count, parts):
    """So do their moving averages, with accumulation, clipping and weight decay."""
    tiny.train.update({"batch_size": 24, "accumulate_steps": parts, "ema_decay": 0.9})
    tiny.train.on_nan = "skip"
    tiny.optim.update({"freeze": FREEZE, "clip_norm": 1.0, "warmup_epochs": 0.0})
    run = prepare(tiny, jax.local_devices()[:count])
    # Statistics that are not those of the start: an average of ones would be exact.
    stats = jax.tree.map(lambda leaf: leaf + np.float32(1 / 3), run.initial_state.batch_stats)
    start = run.initial_state.replace(batch_stats=stats)
    start = start.replace(ema=jax.tree.map(lambda leaf: leaf.copy(), start.variables))
    before = {kind: flat(tree) for kind, tree in start.variables.items()}
    state, sums = start, None
    batches = run.dataset.train.train_batches(24, 0)
    for _ in range(3):
        state, sums = run.steps.train(state, split_batch(next(batches), run.devices))
    assert sums["skipped"] == 0
    for kind, tree in (*state.variables.items(), *state.ema.items()):
        for path, value in flat(tree).items():
            is_frozen = path.startswith(("stem/", "stage2/"))
            assert np.array_equal(value, before[kind][path]) == is_frozen, path


def test_a_probe_sees_features_as_in_evaluation(tiny, one_device):
    """Its loss before the first update is that of evaluating the same images."""
    tiny.data.pad = 0
    tiny.optim.update({"freeze": ("^(?!head/)",), "warmup_epochs": 0.0})
    run = prepare(tiny, one_device)
    batch = next(run.dataset.train.train_batches(32, 0))
    evaluated = batch | {"mask": np.ones(32, np.float32), "place": np.arange(32, dtype=np.int32)}
    expected = run.steps.eval(run.initial_state.variables, split_batch(evaluated, one_device))
    state, sums = after_steps(run, 1)
    np.testing.assert_allclose(sums["loss"], expected["loss"], rtol=1e-5)
    assert sums["top1"] == expected["top1"]
    head = np.abs(
        np.asarray(state.params["head"]["kernel"]) - run.initial_state.params["head"]["kernel"]
    )
    assert head.max() > 0
