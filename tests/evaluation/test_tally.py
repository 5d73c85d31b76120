"""Counts by class and by confidence, against scikit-learn and loops; as files and in pictures."""

import csv
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import balanced_accuracy_score, confusion_matrix

from senet_jax.evaluation import metrics, tally_csv, tally_pictures
from senet_jax.evaluation.scores import log_probabilities, outcomes
from senet_jax.evaluation.tally import BINS, Tally

EXAMPLES = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 4), st.floats(2**-7, 1.0, width=32)),
    min_size=1,
    max_size=60,
)


def counted(examples, classes=5):
    label, predicted, confidence = (np.array(values) for values in zip(*examples, strict=True))
    return label, predicted, confidence, Tally.of(label, predicted, confidence, classes)


def expected_calibration_error(label, predicted, confidence):
    """Equation 3 of Guo et al. 2017, bin by bin, example by example."""
    error = 0.0
    for number in range(15):
        low, high = number / 15, (number + 1) / 15
        inside = [i for i, p in enumerate(confidence) if low < p <= high]
        if inside:
            accuracy = sum(label[i] == predicted[i] for i in inside) / len(inside)
            mean = sum(float(confidence[i]) for i in inside) / len(inside)
            error += len(inside) / len(label) * abs(accuracy - mean)
    return 100 * error


@given(EXAMPLES)
def test_counts_are_those_of_scikit_learn_and_of_loops(examples):
    label, predicted, confidence, tally = counted(examples)
    matrix = confusion_matrix(label, predicted, labels=range(5))
    np.testing.assert_array_equal(tally.confusion, matrix)
    with pytest.MonkeyPatch.context() as patched:  # of classes that are never right, it warns
        patched.setattr("warnings.warn", lambda *_, **__: None)
        balanced = balanced_accuracy_score(label, predicted)
    assert tally.balanced_error == pytest.approx(100 * (1 - balanced))
    expected = expected_calibration_error(label, predicted, confidence)
    assert tally.calibration_error == pytest.approx(expected, abs=1e-9)
    assert tally.examples.sum() == tally.bins[:, 0].sum() == len(label)


@given(EXAMPLES, EXAMPLES)
def test_counts_of_parts_add_up_and_files_come_back(one, other):
    *_, first = counted(one)
    *_, second = counted(other)
    *_, whole = counted([*one, *other])
    together, names = first + second, ('a,"b', "b\nb", "", "猫", "e")
    files = (tally_csv.classes_csv(together, names), tally_csv.confusion_csv(together, names))
    again, read = tally_csv.read(*files, tally_csv.calibration_csv(together))
    assert read == names
    for tally in (together, again):
        np.testing.assert_array_equal(tally.confusion, whole.confusion)
        np.testing.assert_allclose(tally.bins, whole.bins, rtol=1e-12)
        assert tally.means == pytest.approx(whole.means)


def test_bins_take_their_upper_ends_and_probabilities_of_0_and_1():
    ends = np.array([0.0, 1 / 15, np.nextafter(1 / 15, 1), 0.2, 1.0])
    bins = Tally.of(np.zeros(5, int), np.zeros(5, int), ends, 1).bins
    assert np.flatnonzero(bins[:, 0]).tolist() == [0, 1, 2, 14]
    assert bins[0, 0] == 2


def test_what_is_not_finite_is_wrong_and_has_no_confidence():
    logits = np.float32([[[0, 1, 2]], [[5, np.nan, 0]], [[np.inf, 0, 0]], [[3, 0, 0]]])
    predicted, confidence = outcomes(log_probabilities(logits))
    assert predicted.tolist() == [2, -1, -1, 0]
    tally = Tally.of(np.array([2, 0, 0, 1]), predicted, confidence, 3)
    assert tally.class_errors.tolist() == [100, 100, 0]
    assert tally.confusion.sum() == 2
    assert np.isnan(tally.calibration_error)
    assert metrics.in_words({"balanced_error": 66.666, "calibration_error": None}) == (
        "balanced error 66.67 %, expected calibration error not finite"
    )


def test_a_class_without_examples_has_no_error():
    tally = Tally.of(np.array([0, 0]), np.array([0, 2]), np.array([0.5, 0.5]), 3)
    assert tally.balanced_error == 50
    lines = list(csv.DictReader(io.StringIO(tally_csv.classes_csv(tally, "abc").decode())))
    assert [line["error"] for line in lines] == ["50.0", "", ""]
    assert (lines[0]["taken_for"], lines[0]["times"]) == ("c", "1")
    assert Tally.of(*np.zeros((3, 0), int), 3).means == {}


def test_of_very_many_classes_there_is_no_matrix(monkeypatch):
    monkeypatch.setattr("senet_jax.evaluation.tally.MOST_CLASSES", 4)
    *_, tally = counted([(0, 1, 0.5), (1, 1, 0.7)])
    assert tally.confusion is None
    assert (tally + tally).confusion is None
    read, _ = tally_csv.read(
        tally_csv.classes_csv(tally, "abcde"), None, tally_csv.calibration_csv(tally)
    )
    assert read.means == pytest.approx(tally.means)


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("damage", [b"", b"class\n", b"a,b\n1\n", b"\xff", b"right class,a\na,x\n"])
def test_damaged_files_are_refused(place, damage):
    *_, tally = counted([(0, 1, 0.5), (1, 1, 0.7)])
    files = [tally_csv.classes_csv(tally, "abcde"), tally_csv.confusion_csv(tally, "abcde")]
    files.append(tally_csv.calibration_csv(tally))
    files[place] = damage
    with pytest.raises(ValueError):  # noqa: PT011 (of any kind)
        tally_csv.read(*files)


@pytest.mark.parametrize("classes", [1, 2, 26, 1000])
def test_a_matrix_of_any_number_of_classes_is_a_picture(classes):
    """Each class has more than a pixel. Names are drawn as they are, whatever is in them."""
    rng = np.random.default_rng(0)
    label, wrong = rng.integers(0, classes, 400), rng.integers(0, classes, 400)
    predicted = np.where(rng.random(400) < 0.7, label, wrong)
    tally = Tally.of(label, predicted, rng.random(400), classes)
    names = [f"$x_{n}^ 猫 \\alpha {'long ' * 9}" if n % 9 == 1 else f"c{n}" for n in range(classes)]
    picture = Image.open(io.BytesIO(tally_pictures.confusion(tally, names, "$caption 猫")))
    assert min(picture.size) > max(400, classes)
    assert len(picture.convert("L").getcolors()) > 20


@pytest.mark.parametrize("confidence", [[1.0], [0.01, 0.99, 0.5], [np.nan]])
def test_the_reliability_is_a_picture_whatever_the_confidence(confidence):
    count = len(confidence)
    predicted = np.where(np.isnan(confidence), -1, 0)
    tally = Tally.of(np.zeros(count, int), predicted, np.array(confidence), 2)
    picture = Image.open(io.BytesIO(tally_pictures.calibration(tally, "caption")))
    assert min(picture.size) > 400


def test_there_are_15_bins():
    assert BINS == 15
