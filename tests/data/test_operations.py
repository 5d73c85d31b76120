"""Each operation is Pillow's; what is drawn is a function of an example's key, and is even."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from senet_jax.data.augment import Augmentation
from senet_jax.data.operations import NARROW, OPERATIONS, WIDE, at_once, one_by_one
from senet_jax.data.policies import TORCHVISIONS, RandAugment, TrivialAugment
from senet_jax.errors import InputError
from senet_jax.layers.example_keys import example_keys
from senet_jax.system.devices import AXIS, split_batch
from senet_jax.training.prepare import prepare

HEIGHT, WIDTH = 37, 50
STRENGTHS = (-1.0, -0.31, 0.0, 0.3, 0.83, 1.0)
at_once, one_by_one = (jax.jit(way, static_argnums=3) for way in (at_once, one_by_one))


def photos(count=1, channels=3):
    """Smooth images of few levels in a part of the range, and noise in a corner."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    images = np.empty((count, HEIGHT, WIDTH, channels), np.uint8)
    for image in images:
        for channel in range(channels):
            a, b, c = rng.uniform(0.02, 0.2, 3)
            image[..., channel] = 110 + 70 * np.sin(a * x + 9 * c) * np.cos(b * y)
        image[:9, :9] = rng.integers(20, 240, (9, 9, channels))
    return images


def drawing(draw):
    return jax.jit(jax.vmap(draw))


def pillows(name, strength, image):
    """torchvision's ranges at magnitude 30 |strength|, with Pillow's own operations."""
    size, level = abs(strength), 1 + 0.9 * strength
    width, height = image.size

    def affine(*matrix):
        return image.transform(image.size, Image.Transform.AFFINE, matrix)

    return {
        "identity": lambda: image,
        "autocontrast": lambda: ImageOps.autocontrast(image),
        "equalize": lambda: ImageOps.equalize(image),
        "rotate": lambda: image.rotate(30 * strength),
        "solarize": lambda: ImageOps.solarize(image, 256 * (1 - size)),
        "posterize": lambda: ImageOps.posterize(image, 8 - round(4 * size)),
        "color": lambda: ImageEnhance.Color(image).enhance(level),
        "contrast": lambda: ImageEnhance.Contrast(image).enhance(level),
        "brightness": lambda: ImageEnhance.Brightness(image).enhance(level),
        "sharpness": lambda: ImageEnhance.Sharpness(image).enhance(level),
        "shear_x": lambda: affine(1, 0.3 * strength, 0, 0, 1, 0),
        "shear_y": lambda: affine(1, 0, 0, 0.3 * strength, 1, 0),
        "translate_x": lambda: affine(1, 0, int(150 / 331 * width * strength), 0, 1, 0),
        "translate_y": lambda: affine(1, 0, 0, 0, 1, int(150 / 331 * height * strength)),
    }[name]()


def pillows_widely(name, strength, image):
    """torchvision's TrivialAugmentWide at magnitude 30 |strength|, with Pillow's operations."""
    size, level = abs(strength), 1 + 0.99 * strength

    def affine(*matrix):
        return image.transform(image.size, Image.Transform.AFFINE, matrix)

    return {
        "rotate": lambda: image.rotate(135 * strength),
        "solarize": lambda: ImageOps.solarize(image, 255 * (1 - size)),
        "posterize": lambda: ImageOps.posterize(image, 8 - round(6 * size)),
        "color": lambda: ImageEnhance.Color(image).enhance(level),
        "contrast": lambda: ImageEnhance.Contrast(image).enhance(level),
        "brightness": lambda: ImageEnhance.Brightness(image).enhance(level),
        "sharpness": lambda: ImageEnhance.Sharpness(image).enhance(level),
        "shear_x": lambda: affine(1, 0.99 * strength, 0, 0, 1, 0),
        "shear_y": lambda: affine(1, 0, 0, 0.99 * strength, 1, 0),
        "translate_x": lambda: affine(1, 0, int(32 * strength), 0, 1, 0),
        "translate_y": lambda: affine(1, 0, 0, 0, 1, int(32 * strength)),
    }.get(name, lambda: pillows(name, strength, image))()


@pytest.mark.parametrize(("ranges", "pillows"), [(NARROW, pillows), (WIDE, pillows_widely)])
@pytest.mark.parametrize("channels", [1, 3])
def test_operations_are_pillows(channels, ranges, pillows):
    image = photos(channels=channels)[0]
    cases = [(name, strength) for name in TORCHVISIONS for strength in STRENGTHS]
    numbers = jnp.array([OPERATIONS.index(name) for name, _ in cases])
    strengths = jnp.array([strength for _, strength in cases])
    changed = np.asarray(at_once(numbers, strengths, jnp.stack([image] * len(cases)), ranges))
    for (name, strength), ours in zip(cases, changed, strict=True):
        original = Image.fromarray(image.squeeze())
        theirs = np.asarray(pillows(name, strength, original)).reshape(image.shape)
        apart = np.abs(ours.astype(int) - theirs)
        if name in ("rotate", "shear_x", "shear_y"):  # 2^-16 of a pixel may choose another
            assert np.mean(apart > 1) < 0.002, (name, strength)
        else:
            assert apart.max() <= 1, (name, strength)
        changes = strength != 0 or name in ("autocontrast", "equalize")
        grey = channels == 1 and name == "color"
        assert (ours != image).any() == (changes and name != "identity" and not grey), name


def test_one_by_one_is_the_same_as_at_once():
    images = jnp.asarray(photos(28))
    numbers = jnp.arange(28) % 14
    strengths = jnp.where(jnp.arange(28) < 14, 0.4, -0.8)
    np.testing.assert_array_equal(
        one_by_one(numbers, strengths, images), at_once(numbers, strengths, images)
    )


@pytest.mark.parametrize("level", [0, 7, 255])
def test_images_of_one_level_stay_within_bytes(level):
    images = jnp.full((14, 2, 2, 3), level, jnp.uint8)  # smaller than the kernel of sharpness, too
    out = np.asarray(at_once(jnp.arange(14), jnp.full(14, -0.5), images))
    for name in ("identity", "autocontrast", "equalize", "contrast", "color", "sharpness"):
        assert (out[OPERATIONS.index(name)] == level).all(), name


def test_all_operations_are_drawn_evenly_and_either_way():
    draw = drawing(lambda key: RandAugment(2, 15)._draw(1, key))
    numbers, strengths = draw(jax.random.split(jax.random.key(0), 7000))
    counts = np.bincount(numbers, minlength=14)
    assert np.abs(counts - 500).max() < 90  # four standard deviations
    assert set(np.unique(strengths)) == {-0.5, 0.5}
    assert abs(np.mean(strengths)) < 0.03


def test_trivial_augment_draws_one_of_31_magnitudes_evenly():
    draw = drawing(TrivialAugment()._draw)
    numbers, strengths = draw(jax.random.split(jax.random.key(0), 7000))
    assert np.abs(np.bincount(numbers, minlength=14) - 500).max() < 90  # four standard deviations
    magnitudes = np.round(np.abs(strengths) * 30).astype(int)
    np.testing.assert_allclose(magnitudes, np.abs(strengths) * 30, atol=1e-4)
    assert np.abs(np.bincount(magnitudes, minlength=31) - 7000 / 31).max() < 60
    assert abs(np.mean(strengths)) < 0.03
    images, keys = jnp.asarray(photos(6)), jax.random.split(jax.random.key(1), 6)
    changed = jax.jit(TrivialAugment())(keys, images)
    np.testing.assert_array_equal(changed, at_once(*draw(keys), images, WIDE))


def test_layers_follow_one_another_and_none_is_none():
    images, keys = jnp.asarray(photos(6)), jax.random.split(jax.random.key(1), 6)
    augment = jax.jit(RandAugment(2, 12.0))
    expected = images
    for layer in range(2):
        draw = drawing(lambda key, layer=layer: RandAugment(2, 12.0)._draw(layer, key))
        expected = at_once(*draw(keys), expected)
    np.testing.assert_array_equal(augment(keys, images), expected)
    assert augment(keys, images).dtype == jnp.uint8
    np.testing.assert_array_equal(RandAugment(0, 12.0)(keys, images), images)


def test_rotation_is_pillows_by_angles_up_to_the_greatest():
    image, count = photos()[0], 80
    keys = jax.random.split(jax.random.key(0), count)
    images = jnp.broadcast_to(image, (count, *image.shape))
    turned = np.asarray(jax.jit(Augmentation(rotation=10.0))(keys, images))
    angles = np.linspace(-10, 10, 201)
    theirs = np.stack([Image.fromarray(image).rotate(angle) for angle in angles]).astype(int)
    apart = [np.abs(theirs - one).mean((1, 2, 3)) for one in turned]
    # The nearest of these angles is at most 0.05 degrees away, a 50th of a pixel or less.
    assert max(map(min, apart)) < 1
    nearest = angles[[np.argmin(one) for one in apart]]
    assert nearest.min() < -9 < 9 < nearest.max()
    assert abs(nearest.mean()) < 2.6  # four standard deviations


def test_jitter_shifts_each_channel_by_a_number_of_its_own():
    images = jnp.full((500, 3, 4, 3), 100, jnp.uint8)
    keys = jax.random.split(jax.random.key(0), 500)
    shift = jax.jit(Augmentation(color_jitter=20))
    shifted = np.asarray(shift(keys, images)).astype(int) - 100
    assert (shifted == shifted[:, :1, :1]).all()
    shifts = shifted[:, 0, 0]
    assert set(shifts.ravel()) == set(range(-20, 21))
    assert np.abs(np.corrcoef(shifts.T) - np.eye(3)).max() < 0.2
    for level in (0, 255):  # clipped, not wrapped around
        ends = np.asarray(shift(keys, jnp.full_like(images, level)))
        assert np.abs(ends.astype(int) - level).max() <= 20


ALL = {"rotation": 10.0, "randaugment_layers": 2, "color_jitter": 20, "erasing": 0.5}


def test_augmentation_does_not_depend_on_the_number_of_devices():
    """Nor on chance: the same bits each time."""
    images = jnp.asarray(photos(8))

    def augmented(images):
        keys = example_keys(jax.random.key(3), len(images), AXIS)
        return Augmentation(**ALL)(keys, images)

    def on(count):
        devices = jax.local_devices()[:count]
        program, parts = jax.pmap(augmented, AXIS, devices=devices), split_batch(images, devices)
        return [np.concatenate(program(parts)) for _ in range(2)]

    (one, again), (four, _) = on(1), on(4)
    np.testing.assert_array_equal(one, again)
    np.testing.assert_array_equal(one, four)
    assert (one != images).any((1, 2, 3)).all()


@pytest.mark.slow(reason="compiles a training step with all of them")
def test_a_step_takes_them_from_the_configuration(tiny, one_device):
    """On the grey images of digits."""
    tiny.data.update(ALL)
    run = prepare(tiny, one_device)
    batch = next(run.dataset.train.train_batches(run.settings.batch_size, run.seed))
    assert batch["image"].shape[-1] == 1
    _, sums = run.steps.train(run.initial_state, split_batch(batch, run.devices))
    assert np.isfinite(sums["loss"])


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("rotation", -1.0, "rotation must be from 0 to 180 degrees, not -1.0"),
        ("rotation", 181.0, "rotation must be from 0 to 180 degrees, not 181.0"),
        ("rotation", float("nan"), "rotation must be a number, finite .*, not nan"),
        ("color_jitter", 256, "color_jitter must be from 0 to 255 levels, not 256"),
        ("randaugment_layers", -1, "randaugment_layers must be at least 0, not -1"),
        ("randaugment_magnitude", 31.0, "randaugment_magnitude must be from 0 to 30, not 31.0"),
    ],
)
def test_bad_values_are_refused_with_a_sentence(tiny, one_device, key, value, sentence):
    tiny.data[key] = value
    with pytest.raises(InputError, match=f"data: {sentence}"):
        prepare(tiny, one_device)


def test_images_of_other_channels_are_refused():
    with pytest.raises(InputError, match="for images of 1 or 3 channels, not 4"):
        Augmentation(randaugment_layers=2).check(4)
    Augmentation(rotation=10.0, color_jitter=20).check(4)
