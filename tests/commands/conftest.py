"""A run on digits, images for it, and the command that says what is in them."""

import json

import numpy as np
import pytest
from helpers.runs import finish_untrained, tiny_config
from PIL import Image

from senet_jax import data, predict


@pytest.fixture
def _leave_the_process_as_it_is(monkeypatch):
    monkeypatch.setattr("senet_jax.system.compilation_cache.enable", lambda: None)
    monkeypatch.setattr("senet_jax.system.host_memory.release_after_compilation", lambda: None)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on digits."""
    directory = tmp_path_factory.mktemp("run")
    finish_untrained(directory, tiny_config(stages=2))
    return directory


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The first images of the test split, as files."""
    folder = tmp_path_factory.mktemp("digits")
    for index, image in enumerate(data.load_dataset("digits", "train", "test").eval.image[:11]):
        Image.fromarray(image[..., 0]).save(folder / f"{index:02}.png")
    return folder


@pytest.fixture(scope="module")
def photograph(tmp_path_factory):
    path = tmp_path_factory.mktemp("photograph") / "cat.png"
    coarse = np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8)
    Image.fromarray(coarse).resize((90, 70), Image.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture
def call(capsys, _leave_the_process_as_it_is):
    """Call the command: what it prints as JSON, and its exit status."""

    def called(*arguments):
        capsys.readouterr()
        status = 0
        try:
            predict.main(["predict", *map(str, arguments), "--json"])
        except SystemExit as ended:
            status = ended.code
        return json.loads(capsys.readouterr().out), status

    return called
