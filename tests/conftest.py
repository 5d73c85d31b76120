"""Four simulated devices, no accelerator, compilation without optimisation, and data of our own."""

import os
import tempfile

# Commands keep compiled programs in the user's cache; those of tests have none to leave there.
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="senet_jax_tests_")
# Datasets of this worker's own: tests neither read nor write the user's. TFDS reads it on import.
os.environ["TFDS_DATA_DIR"] = tempfile.mkdtemp(prefix="senet_jax_tests_")
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "4"
# Semantics are tested here, not speed, and most of a tiny run is its compilation.
os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0"

import jax
import pytest

from configs import digits


@pytest.fixture
def one_device():
    return jax.local_devices()[:1]


@pytest.fixture
def tiny():
    """A run of seconds: SE-ResNet-20 with one block a stage, on a few digits."""
    config = digits.get_config("seresnet20")
    with config.unlocked():
        config.model.stage_sizes = (1, 1, 1)
        config.model.width = 4
    config.data.train_split = "train[:128]"
    config.data.eval_split = "test[:50]"
    config.train.batch_size = 32
    config.train.epochs = 2.0
    config.train.log_every_steps = 1
    return config
