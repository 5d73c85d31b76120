"""A section becomes an object or a sentence; configurations survive JSON, and differ in keys."""

import dataclasses
import functools
import subprocess
import sys

import pytest
from ml_collections import ConfigDict

from senet_jax.config import build, check_present, differences, flatten, plain, with_tuples
from senet_jax.errors import InputError, counted


@dataclasses.dataclass(frozen=True)
class Section:
    """A section with a field of every type, of which the first has no default."""

    epochs: float
    size: int = 8
    name: str = "a"
    flip: bool = False
    boundaries: tuple[float, ...] = ()
    anything: dict[str, int] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if self.size < 0:
            raise ValueError(f"size must be at least 0, not {self.size}")


def test_a_section_becomes_an_object():
    values = {"epochs": 2, "size": 3, "flip": True, "boundaries": (0.5, 1)}
    assert build(Section, "train", values) == Section(2, 3, flip=True, boundaries=(0.5, 1))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"epochs": 1.0, "sise": 3}, "train has no key 'sise'; did you mean 'size'?"),
        ({"size": 3}, "the configuration has no train.epochs; start from configs/common.py"),
        ({"epochs": "1"}, "train: epochs must be a number, not '1'"),
        ({"epochs": True}, "train: epochs must be a number, not True"),
        ({"epochs": float("nan")}, "train: epochs must be a number, finite and below 3.4e38"),
        ({"epochs": 1.0, "size": 1.5}, "train: size must be a whole number, not 1.5"),
        ({"epochs": 1.0, "size": 2**31}, "train: size must be a whole number below 2^31, not"),
        ({"epochs": 1.0, "flip": 1}, "train: flip must be True or False, not 1"),
        ({"epochs": 1.0, "name": None}, "train: name must be text, not None"),
        ({"epochs": 1.0, "boundaries": 0.5}, "train: boundaries must be a tuple of numbers"),
        ({"epochs": 1.0, "boundaries": ("a",)}, "train: boundaries must be a tuple of numbers"),
        ({"epochs": 1.0, "size": -1}, "train: size must be at least 0, not -1"),
    ],
)
def test_what_cannot_be_a_section_is_refused_by_its_key(values, sentence):
    with pytest.raises(InputError) as caught:
        build(Section, "train", values)
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


def test_values_of_a_partial_and_of_a_function_are_checked_as_well():
    assert build(functools.partial(Section, 1.0), "train", {"size": 3}) == Section(1.0, 3)
    with pytest.raises(InputError, match="train: size must be a whole number, not 'a'"):
        build(functools.partial(Section, 1.0), "train", {"size": "a"})
    with pytest.raises(InputError, match=r"net: .*unexpected keyword argument 'b'"):
        build(lambda a: a, "net", {"a": 1, "b": 2})


def test_the_first_key_that_is_missing_is_named():
    check_present("data", {"name": 1, "mean": 2}, ["name", "mean"])
    with pytest.raises(InputError, match=r"has no data\.std;"):
        check_present("data", {"name": 1}, ["name", "std", "mean"])
    with pytest.raises(InputError, match="has no seed;"):
        check_present("", {}, ["seed"])


def test_json_keeps_a_configuration_but_for_its_tuples_which_come_back():
    values = {"a": (1, (2.5, "x"), ()), "b": {"c": (True,), "d": "text"}}
    stored = plain(ConfigDict(values))
    assert stored == {"a": [1, [2.5, "x"], []], "b": {"c": [True], "d": "text"}}
    assert with_tuples(stored) == values


def test_differences_are_named_with_both_values():
    stored, given = {"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 4}, "e": 5}
    assert differences(flatten(stored), flatten(stored)) == ""
    assert differences(flatten(stored), flatten(given)) == (
        "a.c (2 there, 4 now), d (3 there, missing now), e (missing there, 5 now)"
    )
    assert differences({"a": 1}, {"a": 2}, names=("left", "right")) == "a (1 left, 2 right)"


def test_no_more_than_five_differences_are_told():
    many = {f"key{index}": index for index in range(8)}
    assert differences(many, {}).endswith("key4 (4 there, missing now) and 3 more")
    assert differences(many, {}, most=len(many)).count("missing now") == len(many)


def test_the_algebra_imports_nothing_of_others():
    code = (
        "import sys, senet_jax.config;"
        "packages = {name.partition('.')[0] for name in sys.modules};"
        "print(*sorted(packages & {'absl', 'ml_collections', 'rich', 'jax', 'flax', 'numpy'}))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "\n"


@pytest.mark.parametrize(
    ("number", "noun", "words"),
    [
        (0, "step", "0 steps"),
        (1, "image", "1 image"),
        (2000, "class", "2,000 classes"),
        ("1", "processor", "1 processor"),
        ("1, 2", "processor", "1, 2 processors"),
    ],
)
def test_a_noun_agrees_with_its_number(number, noun, words):
    assert counted(number, noun) == words
