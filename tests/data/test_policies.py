"""RandAugment in timm's forms and AutoAugment draw, and do, what the originals do."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from data.test_operations import at_once, drawing, photos
from PIL import Image, ImageEnhance, ImageOps

from senet_jax.data.augment import Augmentation
from senet_jax.data.operations import ENHANCEMENTS, OPERATIONS
from senet_jax.data.policies import AUTO, POLICIES, TIMMS, AutoAugment, RandAugment, pairs
from senet_jax.training.step import Inputs

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "policies.json").read_text("utf-8"))
FILL = (120, 110, 100)
INC1, INC0 = (RandAugment(2, 7, kind, 0.5, FILL) for kind in ("timm_inc1", "timm"))
# Our names of the operations of timm and torchvision, but for what is after them ("Increasing").
NAMES = {name.replace("_", ""): name for name in OPERATIONS}


def named(theirs):
    lower = theirs.lower().removesuffix("increasing")
    return NAMES[lower.removesuffix("rel") if lower.startswith("translate") else lower]


@pytest.mark.parametrize("policy", POLICIES)
def test_policies_are_torchvisions(policy):
    theirs = [
        [(named(n), p, level or 0) for n, p, level in pair] for pair in GOLDEN["policies"][policy]
    ]
    assert [list(pair) for pair in pairs(policy)] == theirs


def test_timm_draws_from_these_operations():
    for form in ("inc1", "inc0"):
        assert {named(name) for name in GOLDEN[form]} == {*TIMMS}


def pillows(name, argument, image):
    """timm's operation with its argument, by Pillow, between pixels."""
    how = {"resample": Image.Resampling.BILINEAR, "fillcolor": FILL}
    width, height = image.size

    def affine(*matrix):
        return image.transform(image.size, Image.Transform.AFFINE, matrix, **how)

    def posterized(bits):
        # Newer versions of Pillow refuse to keep no bit; with others all is black.
        return ImageOps.posterize(image, bits) if bits else image.point([0] * 768)

    def enhanced(factor):
        return getattr(ImageEnhance, name.capitalize())(image).enhance(factor)

    return {
        "autocontrast": lambda: ImageOps.autocontrast(image),
        "equalize": lambda: ImageOps.equalize(image),
        "invert": lambda: ImageOps.invert(image),
        "rotate": lambda: image.rotate(argument, **how),
        "posterize": lambda: posterized(argument),
        "solarize": lambda: ImageOps.solarize(image, argument),
        "solarize_add": lambda: image.point(
            [min(255, v + argument) if v < 128 else v for v in range(256)] * 3
        ),
        "shear_x": lambda: affine(1, argument, 0, 0, 1, 0),
        "shear_y": lambda: affine(1, 0, 0, argument, 1, 0),
        "translate_x": lambda: affine(1, 0, argument * width, 0, 1, 0),
        "translate_y": lambda: affine(1, 0, 0, 0, 1, argument * height),
    }.get(name, lambda: enhanced(argument))()


@pytest.mark.parametrize(("form", "policy"), [("inc1", INC1), ("inc0", INC0)])
def test_operations_are_timms(form, policy):
    image = photos()[0]
    cases = [
        (named(theirs), magnitude, argument, sign)
        for theirs, arguments in GOLDEN[form].items()
        for magnitude, argument in zip(GOLDEN["magnitudes"], arguments or [None] * 4, strict=True)
        for sign in (1, -1)
    ]
    numbers = jnp.array([OPERATIONS.index(name) for name, *_ in cases])
    strengths = jnp.array([sign * magnitude / 10 for _, magnitude, _, sign in cases])
    changed = np.asarray(
        at_once(numbers, strengths, jnp.stack([image] * len(cases)), policy.ranges)
    )
    for (name, magnitude, argument, sign), ours in zip(cases, changed, strict=True):
        if name.startswith(("rotate", "shear", "translate")):
            argument *= sign
        elif name in ENHANCEMENTS and form == "inc1" and sign < 0:
            argument = 2 - argument
        theirs = np.asarray(pillows(name, argument, Image.fromarray(image)))
        apart = np.abs(ours.astype(int) - theirs)
        message = (name, magnitude, sign)
        if name.startswith(("rotate", "shear", "translate")):  # pixels at the edge of the picture
            assert np.mean(apart > 1) < 0.004, message
        else:
            assert apart.max() <= 1, message


def test_timms_magnitudes_spread_and_half_of_the_operations_are_left_out():
    draw = drawing(lambda key: INC1._draw_timms(1, key))
    numbers, strengths = draw(jax.random.split(jax.random.key(0), 9000))
    counts = np.bincount(numbers, minlength=len(OPERATIONS))
    assert abs(counts[0] - 4500) < 4 * np.sqrt(9000 / 4)
    assert np.abs(counts[1:] - 300).max() < 75  # four standard deviations
    assert abs(np.mean(np.sign(strengths))) < 0.045
    assert abs(np.abs(strengths).mean() - 0.7) < 0.003
    assert abs(np.abs(strengths).std() - 0.05) < 0.002
    extreme = drawing(lambda key: RandAugment(1, 10, "timm", 3.0)._draw_timms(0, key))
    assert np.abs(extreme(jax.random.split(jax.random.key(1), 50))[1]).max() == 1


def test_auto_augment_draws_pairs_evenly_with_their_probabilities():
    draw = [drawing(lambda key, n=n: AutoAugment("cifar10")._draw(n, key)) for n in range(2)]
    keys = jax.random.split(jax.random.key(0), 20000)
    table = pairs("cifar10")
    for place in range(2):
        numbers, strengths = draw[place](keys)
        for name in OPERATIONS[1:]:
            mine = [pair[place] for pair in table if pair[place][0] == name]
            share = sum(p for _, p, _ in mine) / len(table)
            found = np.asarray(numbers) == OPERATIONS.index(name)
            assert abs(found.mean() - share) < 4 * np.sqrt(0.25 / 20000) + 1e-9, name
            levels = {level for _, p, level in mine if p}
            assert {*np.round(np.abs(strengths)[found] * 9)} == levels
    allowed = {(a[0], b[0]) for a, b in table}
    for one, other in zip(*(np.asarray(way(keys[:500])[0]) for way in draw), strict=True):
        if one and other:
            assert (OPERATIONS[one], OPERATIONS[other]) in allowed
    images = jnp.asarray(photos(6))
    expected = images
    for one in draw:
        expected = at_once(*one(keys[:6]), expected, AUTO)
    np.testing.assert_array_equal(jax.jit(AutoAugment("cifar10"))(keys[:6], images), expected)


def test_what_a_warp_leaves_empty_has_the_mean_of_the_dataset():
    augment = Augmentation(
        randaugment_layers=1, randaugment_magnitude=10.0, randaugment_kind="timm_inc1"
    )
    images = jnp.full((60, 32, 32, 3), 5, jnp.uint8)
    inputs = Inputs(augment, lambda images: images, fill=FILL)
    batch = {"image": images, "label": jnp.zeros(60, jnp.int32)}
    changed, _ = jax.jit(inputs, static_argnums=2)(
        jax.random.split(jax.random.key(0), 60), batch, 2
    )
    assert (np.asarray(changed) == FILL).all(-1).any()


@pytest.mark.parametrize(
    "fields",
    [
        {"randaugment_layers": 2, "trivialaugment": True},
        {"autoaugment": "svhn", "trivialaugment": True},
        {"autoaugment": "svhn", "randaugment_layers": 1},
    ],
)
def test_there_is_one_policy(fields):
    with pytest.raises(ValueError, match=r"cannot go with .*: choose one"):
        Augmentation(**fields)
    with pytest.raises(ValueError, match="randaugment_magnitude must be from 0 to 10, not 12"):
        Augmentation(randaugment_layers=1, randaugment_kind="timm", randaugment_magnitude=12.0)
