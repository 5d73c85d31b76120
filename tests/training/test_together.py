"""Processes that train one network start only with the same images, weights and settings."""

import json

import pytest

from senet_jax.errors import InputError
from senet_jax.system import processes
from senet_jax.training import together
from senet_jax.training.prepare import prepare


@pytest.fixture
def beside(monkeypatch):
    """Stand in for the first of two processes, whose values differ from ours in some keys."""

    def of(others):
        asked = []

        def on_first(function):
            asked.extend(value := function())
            return value

        def same(text):
            key = asked[len(seen)]
            seen.append(key)
            return key not in others or text == json.dumps(others[key])

        seen = []
        monkeypatch.setattr(processes, "count", lambda: 2)
        monkeypatch.setattr(processes, "on_first", on_first)
        monkeypatch.setattr(processes, "same", same)
        return seen

    return of


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("labels", ["a", "b"], "different labels"),
        ("files", ["a", "b"], "different image files"),
        ("examples", [1437, 359], "different numbers of images"),
        ("class_names", ["a"], "different names of classes"),
        ("image_shape", [8, 8, 3], "different sizes of images"),
        ("settings", "jax_default_prng_impl=rbg", "different settings of JAX and XLA"),
        ("jax_version", "0.1", "different versions of JAX"),
    ],
)
def test_what_another_process_has_otherwise_is_refused(
    tiny, one_device, beside, key, value, sentence
):
    identity = prepare(tiny, one_device).dataset.identity
    compared = beside({})
    together.check(identity, {"pretrained_sha256": "a"})
    assert {key, "pretrained_sha256"} <= {*compared}
    beside({key: value})
    with pytest.raises(InputError, match=f"the processes that train together have {sentence}"):
        together.check(identity, {})


@pytest.mark.parametrize("key", ["pretrained_sha256", "teacher_sha256"])
def test_other_weights_of_another_process_are_refused(beside, tiny, one_device, key):
    identity = prepare(tiny, one_device).dataset.identity
    beside({key: "b"})
    with pytest.raises(
        InputError, match="the processes that train together have different weights"
    ):
        together.check(identity, {key: "a"})


def test_what_is_computed_of_the_images_may_be_rounded_otherwise(beside, tiny, one_device):
    identity = prepare(tiny, one_device).dataset.identity
    compared = beside({})
    together.check(identity, {})
    assert compared
    assert not {"mean", "std"} & {*compared}
