"""The course of a run: how many steps it has, and after which something is due."""

import dataclasses
from collections.abc import Iterator

from senet_jax.errors import InputError, counted
from senet_jax.training.config import TrainConfig


@dataclasses.dataclass(frozen=True)
class Growth:
    """Sizes of training images that grow with the run, in equal parts of its length.

    Small images first take less time and regularise less (Tan and Le, arXiv 2104.00298, section 4).

    Attributes:
      first_size: the smaller side at first, in pixels; 0 for no growth.
      size_stages: number of sizes, the last of which is that of the data; the others are evenly
        between.

    Raises:
      ValueError: for values that are no sizes.
    """

    first_size: int = 0
    size_stages: int = 4

    def __post_init__(self) -> None:
        if self.first_size < 0:
            raise ValueError(f"first_size must be at least 0, not {self.first_size}")
        if self.size_stages < 2:
            raise ValueError(f"size_stages must be at least 2, not {self.size_stages}")

    def stages(self, full: int, total_steps: int) -> tuple[tuple[int, int], ...]:
        """The last step of each stage but the last one, and the size of its images.

        Args:
          full: the smaller side of the data's images.

        Raises: InputError if these are not larger, or the run has too few steps.
        """
        if not self.first_size:
            return ()
        if self.first_size >= full:
            raise InputError(
                f"data.first_size {self.first_size} must be below the {full} pixels of the images"
            )
        count = self.size_stages
        if count > min(total_steps, full - self.first_size + 1):
            raise InputError(
                f"data.size_stages {count} are too many from {self.first_size} to {full} pixels in "
                f"{total_steps:,} steps"
            )
        more = (full - self.first_size) / (count - 1)
        return tuple(
            (total_steps * (number + 1) // count, round(self.first_size + number * more))
            for number in range(count - 1)
        )


@dataclasses.dataclass(frozen=True)
class Plan:
    """The course of a run, in steps.

    Attributes:
      total_steps: length of the run.
      steps_per_epoch: whole batches of the training examples.
      eval_every_steps, log_every_steps: periods of evaluations and of lines of metrics.
      checkpoint_every_steps: period of checkpoints; 0 for none by steps.
      freeze_after: the last step with statistics of the batch; after it batch norm is frozen.
      average_from: the first step whose weights are averaged evenly; 0 for none.
      stages: the last steps of stages with smaller images, and their sizes, see Growth.
      steps_per_call: most steps that one call of the device does, where nothing else is due.
    """

    total_steps: int
    steps_per_epoch: int
    eval_every_steps: int
    log_every_steps: int
    checkpoint_every_steps: int
    freeze_after: int
    steps_per_call: int
    average_from: int = 0
    stages: tuple[tuple[int, int], ...] = ()

    def calls(self, start: int) -> Iterator[int]:
        """How many steps each call does, from after step `start` to the end of the run.

        These are `steps_per_call`, but no more than lie between two evaluations or two checkpoints;
        or one where so many would go past an evaluation, a checkpoint or where batch norm is
        frozen. It is a function of the step alone, so that a run that continues makes the calls of
        one that was not interrupted.
        """
        periods = [self.eval_every_steps, self.checkpoint_every_steps or self.total_steps]
        most, step = min(self.steps_per_call, *periods), start
        while step < self.total_steps:
            ends = [(step // period + 1) * period for period in periods]
            ends += [end for end in (self.freeze_after, self.total_steps) if end > step]
            ends += [end for end, _ in self.stages if end > step]
            count = most if step + most <= min(ends) else 1
            yield count
            step += count

    def size_after(self, step: int) -> int:
        """The size of images in the step after this one; 0 for that of the data."""
        return next((size for end, size in self.stages if step < end), 0)

    def has_line(self, step: int) -> bool:
        """Whether there is a line of metrics after a step."""
        return step % self.log_every_steps == 0 or self.has_evaluation(step)

    def has_evaluation(self, step: int) -> bool:
        """Whether the network is evaluated after a step."""
        return step % self.eval_every_steps == 0 or step == self.total_steps


def plan_steps(train: TrainConfig, examples: int, growth: Growth = Growth(), full: int = 0) -> Plan:
    """The run's length and periods, from epochs to steps of so many training examples.

    Args:
      growth: how images grow, and `full`, to which smaller side.

    Raises: InputError if an epoch has no whole batch, if the run has more steps than can be
      counted, or if batch norm is frozen before images have grown.
    """
    steps_per_epoch = examples // train.batch_size
    if steps_per_epoch == 0:
        raise InputError(
            f"batch_size {train.batch_size} exceeds the {counted(examples, 'training example')}"
        )
    total_steps = max(1, round(train.epochs * steps_per_epoch))
    if total_steps >= 2**31:  # which the state counts
        raise InputError(f"train.epochs {train.epochs:g} are too many steps: {total_steps:.3g}")
    stages = growth.stages(full, total_steps)
    freeze_after = total_steps - round(train.freeze_bn_epochs * steps_per_epoch)
    if stages and freeze_after < stages[-1][0]:
        raise InputError(
            f"train.freeze_bn_epochs {train.freeze_bn_epochs:g} would freeze batch norm at step "
            f"{freeze_after:,}, and images have grown by step {stages[-1][0]:,}: choose fewer, or "
            "leave data.first_size at 0"
        )
    return Plan(
        total_steps=total_steps,
        steps_per_epoch=steps_per_epoch,
        eval_every_steps=max(1, round(train.eval_every_epochs * steps_per_epoch)),
        log_every_steps=train.log_every_steps,
        checkpoint_every_steps=train.checkpoint_every_steps,
        freeze_after=freeze_after,
        steps_per_call=train.steps_per_call,
        average_from=max(1, total_steps - (train.swa_epochs - 1) * steps_per_epoch)
        if train.swa_epochs
        else 0,
        stages=stages,
    )
