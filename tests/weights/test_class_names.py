"""A class has one name wherever it is named, and is found by that, by its own, or by its number."""

import pytest

from senet_jax.errors import InputError
from senet_jax.weights.class_names import first_difference, imagenet, numbers_of, readable

OWN = tuple(imagenet())
NAMES = readable(OWN)


def test_imagenet_s_classes_are_found_by_name_by_synset_and_by_number():
    assert numbers_of(["goldfish", "n01443537", "1", "tench"], NAMES, OWN) == [1, 0]
    assert numbers_of([NAMES[999], OWN[998], "997"], NAMES, OWN) == [999, 998, 997]
    for number in range(0, 1000, 37):
        assert numbers_of([NAMES[number], OWN[number]], NAMES, OWN) == [number]


def test_a_name_counts_before_a_number():
    assert numbers_of(["3", "0"], ("3", "2", "1", "x"), ("3", "2", "1", "x")) == [0, 0][:1]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("goldfsh", "did you mean 'goldfish'"),
        ("n0144353", "did you mean 'n01443537'"),
        ("1000", "neither a class of the dataset nor a number from 0 to 999"),
        ("-1", "nor a number from 0 to 999"),
        ("٣", "nor a number from 0 to 999"),
    ],
)
def test_what_is_no_class_is_refused_with_the_nearest(text, sentence):
    with pytest.raises(InputError, match=sentence):
        numbers_of([text], NAMES, OWN)


def test_the_name_of_several_classes_is_refused_with_their_numbers():
    with pytest.raises(InputError, match="is the name of 2 classes; give one of the numbers 0, 2"):
        numbers_of(["crane"], ("crane", "dog", "crane"), ("n1", "n2", "n3"))
    # One class's own name may be another's in words.
    with pytest.raises(InputError, match="numbers 0, 1"):
        numbers_of(["goldfish"], ("goldfish", "x"), ("n01443537", "goldfish"))
    assert numbers_of(["n3"], ("crane", "dog", "crane"), ("n1", "n2", "n3")) == [2]


def test_names_in_another_order_are_told_by_the_first_that_differs():
    names = ("cat", "dog", "emu")
    assert first_difference(names, names) == ""
    assert first_difference(names, ("cat", "emu", "dog")) == "class 1 is 'dog' and 'emu'"
