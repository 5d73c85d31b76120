"""Work directories that earlier versions began go on as they began, and others start from them."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers.runs import finish_untrained, tiny_config

from configs import finetune
from senet_jax.errors import InputError
from senet_jax.runs import workdir
from senet_jax.system import files
from senet_jax.training.loop import train_and_evaluate
from senet_jax.training.prepare import prepare
from senet_jax.training.start import resolve_config

GOLDEN = Path(__file__).parents[1] / "golden"


def test_a_work_directory_of_an_earlier_version_continues(tmp_path, one_device, capsys):
    """To the losses that this version has from the start; bits depend on the processor."""
    with zipfile.ZipFile(GOLDEN / "earlier_run.zip") as archive:
        archive.extractall(tmp_path / "earlier")
    config = workdir.load_config(tmp_path / "earlier")
    same = tiny_config(stages=2)
    same.train.ema_decay = 0.9
    ours = train_and_evaluate(same, tmp_path / "ours", one_device)
    continued = train_and_evaluate(config, tmp_path / "earlier", one_device)
    assert "continuing from step 3/8" in capsys.readouterr().err
    for key in ("eval/loss", "eval_ema/loss", "train/loss"):
        np.testing.assert_allclose(continued[key], ours[key], rtol=1e-4)


def test_what_the_other_run_left_idle_or_drew_for_itself_is_not_taken_over(tmp_path, one_device):
    config = tiny_config()
    config.model.zero_init_last_bn = True
    config.model.se.stages = ()
    finish_untrained(tmp_path / "x", config)
    stored = files.read_json(tmp_path / "x" / "config.json")
    stored["model"]["se"]["ratio"] = 4  # of a version that did not refuse it
    files.write_json(tmp_path / "x" / "config.json", stored)
    records = {"mean": [0.3], "std": [0.4], "image_shape": [8, 8, 1]}
    result = files.read_json(tmp_path / "x" / "result.json") | records
    files.write_json(tmp_path / "x" / "result.json", result)
    tuned = finetune.get_config("digits,seresnet20_cifar")
    tuned.model.pretrained = str(tmp_path / "x")
    filled = resolve_config(tuned, tmp_path / "y")
    assert (filled.model.zero_init_last_bn, filled.model.se.ratio) == (False, 16)
    assert filled.model.se.stages == ()
    assert prepare(filled, one_device)
    with tuned.unlocked():
        tuned.model.zero_init_last_bn = True
    with pytest.raises(InputError, match="last_bn=True has no effect with model"):
        resolve_config(tuned, tmp_path / "y")
