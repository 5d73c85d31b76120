"""Several runs at once on this machine, each in a process of its own on a share of the devices."""

import concurrent.futures
import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from experiments.grid.plan import PlannedRun
from experiments.launch import kind_of_failure, titles, why_unfinished, worker
from senet_jax.errors import Diverged, InputError, Terminated
from senet_jax.runs import workdir
from senet_jax.system import files, host_memory, processors, startup
from senet_jax.system.terminal import duration
from senet_jax.training.loggers import USUAL

DIVERGED = Diverged.__name__
MEMORY_OF_RUN = 4 * 2**30  # bytes, of networks on images of CIFAR's size and their compilation
# Exit statuses of a worker that are no failure, and the message for each.
MESSAGES = {0: "done", worker.OCCUPIED: "skipped: another process is training there"}


@dataclasses.dataclass(frozen=True)
class Slice:
    """The processors, by number, and GPUs, as CUDA names them, that a process may use."""

    processors: Sequence[int]
    gpus: Sequence[str]

    @property
    def flags(self) -> list[str]:
        """The worker's flags."""
        return [f"--processors={','.join(map(str, self.processors))}"] if self.processors else []

    @property
    def environment(self) -> Mapping[str, str]:
        """The worker's additional environment variables."""
        return {"CUDA_VISIBLE_DEVICES": ",".join(self.gpus)} if self.gpus else {}


def processor_each(most: int) -> list[Slice]:
    """One processor for each run, for at most so many at once as this machine has memory for."""
    count = min(processors.at_once(), most, max(1, host_memory.available() // MEMORY_OF_RUN))
    return [Slice([number], []) for number in processors.usable()[:count]]


def slices_of_machine(jobs: int) -> list[Slice]:
    """Divide the machine equally. Raises: InputError if there are fewer devices than jobs."""
    gpus, usable = visible_gpus(), processors.usable()
    pinned = hasattr(os, "sched_setaffinity")
    count, kind = (len(gpus), "GPUs") if gpus else (len(usable), "processors")
    if not 1 <= jobs <= count:
        raise InputError(
            f"--jobs must be from 1 to {count}, the {kind} of this machine, not {jobs}"
        )

    def part(things: Sequence, index: int) -> Sequence:
        # Without a remainder, so that all runs have as many devices.
        each = len(things) // jobs
        return things[index * each : (index + 1) * each]

    return [Slice(part(usable, i) if pinned else [], part(gpus, i)) for i in range(jobs)]


def has_processors_alone() -> bool:
    """Whether JAX has several processors here and nothing else, without asking JAX."""
    accelerators = importlib.metadata.entry_points(group="jax_plugins") or any(
        importlib.util.find_spec(name) for name in ("jax_plugins", "libtpu")
    )
    is_shared = hasattr(os, "sched_setaffinity") and len(processors.usable()) > 1
    return is_shared and (os.environ.get("JAX_PLATFORMS") == "cpu" or not accelerators)


def visible_gpus() -> list[str]:
    """List the GPUs that JAX would use, without asking JAX, which would take their memory."""
    plugins = importlib.metadata.entry_points(group="jax_plugins")
    platforms = os.environ.get("JAX_PLATFORMS", "cuda")
    if not any("cuda" in plugin.name for plugin in plugins) or not (
        "cuda" in platforms or "gpu" in platforms
    ):
        return []
    if (names := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in names.split(",") if name not in ("", "-1")]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(
        ["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=False
    )
    return [str(index) for index in range(len(listed.stdout.splitlines()))]


class Resident:
    """A worker on a part of the machine that trains one run after the other.

    It starts with the first, and again after whatever ended it. Runs of one row share what it has
    compiled.
    """

    def __init__(self, part: Slice, log: Sequence[str]) -> None:
        self._part, self._log = part, log
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: IO[str] | None = None
        self._is_ending = False
        self.rows: set[str] = set()  # labels of the rows that it has compiled

    def train(self, run: PlannedRun) -> int:
        """Train a run. Returns: its exit status, or that with which the process has ended."""
        if self._process and self._process.poll() is not None:  # killed while it had no run
            self.close()
        if self._process is None:
            reading, writing = os.pipe()
            self._process = worker.start(
                run.workdir, self._log, self._part.flags, self._part.environment, writing
            )
            os.close(writing)
            self._answers = os.fdopen(reading, encoding="ascii")
            if self._is_ending:  # since before there was a process to tell
                self._process.terminate()
        elif self._process.stdin:
            with contextlib.suppress(BrokenPipeError):  # ended meanwhile, which the answer says
                self._process.stdin.write(json.dumps(str(run.workdir)).encode() + b"\n")
                self._process.stdin.flush()
        self.rows.add(run.row.label)
        answer = self._answers.readline() if self._answers else ""
        return int(answer) if answer else self.close()

    def terminate(self) -> None:
        """Ask the process to save and end."""
        self._is_ending = True
        if process := self._process:
            process.terminate()

    def close(self) -> int:
        """Wait until the process has ended, for want of runs at the latest. Returns: its status."""
        self.rows.clear()
        if self._answers:
            self._answers.close()
        if self._process is None:
            return 0
        if self._process.stdin:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        status = self._process.wait()
        self._process = None  # not before: until then it can be told to save
        return status


def train(
    runs: Sequence[PlannedRun],
    parts: Sequence[Slice],
    log: Sequence[str] = USUAL,
    *,
    keep_going: bool = False,
) -> dict[Path, str]:
    """Train as many runs at once as there are parts; skip those that another process trains.

    Args:
      log: names of their loggers.
      keep_going: whether the first run may be refused like any other.

    Raises:
      InputError: if the first run is refused: most likely the others would be, too.
      KeyboardInterrupt: after Ctrl-C, SIGTERM or their like, once all running ones have saved.
    """
    waiting = list(runs)
    names, failures = titles(runs), {}
    residents = [Resident(part, log) for part in parts[: len(runs)]]
    changing, stopping = threading.Lock(), threading.Event()

    def take(resident: Resident) -> PlannedRun | None:
        with changing:
            if not waiting or stopping.is_set():
                return None
            # All rows of a seed before the next seed; of these, one that is compiled already.
            seed = waiting[0].seed
            known = (run for run in waiting if run.seed == seed and run.row.label in resident.rows)
            run = next(known, waiting[0])
            waiting.remove(run)
            return run

    def work(resident: Resident) -> None:
        with contextlib.closing(resident):
            while run := take(resident):
                train_one(resident, run)

    def train_one(resident: Resident, run: PlannedRun) -> None:
        workdir.forget_failure(run.workdir)
        print(f"{names[run.workdir]}: started", flush=True)
        status = resident.train(run)
        why = why_ended(run.workdir, status)
        is_refused = status == worker.REFUSED and kind_of_failure(run.workdir) != DIVERGED
        if why and run is runs[0] and is_refused and not keep_going:
            raise InputError(why)
        if why:
            failures[run.workdir] = why
        outcome = f"failed: {why}" if why else MESSAGES.get(status, "stopped")
        if result := status == 0 and files.read_table(run.workdir / "result.json"):
            took = duration(result["wall_time_seconds"])
            outcome += f" in {took}, top-1 error {result['eval/top1_error']:.2f} %"
        print(f"{names[run.workdir]}: {outcome}", flush=True)

    pool = concurrent.futures.ThreadPoolExecutor(len(parts))
    with _raising():
        try:
            pending = {pool.submit(work, resident) for resident in residents}
            while pending:
                # Of two signals at once another thread may get both, and this one sleep on.
                done, pending = concurrent.futures.wait(
                    pending, timeout=1, return_when=concurrent.futures.FIRST_COMPLETED
                )
                for future in done:
                    future.result()
        except BaseException:
            stopping.set()
            for resident in residents:
                resident.terminate()
            raise
        finally:
            pool.shutdown()
    return failures


def why_ended(directory: Path, status: int) -> str | None:
    """The reason for a failure, from the worker's exit status; None if it is no failure."""
    if status in (*MESSAGES, *worker.STOPPED):
        return None
    if status < 0:
        return workdir.fail(directory, f"its process was killed by {signal.Signals(-status).name}")
    return why_unfinished(directory)


@contextlib.contextmanager
def _raising() -> Iterator[None]:
    """Let signals that stop a command raise here, where otherwise they end it at once.

    Only the first: a second one must not keep the others from being told, or waited for. What is
    ignored, as SIGHUP after `nohup`, stays so.
    """

    came: list[int] = []

    def interrupted(number: int, frame: object = None) -> None:
        came.append(number)
        if len(came) == 1:
            startup.say("waiting for the runs to save")
            raise KeyboardInterrupt if number == signal.SIGINT else Terminated

    before = {
        number: handler
        for number, usual in startup.DEFAULTS.items()
        if (handler := signal.getsignal(number)) in (usual, startup.end_at_once)
    }
    for number in before:
        signal.signal(number, interrupted)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
