"""Keys that came after the first configurations, so that runs of before go on."""

from typing import Any

# Keys that say how a run is computed, not which, with what was so before; they may change.
MEANS = {"parallel.backend": "pmap", "parallel.shard_optimizer": False}
# Keys that configurations of earlier versions lack, with what was so then; None where that goes on
# as it began, whatever is chosen now.
ADDED: dict[str, Any] = MEANS | {
    "data.autoaugment": "",
    "data.cutmix_probability": 0.5,
    "data.erasing": 0.0,
    "data.erasing_mode": "pixel",
    "data.eval_size": 0,
    "data.first_size": 0,
    "data.fold": [],
    "data.image": "",
    "data.label": "",
    "data.mix_probability": 1.0,
    "data.randaugment_kind": "torchvision",
    "data.randaugment_std": 0.0,
    "data.repeats": 1,
    "data.size_stages": 4,
    "data.trivialaugment": False,
    "model.drop_path": 0.0,
    "model.weights": None,
    "optim.alpha": 0.9,
    "optim.betas": [0.9, 0.999],
    "optim.eps": 0.0,
    "optim.name": "sgd",
    "optim.warmup_steps": 0,
    "train.class_weights": "",
    "train.distill_temperature": 1.0,
    "train.distill_weight": 0.5,
    "train.ema_warmup": "tensorflow",
    "train.loss": "softmax",
    "train.patience": 0,
    "train.swa_epochs": 0,
    "train.target_threshold": 0.0,
    "train.teacher": "",
    "train.teacher_weights": "final",
}
