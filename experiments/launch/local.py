"""Several runs at once on this machine, each in a process of its own on a share of the devices."""

import concurrent.futures
import contextlib
import dataclasses
import importlib.metadata
import os
import queue
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from experiments.grid.plan import PlannedRun
from experiments.launch import titles, why_unfinished, worker
from senet_jax.errors import InputError, Terminated
from senet_jax.runs import workdir
from senet_jax.system import processors, startup
from senet_jax.training.loggers import USUAL

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


def train(
    runs: Sequence[PlannedRun], parts: Sequence[Slice], log: Sequence[str] = USUAL
) -> dict[Path, str]:
    """Train as many runs at once as there are parts; skip those that another process trains.

    Args:
      log: names of their loggers.

    Raises: KeyboardInterrupt after Ctrl-C, SIGTERM or their like, once all running ones have saved.
    """
    free: queue.Queue[Slice] = queue.Queue()
    for part in parts:
        free.put(part)
    names, failures = titles(runs), {}
    running: set[subprocess.Popen[bytes]] = set()
    stopping = threading.Event()

    def one(run: PlannedRun) -> None:
        part = free.get()
        workdir.forget_failure(run.workdir)
        print(f"{names[run.workdir]}: started", flush=True)
        process = worker.start(run.workdir, log, part.flags, part.environment)
        running.add(process)
        if stopping.is_set():  # since before the process was in `running`
            process.terminate()
        status = process.wait()
        running.discard(process)
        free.put(part)
        why = why_ended(run.workdir, status)
        if why:
            failures[run.workdir] = why
        outcome = f"failed: {why}" if why else MESSAGES.get(status, "stopped")
        print(f"{names[run.workdir]}: {outcome}", flush=True)

    pool = concurrent.futures.ThreadPoolExecutor(len(parts))
    with _raising():
        try:
            pending = {pool.submit(one, run) for run in runs}
            while pending:
                # Of two signals at once another thread may get both, and this one sleep on.
                done, pending = concurrent.futures.wait(
                    pending, timeout=1, return_when=concurrent.futures.FIRST_COMPLETED
                )
                for future in done:
                    future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            stopping.set()
            for process in list(running):
                process.terminate()
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
