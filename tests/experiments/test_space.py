"""The space of a search: what can be written, and what is tried for what was drawn."""

import pytest

from experiments.grid import space, sweep
from senet_jax.errors import InputError

FILE = "configs/digits.py:seresnet20"
RATE, RATIO = "optim.learning_rate=log(0.001,1)", "model.se.ratio=2|4|8|16"


def parsed(*texts):
    config = sweep.load(FILE, smoke=False)
    return space.parse(config, texts), config


def test_values_have_the_types_of_the_configurations():
    found, config = parsed(
        *(RATE, RATIO, "model.width=int(8,32)", "train.ema_decay=uniform(0,0.99)"),
        *("train.epochs=int(5,30)", "model.se.stages=(2,3)|(4,)|()", "optim.nesterov=True|False"),
        "train.batch_size=log(16,256)",
    )
    assert found["optim.learning_rate"] == space.Range(0.001, 1.0, True)
    assert found["model.width"] == space.Range(8, 32, False)
    assert found["train.batch_size"] == space.Range(16, 256, True)
    assert found["train.epochs"] == space.Range(5, 30, False)
    assert [*found["model.se.ratio"].values.values()] == [2, 4, 8, 16]
    assert [*found["model.se.stages"].values.values()] == [(2, 3), (4,), ()]
    assert [*found["optim.nesterov"].values.values()] == [True, False]
    drawn = {"optim.learning_rate": 0.0312345678, "model.se.ratio": "8"}
    few, _ = parsed(RATE, RATIO)
    row = space.row_of(few, drawn)
    assert row.label == "learning_rate=0.03123,ratio=8"
    assert row.overrides == {"optim.learning_rate": 0.03123, "model.se.ratio": 8}
    assert space.own_values(few, config) == {"optim.learning_rate": 0.1, "model.se.ratio": "16"}
    assert space.own_values(parsed("model.se.ratio=2|4")[0], config) is None


def test_what_is_tried_is_short_and_in_the_range():
    part = space.Range(0.0012345678, 0.0299999, True)
    for drawn, tried in ((0.0012345679, 0.001235), (0.01234567, 0.01235), (0.02999985, 0.0299999)):
        assert part.value(drawn) == tried
    assert space.Range(0.00123549, 1.0, True).value(0.00123549) == 0.00123549


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        ((), "give what to search"),
        (("model.se.ratoi=2|4",), r"unknown key --config\.model\.se\.ratoi.*did you mean"),
        (("seed=1|2",), "given by --seeds"),
        ((RATIO, "model.se.ratio=2|32"), "--space=model.se.ratio is given twice"),
        (("model.se.ratio=2|x",), "must be a whole number, not 'x'"),
        (("model.se.ratio=2|2",), "has a value twice"),
        (("model.se.stages=(2,3)|(3,2)",), "has a value twice"),
        (("model.se.ratio=2",), "leaves nothing to search"),
        (("model.se.ratio=",), "ratio"),
        (("model.se.ratio",), "ratio"),
        (("model.se.ratio=uniform(2,4)",), r"give model.se.ratio=int\(2,4\)"),
        (("optim.learning_rate=lgo(0.1,1)",), r"there is no lgo\(\), only.*did you mean 'log'"),
        (("optim.learning_rate=log(0,1)",), "begins above 0"),
        (("optim.learning_rate=log(1,0.1)",), "first number must be less"),
        (("optim.learning_rate=log(nan,1)",), "first number must be less"),
        (("optim.learning_rate=log(a,1)",), "must be a number, not 'a'"),
        (("optim.learning_rate=log(1)",), "must be a number"),
        (("train.epochs=int(1.5,3)",), "from one whole number to another"),
        (("optim.schedule=int(1,2)",), "is no number; give its values"),
        (("optim.nesterov=int(0,1)",), "no"),
    ],
)
def test_a_space_that_cannot_be_searched_is_one_sentence(texts, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        parsed(*texts)
    assert "\n" not in str(caught.value)
