"""What a classifier is given from Python: answered as uint8 batches are, or refused."""

import types

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from senet_jax.errors import InputError
from senet_jax.inference.classifier import Classifier
from senet_jax.inference.preprocessing import Preprocessing

NAMES = ("red", "green", "blue")


class Mean:
    """A network whose logits are the mean of each channel, times `scale`."""

    def __init__(self, scale=1.0):
        self.scale = scale

    def apply(self, variables, images):
        return self.scale * images.mean((1, 2))[:, :3]


def classifier(channels=3, **options):
    preprocessing = Preprocessing(
        (8, 8, channels), 1.0, "bilinear", (100.0,) * channels, (50.0,) * channels
    )
    return Classifier("mean", Mean(**options), {}, preprocessing, NAMES)


RED = np.zeros((8, 8, 3), np.uint8)
RED[..., 0] = 255


@pytest.mark.parametrize(
    "images",
    [
        RED[None],
        [RED],
        (RED, RED),
        jnp.asarray(RED[None]),
        [Image.fromarray(RED)],
        np.asfortranarray(RED[None]),
        RED[None, ::-1],
    ],
)
def test_batches_of_bytes_are_answered(images):
    answers = classifier().most_probable(images)
    assert [[name for name, _ in answer] for answer in answers] == [
        ["red", "green", "blue"] for _ in images
    ]
    assert sum(probability for _, probability in answers[0]) == pytest.approx(1)


def test_no_images_have_no_answers():
    assert classifier().most_probable(np.zeros((0, 8, 8, 3), np.uint8)) == []


SHAPE = r"takes uint8 images \[B, 8, 8, 3\], not"


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (RED[None] / np.float32(255), rf"{SHAPE} float32 \[1, 8, 8, 3\]; pixels are from 0 to 255"),
        (RED[None].astype(np.float64), f"{SHAPE} float"),
        (RED[None].astype(np.int64), rf"{SHAPE} int\d\d \[1, 8, 8, 3\]; pixels are from 0 to 255"),
        (RED[None] > 0, f"{SHAPE} bool"),
        (np.full((1, 8, 8, 3), np.nan), f"{SHAPE} float"),
        (RED, rf"{SHAPE} uint8 \[8, 8, 3\]; images\[None\] has the axis of the batch"),
        (Image.fromarray(RED), rf"{SHAPE} uint8 \[8, 8, 3\]; images\[None\]"),
        (RED[None].transpose(0, 3, 1, 2), rf"{SHAPE} uint8 \[1, 3, 8, 8\]; the channels come last"),
        (RED.transpose(2, 0, 1) / 255.0, rf"{SHAPE} float\d\d \[3, 8, 8\]; the channels come last"),
        (RED[None, ..., :1], rf"{SHAPE} uint8 \[1, 8, 8, 1\]$"),
        (RED[None, ..., 0], rf"{SHAPE} uint8 \[1, 8, 8\]$"),
        (RED[None, :4], rf"{SHAPE} uint8 \[1, 4, 8, 3\]; Classifier.seen_at changes the size"),
        (RED[None, None], rf"{SHAPE} uint8 \[1, 1, 8, 8, 3\]$"),
        (np.uint8(3), rf"{SHAPE} uint8 \[\]"),
        ([], rf"{SHAPE} float"),
        ([RED, RED[:4]], "images must be one array: "),
        ("cat.jpg", r"images must be an array, as np.stack.* makes one, not str"),
        (["cat.jpg"], r"images must be an array, .* not list"),
        (None, "images must be an array, .* not NoneType"),
        ({"image": RED}, "images must be an array, .* not dict"),
        (types.SimpleNamespace(), "images must be an array, .* not SimpleNamespace"),
    ],
)
def test_anything_else_is_refused_in_a_sentence(images, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        classifier().most_probable(images)
    assert "\n" not in str(caught.value)


def test_a_grey_network_takes_no_channels_first():
    grey = classifier(channels=1)
    with pytest.raises(InputError, match=r"images \[B, 8, 8, 1\], not uint8 \[1, 8, 8\]$"):
        grey.most_probable(RED[None, ..., 0])


@pytest.mark.parametrize("count", [0, -1, 1.5, None, "3"])
def test_a_count_is_a_whole_number(count):
    with pytest.raises(InputError, match="count must be a whole number from 1 on, not"):
        classifier().most_probable(RED[None], count)


def test_a_count_may_be_numpys():
    ((answer, *_, last),) = classifier().most_probable(RED[None], np.int64(2))
    assert answer[1] >= last[1]


def test_an_answer_that_is_not_finite_is_none():
    with pytest.raises(InputError, match="what mean says of these images is not finite"):
        classifier(scale=float("nan")).most_probable(RED[None])


def test_normalisation_takes_bytes_alone():
    normalize = classifier().preprocessing.normalize
    np.testing.assert_allclose(normalize(RED), (RED - 100.0) / 50.0, rtol=1e-6)
    for images in (RED / np.float32(255), RED[..., :1]):
        with pytest.raises(InputError, match=SHAPE):
            normalize(images)


def test_a_network_of_four_channels_sees_the_transparency():
    network = classifier(channels=4)
    clear = Image.fromarray(np.dstack([RED, np.full((8, 8), 7, np.uint8)]))
    assert (network.preprocessing(clear)[..., 3] == 7).all()
    assert (network.preprocessing(Image.fromarray(RED))[..., 3] == 255).all()
    assert network.most_probable(network.preprocessing(clear)[None])[0][0][0] == "red"
