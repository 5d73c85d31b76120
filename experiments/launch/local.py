"""Several runs at once on this machine, each in a process of its own on a share of the devices."""

import concurrent.futures
import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from experiments.grid.plan import PlannedRun
from experiments.launch import kind_of_failure, titles, why_unfinished, worker
from experiments.launch.resident import Resident
from senet_jax.errors import Diverged, InputError, Terminated
from senet_jax.runs import workdir
from senet_jax.system import files, host_memory, processors, startup
from senet_jax.system.terminal import duration
from senet_jax.training.loggers import USUAL

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


class Crew:
    """Workers, one on each part of the machine, and the runs that wait for them."""

    def __init__(
        self,
        runs: Sequence[PlannedRun],
        parts: Sequence[Slice],
        log: Sequence[str],
        *,
        keep_going: bool,
    ) -> None:
        self.failures: dict[Path, str] = {}
        self.workers = [Resident(part.flags, part.environment, log) for part in parts]
        self._names, self._waiting = titles(runs), list(runs)
        self._first = None if keep_going else runs[0]
        self._lock, self._is_stopping = threading.Lock(), False

    def work(self, resident: Resident) -> None:
        """Have a worker train what is left. Raises: InputError if the first run is refused."""
        with contextlib.closing(resident):
            while run := self._next_for(resident):
                self._train(run, resident)

    def stop(self) -> None:
        """Have all workers save and end."""
        with self._lock:
            self._waiting.clear()
            self._is_stopping = True
        for resident in self.workers:
            resident.terminate()

    def _next_for(self, resident: Resident) -> PlannedRun | None:
        """A run of the first seed that is left, of a row that the worker has compiled if any is."""
        with self._lock:
            seeds = [run.seed for run in self._waiting[:1]]
            runs = [run for run in self._waiting if run.seed in seeds]
            if not runs:
                return None
            run = next((run for run in runs if run.row.label in resident.rows), runs[0])
            self._waiting.remove(run)
            return run

    def _train(self, run: PlannedRun, resident: Resident) -> None:
        directory, name = run.workdir, self._names[run.workdir]
        say(f"{name}: started")
        try:
            workdir.forget_failure(directory)
            status = resident.train(run)
            why = why_ended(directory, status, expected=self._is_stopping)
        except InputError as error:
            status, why = worker.REFUSED, workdir.fail(directory, error)
        is_refused = status == worker.REFUSED and kind_of_failure(directory) != Diverged.__name__
        if why and is_refused and run is self._first:
            raise InputError(why)
        if why:
            self.failures[directory] = why
        outcome = f"failed: {why}" if why else MESSAGES.get(status, "stopped")
        if result := status == 0 and files.read_table(directory / "result.json"):
            took = duration(result["wall_time_seconds"])
            outcome += f" in {took}, top-1 error {result['eval/top1_error']:.2f} %"
        say(f"{name}: {outcome}")


def say(text: str) -> None:
    """Print a line as a whole: other threads print theirs."""
    print(f"{text}\n", end="", flush=True)


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
    crew = Crew(runs, parts[: len(runs)], log, keep_going=keep_going)
    pool = concurrent.futures.ThreadPoolExecutor(len(crew.workers))
    with _raising():
        try:
            pending = {pool.submit(crew.work, resident) for resident in crew.workers}
            while pending:
                # Of two signals at once another thread may get both, and this one sleep on.
                done, pending = concurrent.futures.wait(
                    pending, timeout=1, return_when=concurrent.futures.FIRST_COMPLETED
                )
                for future in done:
                    future.result()
        except BaseException:
            crew.stop()
            raise
        finally:
            pool.shutdown()
    return crew.failures


def why_ended(directory: Path, status: int, *, expected: bool) -> str | None:
    """The reason for a failure, from the worker's exit status; None if it is no failure.

    Args:
      expected: whether the worker was asked to save and end.
    """
    if status in MESSAGES or (expected and status in worker.STOPPED):
        return None
    if status in worker.STOPPED:
        return workdir.fail(directory, "its process alone was told to end")
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
