"""Keys that came after the first configurations, so that runs of before go on."""

from typing import Any

# Keys that say how a run is computed, not which, with what was so before; they may change.
MEANS = {"parallel.backend": "pmap", "parallel.shard_optimizer": False}
# Keys that configurations of earlier versions lack, with what was so then; None where that goes on
# as it began, whatever is chosen now.
ADDED: dict[str, Any] = MEANS | {
    "data.erasing": 0.0,
    "data.fold": [],
    "data.image": "",
    "data.label": "",
    "data.trivialaugment": False,
    "model.drop_path": 0.0,
    "model.weights": None,
    "optim.alpha": 0.9,
    "optim.betas": [0.9, 0.999],
    "optim.eps": 0.0,
    "optim.name": "sgd",
    "train.class_weights": "",
    "train.distill_temperature": 1.0,
    "train.distill_weight": 0.5,
    "train.loss": "softmax",
    "train.patience": 0,
    "train.target_threshold": 0.0,
    "train.teacher": "",
    "train.teacher_weights": "final",
}
