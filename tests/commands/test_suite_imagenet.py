"""The sets of the suite "imagenet", and what counts as wrong on a set."""

import numpy as np
import pytest
from helpers.runs import finish_untrained
from PIL import Image

from configs import imagenet as imagenet_config
from senet_jax.data.in_memory import Images
from senet_jax.errors import InputError
from senet_jax.inference import robustness, suites
from senet_jax.inference.ensemble_members import load_members
from senet_jax.inference.robustness import evaluate_suite
from senet_jax.inference.suites import Shown, TestSet
from senet_jax.weights.class_names import imagenet

pytestmark = pytest.mark.usefixtures("_leave_the_process_as_it_is")


@pytest.fixture(scope="module")
def of_imagenet(tmp_path_factory):
    """A network of ImageNet's classes, and folders of few images that are called as its sets."""
    root = tmp_path_factory.mktemp("imagenet")
    config = imagenet_config.get_config("seresnet18,fake")
    config.model.se.stages = (2, 3)
    with config.unlocked():
        config.model.width, config.model.stage_sizes = 4, (1, 1)
    config.data.image_size = 32
    finish_untrained(root / "run", config)
    rng = np.random.default_rng(0)
    ids = [*imagenet()]
    for name, classes in (("imagenet_a", (ids[6], ids[301])), ("imagenet_v2", ("2", "10", "7"))):
        for one in classes:
            folder = root / "sets" / name / one
            folder.mkdir(parents=True)
            for number in range(3):
                pixels = rng.integers(0, 256, (40, 50, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return root / "run", root / "sets"


def test_sets_in_folders_are_evaluated_and_others_named(of_imagenet):
    run, folder = of_imagenet
    result = evaluate_suite(f"imagenet:{folder}", [run, run])
    assert [(row["set"], row["examples"]) for row in result["sets"]] == [
        ("imagenet_v2", 9),
        ("imagenet_a", 6),
    ]
    for row in result["sets"]:
        assert row["mcnemar_p"] == 1
        assert row["interval"] == (0, 0)
    assert [text.partition(":")[0] for text in result["missing"]] == [
        "imagenet_r",
        "imagenet_sketch",
        "imagenet2012_real",
    ]
    assert "McNemar p = 1" in robustness.in_words(result)


def test_every_set_is_seen_as_it_is_asked_for(of_imagenet, monkeypatch):
    """At all sizes and with the crop, from a folder, from TFDS, and with the labels of ReaL."""
    run, folder = of_imagenet
    (member,) = load_members([run], "final", unfinished=False)
    seen = []

    def load_split(name, split, *, image_size, eval_crop, **_):
        seen.append((image_size, eval_crop))
        images = np.zeros((1, image_size, image_size, 3), np.uint8)
        return Images(images, np.zeros(1, np.int32)), [*imagenet()]

    monkeypatch.setattr(suites.data, "load_split", load_split)
    monkeypatch.setattr(suites.tfds_source, "is_here", lambda _: True)
    monkeypatch.setattr(suites.tfds_source, "sequences", lambda *_: [np.zeros(1, int)])
    views = suites.TestViews((32, 48), eval_crop=0.5)
    for one in (*suites.find(f"imagenet:{folder}")[:2], *suites.find("imagenet")):
        shown = one.show(member, views)
        assert [split.image_shape[0] for split in shown.splits] == [32, 48]
        assert robustness.wrong_of(member, one, views, None).shape == (1, 1)
    assert {*seen} == {(32, 0.5), (48, 0.5)}


def test_classes_are_found_by_wordnet_id_and_by_number():
    ids = [*imagenet()]
    numbers = suites.class_numbers([ids[999], "10", "2", ids[0]])
    assert numbers.tolist() == [999, 10, 2, 0]
    with pytest.raises(InputError, match="class 'cat' is neither"):
        suites.class_numbers(["cat"])


def said(monkeypatch, logits):
    """A network that says this of the images it is shown."""

    def predict(members, feeds, *_):
        label = feeds[0].split.label
        yield robustness_predicted(label, np.asarray(logits, float))

    monkeypatch.setattr(robustness, "predict", predict)
    monkeypatch.setattr(robustness, "batch_size_for", lambda *_: 1)


def robustness_predicted(label, logits):
    from senet_jax.evaluation.scores import Predicted

    return Predicted(label, np.ones(len(label)), logits, logits[None])


class Member:
    name = "a run"
    class_names = tuple("abcd")


LOGITS = ((9, 5, 1, 0), (9, 1, 5, 0), (0, 1, 2, 9))


def wrong(labels, several=None, **fields):
    images = Images(np.zeros((len(labels), 2, 2, 3), np.uint8), np.array(labels, np.int32))
    shown = Shown((images,), np.array([1, 2, 3]), several)
    return robustness.wrong_of(
        Member(), TestSet("x", lambda *_: shown, **fields), suites.TestViews(), None
    ).tolist()


def test_a_set_of_few_classes_is_a_choice_among_them(monkeypatch, capsys):
    """Labels 0, 1, 2 are the classes 1, 2, 3; class 0, which has no images, cannot be chosen."""
    said(monkeypatch, LOGITS)
    assert wrong([0, 1, 2]) == [[True, True, False]]
    assert wrong([0, 1, 2], few_classes=3) == [[False, False, False]]
    assert capsys.readouterr().err == ""
    assert wrong([0, 1, 2], few_classes=4) == [[False, False, False]]
    assert capsys.readouterr().err == (
        "warning: x has images of 3 of its 4 classes here, and a run chooses among these: its "
        "error is too good\n"
    )


def test_any_of_several_labels_is_right_and_images_without_do_not_count(monkeypatch):
    said(monkeypatch, LOGITS)
    assert wrong([0, 1, 2], several=[np.array([0, 2]), np.array([], int), np.array([1])]) == [
        [False, True]
    ]
