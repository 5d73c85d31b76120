"""What a contestant of a race answers, on the way from its process to experiments/timing/race.py.

A line of its output that begins with "answer" holds one value in JSON. The first are the seconds
that it took to get ready. Then it answers the lines that it reads:

    steps N   seconds of N steps that are dispatched in a burst and waited for once
    facts     its peak memory in GB, and what else it knows, by name
"""

import json
import resource
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

Steps = Callable[[int], None]


def serve(
    steps: Steps,
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
    facts: Mapping[str, Callable[[], Any]] | None = None,
) -> None:
    """Answer with `seconds`, the time to get ready, then answer whatever is asked.

    Args:
      steps: takes that many steps and returns when the last one is done.
      seconds: the time that it took to get ready.
      clock: the clock that steps are timed with, in seconds.
      facts: functions by name, called when facts are asked for.
    """
    _answer(seconds)
    for line in sys.stdin:
        question, *numbers = line.split()
        if question == "steps":
            start = clock()
            steps(int(numbers[0]))
            _answer(clock() - start)
        else:
            kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            known = {"peak_gb": kilobytes / 1e6}  # before the others, which take memory themselves
            known |= {name: fact() for name, fact in (facts or {}).items()}
            _answer(known)


def _answer(value: Any) -> None:
    print("answer", json.dumps(value), flush=True)
