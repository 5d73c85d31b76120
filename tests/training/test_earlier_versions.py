"""Work directories that earlier versions began go on as they began."""

import tarfile
from pathlib import Path

import numpy as np
from helpers.runs import tiny_config

from senet_jax.runs import workdir
from senet_jax.training.loop import train_and_evaluate

GOLDEN = Path(__file__).parents[1] / "golden"


def test_a_work_directory_of_an_earlier_version_continues(tmp_path, one_device, capsys):
    """To the losses that this version has from the start; bits depend on the processor."""
    with tarfile.open(GOLDEN / "earlier_run.tar.gz") as archive:
        archive.extractall(tmp_path / "earlier", filter="data")
    config = workdir.load_config(tmp_path / "earlier")
    same = tiny_config(stages=2)
    same.train.ema_decay = 0.9
    ours = train_and_evaluate(same, tmp_path / "ours", one_device)
    continued = train_and_evaluate(config, tmp_path / "earlier", one_device)
    assert "continuing from step 3/8" in capsys.readouterr().err
    for key in ("eval/loss", "eval_ema/loss", "train/loss"):
        np.testing.assert_allclose(continued[key], ours[key], rtol=1e-4)
