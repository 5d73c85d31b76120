"""A vote of all processes that train together, by a program on their devices."""

import collections

import jax
import numpy as np

from senet_jax.system.devices import AXIS, Devices, local_devices, map_step, sum_over_devices


class Agreement:
    """A vote of all processes: an answer is yes, everywhere, if any process says yes.

    Every process must vote at the same places. Where there are several, the answers are those of
    `delay` calls ago, so that no process waits for the steps that are queued.
    """

    def __init__(self, devices: Devices, delay: int = 0) -> None:
        self._devices, self._delay = local_devices(devices), delay
        self._answers: collections.deque[jax.Array] = collections.deque()
        self._any = map_step(  # whatever the backend of the steps: votes are a process's own
            lambda _, votes: sum_over_devices(votes, AXIS), tuple(devices), donate_state=False
        )

    def __call__(self, *votes: bool) -> tuple[bool, ...]:
        """Vote on some questions at once, and hear the answers."""
        if jax.process_count() == 1:
            return votes
        per_device = np.tile(np.array(votes, np.int32), (len(self._devices), 1))
        self._answers.append(self._any((), per_device))
        if len(self._answers) <= self._delay:
            return (False,) * len(votes)
        return tuple((np.asarray(self._answers.popleft()) > 0).tolist())

    def forget(self) -> None:
        """Make void all votes so far; the next `delay` answers are no."""
        self._answers.clear()
