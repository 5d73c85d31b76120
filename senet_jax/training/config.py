"""The `train` and the `parallel` section of a configuration."""

import dataclasses
import math

from senet_jax.runs.workdir import FINAL, WEIGHTS
from senet_jax.system.devices import BACKENDS, JIT, PMAP
from senet_jax.training.averages import TENSORFLOW, WARMUPS
from senet_jax.training.class_weights import rule
from senet_jax.training.losses import BCE, LOSSES, SOFTMAX

POSITIVE = (
    "epochs",
    "batch_size",
    "eval_every_epochs",
    "log_every_steps",
    "accumulate_steps",
    "checkpoint_every_minutes",
    "keep_checkpoints",
    "steps_per_call",
    "distill_temperature",
)


@dataclasses.dataclass(frozen=True)
class ParallelConfig:
    """The `parallel` section of a configuration, which says how a run is computed, not which.

    Attributes:
      backend: what spreads a step over the devices, see system/devices.py.
      shard_optimizer: whether each device keeps but a part of the optimizer's state and of the
        moving averages (Rajbhandari et al., arXiv 1910.02054, stage 1).

    Raises:
      ValueError: for values that are impossible, alone or together.
    """

    backend: str = PMAP
    shard_optimizer: bool = False

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise ValueError(f"backend must be {', '.join(BACKENDS)}, not {self.backend!r}")
        if self.shard_optimizer and self.backend != JIT:
            raise ValueError(
                f"shard_optimizer=True has no effect with backend={self.backend!r}: leave it at "
                f"False, or choose {JIT}"
            )


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Settings of the training loop; configs/common.py explains the keys.

    Raises:
      ValueError: for values that are impossible, alone or together.
    """

    epochs: float
    batch_size: int
    label_smoothing: float
    freeze_bn_epochs: float
    accumulate_steps: int
    ema_decay: float
    on_nan: str
    sync_batch_norm: bool
    eval_every_epochs: float
    log_every_steps: int
    steps_per_call: int
    profile_steps: tuple[int, int]
    checkpoint_every_minutes: float
    checkpoint_every_steps: int
    keep_checkpoints: int
    keep_best: bool
    class_weights: str = ""  # as in configurations of versions without this key
    patience: int = 0  # as well, and all that follow
    loss: str = SOFTMAX
    target_threshold: float = 0.0
    teacher: str = ""
    teacher_weights: str = FINAL
    distill_weight: float = 0.5
    distill_temperature: float = 1.0
    ema_warmup: str = TENSORFLOW
    swa_epochs: int = 0

    @property
    def has_averages(self) -> bool:
        """Whether weights are averaged, evenly or not."""
        return bool(self.ema_decay or self.swa_epochs)

    def __post_init__(self) -> None:
        for field in POSITIVE:
            if not 0 < getattr(self, field) < math.inf:
                raise ValueError(f"{field} must be above 0, not {getattr(self, field)}")
        self._check_loss()
        self._check_averages()
        if self.checkpoint_every_steps < 0:
            raise ValueError(
                f"checkpoint_every_steps must be at least 0, not {self.checkpoint_every_steps}"
            )
        if self.patience < 0:
            raise ValueError(f"patience must be at least 0, not {self.patience}")
        if tuple(self.profile_steps) != (0, 0) and not (
            len(self.profile_steps) == 2 and 1 <= self.profile_steps[0] <= self.profile_steps[1]
        ):
            raise ValueError(
                "profile_steps must be the first and the last step to trace, from 1 on, or (0, 0), "
                f"not {self.profile_steps}"
            )
        if self.on_nan not in ("stop", "skip"):
            raise ValueError(f"on_nan must be stop or skip, not {self.on_nan!r}")
        if self.sync_batch_norm and self.accumulate_steps > 1:
            raise ValueError(
                "sync_batch_norm=True cannot go with accumulate_steps above 1: parts of a batch "
                "that pass one after another cannot share their statistics"
            )
        if not 0 <= self.freeze_bn_epochs <= self.epochs:
            raise ValueError(
                f"freeze_bn_epochs must be from 0 to the {self.epochs:g} epochs there are, "
                f"not {self.freeze_bn_epochs}"
            )

    def _check_loss(self) -> None:
        rule(self.class_weights)
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1), not {self.label_smoothing}")
        if self.loss not in LOSSES:
            raise ValueError(f"loss must be {' or '.join(LOSSES)}, not {self.loss!r}")
        if not 0 <= self.target_threshold < 1:
            raise ValueError(f"target_threshold must be in [0, 1), not {self.target_threshold}")
        if self.class_weights and self.loss == BCE:
            raise ValueError(
                f"class_weights={self.class_weights!r} cannot go with loss={BCE!r}, in which each "
                "class has a question of its own; choose loss=softmax"
            )
        if self.teacher_weights not in WEIGHTS:
            raise ValueError(
                f"teacher_weights must be one of {', '.join(WEIGHTS)}, not {self.teacher_weights!r}"
            )
        if not 0 < self.distill_weight <= 1:
            raise ValueError(
                f"distill_weight must be above 0 and at most 1, not {self.distill_weight}"
            )

    def _check_averages(self) -> None:
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be in [0, 1), not {self.ema_decay}")
        if self.ema_warmup not in WARMUPS:
            raise ValueError(f"ema_warmup must be {', '.join(WARMUPS)}, not {self.ema_warmup!r}")
        if not 0 <= self.swa_epochs <= self.epochs:
            raise ValueError(
                f"swa_epochs must be from 0 to the {self.epochs:g} epochs there are, "
                f"not {self.swa_epochs}"
            )
        for field in ("ema_decay", "patience"):
            if self.swa_epochs and (value := getattr(self, field)):
                raise ValueError(
                    f"swa_epochs={self.swa_epochs} cannot go with {field}={value}: the weights at "
                    "the ends of the last epochs are averaged evenly"
                )
