"""A race: processes that take steps in turn, so that a machine that slows down slows all of them.

Each contestant (contestants.py, readers.py) has a process of its own, which answers.py explains;
the others wait while it works. The first step of a turn is not timed: it pays for caches and memory
pages that the others have taken meanwhile, which steps in a training run do not. Contestants that
work ahead while they wait are the exception: of theirs, all work counts.
"""

import contextlib
import dataclasses
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from senet_jax.errors import InputError, counted
from senet_jax.runs import provenance
from senet_jax.system import processors

TURN_S = 1.0  # least seconds of a contestant's two bursts in a turn, for networks of any size


class Contestant(Protocol):
    """A participant in a race: the module that is run, and its arguments."""

    @property
    def who(self) -> str: ...
    @property
    def module(self) -> str: ...
    def arguments(self) -> list[str]: ...


@dataclasses.dataclass(frozen=True)
class Reader:
    """A contestant that reads batches; experiments/timing/readers.py explains the arguments."""

    who: str
    dataset: str
    size: int
    batch: int
    module = "experiments.timing.readers"

    def arguments(self) -> list[str]:
        return [self.who, self.dataset, str(self.size), str(self.batch)]


@dataclasses.dataclass(frozen=True)
class Taken:
    """Measurements of a contestant.

    Attributes:
      seconds: seconds per step of each burst; there are two to a turn.
      burst: steps of a burst.
      compile_s: seconds of compilation.
      facts: what it knows about itself, its peak memory in GB among it.
    """

    seconds: list[float]
    burst: int
    compile_s: float
    facts: Mapping[str, Any]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def peak_gb(self) -> float:
        return self.facts["peak_gb"]

    @property
    def by_turn(self) -> list[float]:
        """Mean seconds per step of each turn that is whole."""
        return [(a + b) / 2 for a, b in zip(self.seconds[::2], self.seconds[1::2], strict=False)]


def race(
    entries: Mapping[str, Contestant],
    bursts: int,
    again: str | None = None,
    turn_s: float = 0.0,
    ahead: bool = False,
) -> tuple[dict[str, Taken], Taken | None]:
    """Build the contestants one after the other, and let them take two timed bursts each in turn.

    Args:
      entries: the contestants by name.
      bursts: timed bursts of each.
      again: name of the contestant that is built once more at the end, in a process that finds its
        programs compiled; None for no such contestant.
      turn_s: least seconds of the two bursts of a turn; each contestant takes as many steps in a
        burst as it needs for that, at least one.
      ahead: whether contestants work ahead while they wait, so that every step of theirs is timed.

    Returns: the measurements by name, and those of the contestant built again.

    Raises: InputError with a contestant's last line of output if it stops.
    """
    with contextlib.ExitStack() as stack:
        cache = stack.enter_context(tempfile.TemporaryDirectory())
        workers, compiled, steps = {}, {}, {}
        for name, entry in entries.items():
            workers[name] = stack.enter_context(_worker(entry, cache))
            compiled[name] = _answer(workers[name])
        for name, worker in workers.items():  # the first turn warms up
            *_, last = (_ask(worker, "steps 1") for _ in range(3))
            steps[name] = steps_for(turn_s / 2, last)
        seconds: dict[str, list[float]] = {name: [] for name in entries}
        for _ in range(-(-bursts // 2)):
            for name, worker in workers.items():
                if not ahead:
                    _ask(worker, "steps 1")
                for _ in range(2):
                    seconds[name].append(_ask(worker, f"steps {steps[name]}") / steps[name])
        taken = {
            name: Taken(seconds[name][:bursts], steps[name], compiled[name], _ask(worker, "facts"))
            for name, worker in workers.items()
        }
        if again is None:
            return taken, None
        second = stack.enter_context(_worker(entries[again], cache))
        compile_s = _answer(second)
        once = _ask(second, "steps 1")
        return taken, Taken([once], 1, compile_s, _ask(second, "facts"))


def steps_for(least_s: float, step_s: float) -> int:
    """Fewest steps, at least one, that last as long if one step takes `step_s` seconds."""
    return max(1, math.ceil(least_s / max(step_s, 1e-6)))


@contextlib.contextmanager
def _worker(entry: Contestant, cache: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", entry.module, *entry.arguments()]
    # Contestants wait in the memory of one GPU, which the first would otherwise take as a whole.
    environment = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"} | dict(os.environ)
    if entry.who == "ours":
        environment["JAX_COMPILATION_CACHE_DIR"] = cache
        environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _ask(worker: subprocess.Popen[str], question: str) -> Any:
    assert worker.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # the answer below says why
        print(question, file=worker.stdin, flush=True)
    return _answer(worker)


def _answer(worker: subprocess.Popen[str]) -> Any:
    assert worker.stdout is not None
    while line := worker.stdout.readline():
        if line.startswith("answer "):
            return json.loads(line.removeprefix("answer "))
    assert worker.stderr is not None
    output = worker.stderr.read().strip() or "it said nothing"
    last = output.splitlines()[-1]
    raise InputError(f"a contestant stopped: {last.removeprefix('error: ')}")


def machine(accelerator: str = "") -> str:
    """The conditions that a time depends on: hardware and versions."""
    import importlib.metadata

    versions = []
    for package in ("jax", "onednn-cpu-gomp", "torch", "timm"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{package} {importlib.metadata.version(package)}")
    return f"{hardware(accelerator)}, {', '.join(versions)}"


def hardware(accelerator: str = "") -> str:
    """What computes: the accelerator by name, or the processor and how many of it are in use."""
    return accelerator or (
        f"{provenance.processor()}, {counted(len(processors.usable()), 'processor')}"
    )
