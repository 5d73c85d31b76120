"""The course of a run: how many steps it has, and after which something is due."""

import dataclasses
from collections.abc import Iterator

from senet_jax.errors import InputError, counted
from senet_jax.training.config import TrainConfig


@dataclasses.dataclass(frozen=True)
class Plan:
    """The course of a run, in steps.

    Attributes:
      total_steps: length of the run.
      steps_per_epoch: whole batches of the training examples.
      eval_every_steps, log_every_steps: periods of evaluations and of lines of metrics.
      checkpoint_every_steps: period of checkpoints; 0 for none by steps.
      freeze_after: the last step with statistics of the batch; after it batch norm is frozen.
      steps_per_call: most steps that one call of the device does, where nothing else is due.
    """

    total_steps: int
    steps_per_epoch: int
    eval_every_steps: int
    log_every_steps: int
    checkpoint_every_steps: int
    freeze_after: int
    steps_per_call: int

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
            count = most if step + most <= min(ends) else 1
            yield count
            step += count

    def has_line(self, step: int) -> bool:
        """Whether there is a line of metrics after a step."""
        return step % self.log_every_steps == 0 or self.has_evaluation(step)

    def has_evaluation(self, step: int) -> bool:
        """Whether the network is evaluated after a step."""
        return step % self.eval_every_steps == 0 or step == self.total_steps


def plan_steps(train: TrainConfig, examples: int) -> Plan:
    """The run's length and periods, from epochs to steps of so many training examples.

    Raises: InputError if an epoch has no whole batch, or the run more steps than can be counted.
    """
    steps_per_epoch = examples // train.batch_size
    if steps_per_epoch == 0:
        raise InputError(
            f"batch_size {train.batch_size} exceeds the {counted(examples, 'training example')}"
        )
    total_steps = max(1, round(train.epochs * steps_per_epoch))
    if total_steps >= 2**31:  # which the state counts
        raise InputError(f"train.epochs {train.epochs:g} are too many steps: {total_steps:.3g}")
    return Plan(
        total_steps=total_steps,
        steps_per_epoch=steps_per_epoch,
        eval_every_steps=max(1, round(train.eval_every_epochs * steps_per_epoch)),
        log_every_steps=train.log_every_steps,
        checkpoint_every_steps=train.checkpoint_every_steps,
        freeze_after=total_steps - round(train.freeze_bn_epochs * steps_per_epoch),
        steps_per_call=train.steps_per_call,
    )
