"""Blocks with batch normalisation in modules that are not ours train where these do."""

import flax.linen as nn
import jax
import pytest

from senet_jax import with_se

IMAGES = jax.random.normal(jax.random.key(9), (2, 8, 8, 3))


class Told(nn.Module):
    """A network whose call, or else a field, says whether it trains, as nn.merge_param has it."""

    train: bool | None = None
    deterministic: bool | None = None

    @nn.compact
    def __call__(self, x, train=None, deterministic=None, **others):
        return nn.Conv(16, (3, 3), name="conv")(x)


@pytest.mark.parametrize(
    ("fields", "arguments", "trains"),
    [
        ({"train": True}, {}, True),
        ({"train": True}, {"train": None}, True),
        ({"train": False}, {}, False),
        ({"deterministic": False}, {}, True),
        ({"deterministic": True}, {"deterministic": None}, False),
        ({}, {"train": True}, True),
        ({"train": None}, {"train": False}, False),
        ({}, {"training": True}, True),
        ({}, {}, None),
        ({}, {"deterministic": None}, None),
    ],
)
def test_blocks_train_where_the_call_or_a_field_says_it(fields, arguments, trains):
    """None says nothing, neither yes nor no."""
    model = with_se(Told(**fields), {"kind": "srm"}, "conv")
    if trains is None:
        with pytest.raises(ValueError, match="Told is not told whether it is trained, by train"):
            model.init(jax.random.key(0), IMAGES, **arguments)
        return
    variables = model.init(jax.random.key(0), IMAGES, **arguments)
    _, changed = model.apply(variables, IMAGES, **arguments, mutable=["se_stats", "batch_stats"])
    before, after = (jax.tree.leaves(tree["se_stats"]) for tree in (variables, changed))
    moves = [bool((a != b).any()) for a, b in zip(before, after, strict=True)]
    assert any(moves) == trains
