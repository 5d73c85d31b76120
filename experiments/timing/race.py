"""A race: processes that take steps in turn, so that a machine that slows down slows all of them.

Each contestant (contestants.py, readers.py) has a process of its own; the others wait while it
works. The first step of a turn is not timed: it pays for caches and memory pages that the others
have taken meanwhile, which steps in a training run do not.
"""

import contextlib
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from senet_jax.errors import InputError, counted
from senet_jax.runs import provenance
from senet_jax.system import processors


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
class Entry:
    """A contestant that takes steps; experiments/timing/contestants.py explains the arguments.

    Attributes:
      who: the contestant's name, one of contestants.CONTESTANTS.
      fields: arguments of `senet_jax.create_model`, with the network's `name`.
      what: the kind of step, "train" or "infer".
      batch: images per step.
      size: side of an image, in pixels.
      counts: numbers of parameters that a twin in PyTorch may have.
    """

    who: str
    fields: Mapping[str, Any]
    what: str
    batch: int
    size: int
    counts: Sequence[int] = ()
    module = "experiments.timing.contestants"

    def arguments(self) -> list[str]:
        words = self.who, json.dumps(self.fields), self.what, self.batch, self.size, *self.counts
        return [str(word) for word in words]


@dataclasses.dataclass(frozen=True)
class Taken:
    """Measurements of a contestant: seconds of each timed step and of compilation, peak memory."""

    seconds: list[float]
    compile_s: float
    peak_gb: float

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def race(
    entries: Mapping[str, Contestant], steps: int, again: str | None = None
) -> tuple[dict[str, Taken], Taken | None]:
    """Build the contestants one after the other, and let them take two timed steps each in turn.

    Args:
      entries: the contestants by name.
      steps: timed steps of each.
      again: name of the contestant that is built once more at the end, in a process that finds its
        programs compiled; None for no such contestant.

    Returns: the measurements by name, and those of the contestant built again.

    Raises: InputError with a contestant's last line of output if it stops.
    """
    with contextlib.ExitStack() as stack:
        cache = stack.enter_context(tempfile.TemporaryDirectory())
        workers, compiled = {}, {}
        for name, entry in entries.items():
            workers[name] = stack.enter_context(_worker(entry, cache))
            compiled[name] = _answer(workers[name])
        seconds: dict[str, list[float]] = {name: [] for name in entries}
        for _ in range(-(-steps // 2) + 1):  # the first turn warms up
            for name, worker in workers.items():
                _, *timed = (_ask(worker, "step") for _ in range(3))
                seconds[name] += timed
        taken = {
            name: Taken(seconds[name][2 : 2 + steps], compiled[name], _ask(worker, "peak"))
            for name, worker in workers.items()
        }
        if again is None:
            return taken, None
        second = stack.enter_context(_worker(entries[again], cache))
        compile_s = _answer(second)
        return taken, Taken([_ask(second, "step")], compile_s, _ask(second, "peak"))


@contextlib.contextmanager
def _worker(entry: Contestant, cache: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", entry.module, *entry.arguments()]
    environment = dict(os.environ)
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


def _ask(worker: subprocess.Popen[str], question: str) -> float:
    assert worker.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # the answer below says why
        print(question, file=worker.stdin, flush=True)
    return _answer(worker)


def _answer(worker: subprocess.Popen[str]) -> float:
    assert worker.stdout is not None
    while line := worker.stdout.readline():
        if line.startswith("answer "):
            return float(line.split()[1])
    assert worker.stderr is not None
    output = worker.stderr.read().strip() or "it said nothing"
    last = output.splitlines()[-1]
    raise InputError(f"a contestant stopped: {last.removeprefix('error: ')}")


def machine() -> str:
    """The conditions that a time depends on: processor, processors in use, and versions."""
    import importlib.metadata

    versions = []
    for package in ("jax", "torch", "timm"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{package} {importlib.metadata.version(package)}")
    host = f"{provenance.processor()}, {counted(len(processors.usable()), 'processor')}"
    return f"{host}, {', '.join(versions)}"
