"""What a contestant of a race answers, on the way from its process to experiments/timing/race.py.

A line of its output that begins with "answer" holds one value in JSON. The first are the seconds
that it took to get ready. Then it answers the lines that it reads:

    steps N   seconds of N steps that are dispatched in a burst and waited for once, or all seconds
              of work since the last answer, for a contestant that works ahead between questions
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
    work: Callable[[], float] | None = None,
    facts: Mapping[str, Callable[[], Any]] | None = None,
) -> None:
    """Answer with `seconds`, the time to get ready, then answer whatever is asked.

    Args:
      steps: takes that many steps and returns when the last one is done.
      seconds: the time that it took to get ready.
      work: seconds of work so far, for a contestant that works ahead: what it does while it waits
        belongs to its next answer. None if it only works while it takes steps.
      facts: functions by name, called when facts are asked for.
    """
    _answer(seconds)
    clock = work or time.perf_counter
    start = clock()
    for line in sys.stdin:
        question, *numbers = line.split()
        if question == "steps":
            start = start if work else clock()
            steps(int(numbers[0]))
            start, before = clock(), start
            _answer(start - before)
        else:
            kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            known = {"peak_gb": kilobytes / 1e6}  # before the others, which take memory themselves
            known |= {name: fact() for name, fact in (facts or {}).items()}
            _answer(known)


def _answer(value: Any) -> None:
    print("answer", json.dumps(value), flush=True)
