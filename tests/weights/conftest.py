"""A folder of weights for the tests of this room."""

import json

import numpy as np
import pytest
from helpers.weights import SMALL, THREE, state_dict
from safetensors.numpy import save_file


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A folder as timm's hub has them: MobileNet with three classes."""
    path = tmp_path_factory.mktemp("weights")
    counters = {"bn1.num_batches_tracked": np.array(7)}
    save_file(state_dict(SMALL, **THREE) | counters, path / "model.safetensors")
    images = {"crop_pct": 0.5, "mean": [0.5, 0.5, 0.5], "tag": "ours", "test_crop_pct": None}
    config = {"architecture": SMALL, "num_classes": 3, "pretrained_cfg": images}
    (path / "config.json").write_text(json.dumps(config))
    return path
