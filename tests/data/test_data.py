"""Every example counts once, the order is a function of (seed, epoch), augmentation of its keys."""

import dataclasses
import itertools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from senet_jax import data
from senet_jax.data import Share
from senet_jax.data.augment import Augmentation, normalize
from senet_jax.data.in_memory import Images
from senet_jax.errors import InputError


def numbered(count):
    """A split whose images consist of their index."""
    image = np.arange(count, dtype=np.uint8).reshape(-1, 1, 1, 1) * np.ones((1, 4, 5, 1), np.uint8)
    return Images(image, np.arange(count, dtype=np.int32))


def test_digits_are_the_images_of_scikit_learn():
    from sklearn.datasets import load_digits

    digits = data.load_dataset("digits", "train", "test")
    assert (len(digits.train), len(digits.eval), digits.num_classes) == (1437, 360, 10)
    assert digits.train.image.shape[1:] == (8, 8, 1)
    assert digits.train.image.dtype == np.uint8
    # TFDS stores examples in an order of its own; compare the two as sets.
    source = load_digits()
    for split, kept in ((digits.train, slice(0, 1437)), (digits.eval, slice(1437, None))):
        ours = sorted((i.tobytes(), int(y)) for i, y in zip(split.image, split.label, strict=True))
        images = (source.images[kept] * 15).astype(np.uint8)
        labels = source.target[kept]
        theirs = sorted((i.tobytes(), int(y)) for i, y in zip(images, labels, strict=True))
        assert ours == theirs


@given(count=st.integers(1, 200), batch_size=st.integers(1, 64))
def test_evaluation_sees_every_example_once(count, batch_size):
    seen, places = [], []
    for batch in numbered(count).eval_batches(batch_size):
        assert batch["image"].shape == (batch_size, 4, 5, 1)
        real = batch["mask"] == 1
        np.testing.assert_array_equal(batch["image"][real, 0, 0, 0], batch["label"][real])
        seen += batch["label"][real].tolist()
        places += batch["place"][real].tolist()
    assert seen == places == list(range(count))


@given(seed=st.integers(0, 2**31), start=st.integers(0, 30))
def test_a_run_can_continue_at_any_step(seed, start):
    split, size = numbered(50), 8  # 6 steps an epoch, 2 examples left over
    whole = split.train_batches(size, seed)
    for _ in range(start):
        next(whole)
    resumed = split.train_batches(size, seed, start)
    for _ in range(8):
        np.testing.assert_array_equal(next(whole)["label"], next(resumed)["label"])


def test_an_epoch_has_no_example_twice_and_epochs_and_seeds_differ():
    batches = numbered(48).train_batches(8, seed=3)
    epochs = [np.concatenate([next(batches)["label"] for _ in range(6)]) for _ in range(2)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(48))
    assert not np.array_equal(*epochs)
    other = numbered(48).train_batches(8, seed=4)
    assert not np.array_equal(epochs[0][:8], next(other)["label"])


def test_statistics_are_exact():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (20, 6, 7, 3), dtype=np.uint8)
    mean, std = Images(image, np.zeros(20, np.int32)).statistics()
    np.testing.assert_allclose(mean, image.mean((0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, image.std((0, 1, 2)), rtol=1e-12)
    scaled = normalize(jnp.asarray(image), mean, std)
    np.testing.assert_allclose(scaled.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.std((0, 1, 2)), 1, atol=1e-5)
    constant = Images(np.full((2, 4, 4, 1), 7, np.uint8), np.zeros(2, np.int32))
    assert constant.statistics() == ((7.0,), (1.0,))


def test_crops_are_windows_of_the_padded_image_and_all_occur():
    image = np.arange(1, 37, dtype=np.uint8).reshape(6, 6, 1)
    keys = jax.random.split(jax.random.key(0), 400)
    crops = np.asarray(Augmentation(pad=1)(keys, jnp.broadcast_to(image, (400, 6, 6, 1))))
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
    windows = {padded[y : y + 6, x : x + 6].tobytes() for y in range(3) for x in range(3)}
    assert {crop.tobytes() for crop in crops} == windows


def test_flips_mirror_about_half_of_the_images():
    image = np.arange(12, dtype=np.uint8).reshape(3, 4, 1)
    keys = jax.random.split(jax.random.key(0), 1000)
    flipped = np.asarray(Augmentation(flip=True)(keys, jnp.broadcast_to(image, (1000, 3, 4, 1))))
    mirrored = (flipped == image[:, ::-1]).all((1, 2, 3))
    assert ((flipped == image).all((1, 2, 3)) ^ mirrored).all()
    assert 440 < mirrored.sum() < 560  # four standard deviations


def test_without_pad_and_flip_nothing_changes():
    images = jnp.asarray(numbered(3).image)
    keys = jax.random.split(jax.random.key(0), 3)
    np.testing.assert_array_equal(Augmentation()(keys, images), images)


@pytest.mark.parametrize(
    ("name", "train", "sentence"),
    [
        ("digit", "train", "did you mean 'digits'"),
        ("cifar100_half", "train", r"did you mean 'cifar100'\?"),
        ("digits", "trian", "no examples in split 'trian'; its splits are"),
        ("digits", "train[:0]", "no examples in split"),
        ("oxford_flowers102", "train", "only datasets whose images all have one size"),
        ("imdb_reviews", "train", "not an image-classification dataset"),
    ],
)
def test_bad_datasets_are_refused_with_a_sentence(name, train, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        data.load_dataset(name, train, "test")
    assert "\n" not in str(caught.value)


def test_a_dataset_that_cannot_be_downloaded_says_what_to_do(monkeypatch, tmp_path):
    def no_network(*args):
        raise OSError("name resolution failed")

    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setattr("socket.getaddrinfo", no_network)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    with pytest.raises(InputError, match=r"tfds build cifar10.*TFDS_DATA_DIR"):
        data.load_dataset("cifar10", "train", "test")
    assert not list(tmp_path.iterdir())


def test_cutout_blanks_one_square_and_nothing_else():
    keys = jax.random.split(jax.random.key(0), 64)
    images = jnp.ones((64, 12, 9, 3))
    cut = np.asarray(jax.jit(Augmentation(cutout=4).cut_out)(keys, images))
    assert set(np.unique(cut)) == {0.0, 1.0}
    whole = 0
    for image in cut:
        assert (image == image[..., :1]).all()
        rows, columns = (np.unique(places) for places in np.nonzero(image[..., 0] == 0))
        blank = np.ones((12, 9))
        blank[np.ix_(rows, columns)] = 0
        np.testing.assert_array_equal(image[..., 0], blank)
        for places, side in ((rows, 12), (columns, 9)):
            assert len(places) == places[-1] - places[0] + 1
            assert len(places) == 4 or (places[0] == 0 or places[-1] == side - 1)
        whole += len(rows) == len(columns) == 4
    assert 0 < whole < 64  # some reach over the edge
    np.testing.assert_array_equal(Augmentation().cut_out(keys, images), images)


# Examples per batch of a process, and number of processes.
SHARES = {"batches": st.integers(1, 12), "count": st.integers(1, 5)}


@given(examples=st.integers(0, 500), **SHARES)
def test_shares_are_even_and_none_runs_dry(examples, batches, count):
    shares = [Share(index, count) for index in range(count)]
    places = [share.of_examples(examples) for share in shares]
    assert [place for part in places for place in part] == list(range(examples))
    assert max(map(len, places)) - min(map(len, places)) <= 1
    batch_size = count * batches
    assert examples // batch_size * batches <= min(map(len, places))
    assert -(-max(map(len, places)) // batches) <= -(-examples // batch_size)
    whole = np.arange(batch_size)
    np.testing.assert_array_equal(
        np.concatenate([whole[s.of_batch(batch_size)] for s in shares]), whole
    )


@given(examples=st.integers(1, 200), start=st.integers(0, 9), **SHARES)
def test_processes_together_have_the_batches_of_one(examples, start, batches, count):
    whole, batch_size = numbered(examples), batches * count
    shares = [dataclasses.replace(whole, share=Share(index, count)) for index in range(count)]

    def compare(batches_of):
        for one, *parts in zip(batches_of(whole), *map(batches_of, shares), strict=True):
            for key, expected in one.items():
                together = np.concatenate([part[key] for part in parts])
                np.testing.assert_array_equal(together, expected)

    compare(lambda split: split.eval_batches(batch_size))
    if batch_size <= examples:
        compare(lambda split: itertools.islice(split.train_batches(batch_size, 0, start), 5))


@pytest.mark.parametrize("index", [-1, 2])
def test_a_share_is_of_a_process_that_there_is(index):
    with pytest.raises(ValueError, match=f"index must be from 0 to 1, not {index}"):
        Share(index, 2)


def test_stated_statistics_replace_those_of_the_dataset():
    plain = data.load_dataset("digits", "train", "test")
    stated = data.load_dataset("digits", "train", "test", mean=(0.25,), std=(0.5,))
    assert (stated.mean, stated.std) == ((63.75,), (127.5,)) != (plain.mean, plain.std)
    with pytest.raises(InputError, match=r"have 3 numbers, but the images have 1 channel"):
        data.load_dataset("digits", "train", "test", mean=(0.5,) * 3, std=(0.5,) * 3)


def test_the_first_use_of_digits_says_nothing_and_needs_neither_tfds_nor_scikit_learn(tmp_path):
    code = (
        "import sys; from senet_jax import data; data.load_dataset('digits', 'train', 'test');"
        "sys.exit(bool({'tensorflow', 'tensorflow_datasets', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"TFDS_DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("train", "evaluation", "shared"),
    [
        ("train[:90]", "train[90:99]", 0),
        ("train", "test", 0),
        ("train[:90]", "train[80:99]", 10),
        ("test+train[:50]", "train[40:60]+test[:5]", 15),
    ],
)
def test_examples_to_train_and_to_evaluate_on_are_told_if_they_are_the_same(
    caplog, train, evaluation, shared
):
    data.load_dataset("digits", train, evaluation)
    warned = [record.getMessage() for record in caplog.records]
    assert len(warned) == bool(shared)
    assert all(message.startswith(f"{shared} of the ") for message in warned)


@pytest.mark.parametrize(
    ("split", "count", "is_told"),
    [
        ("test[:10]+test[10:20]", 20, False),
        ("test[:10]+train[:10]", 20, False),
        ("test[:10]+test[9:20]", 21, True),
        ("test+train[:10]+test[:1]", 371, True),
    ],
)
def test_a_split_that_has_examples_twice_is_told(caplog, split, count, is_told):
    loaded, _ = data.load_split("digits", split)
    assert len(loaded) == count
    warned = [record.getMessage() for record in caplog.records]
    assert any("more than once" in message for message in warned) == is_told
