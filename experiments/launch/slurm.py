"""Runs as jobs of a SLURM cluster, through submitit: one array with one task per run.

A job that is preempted, or reaches its time limit, saves and goes back to the queue, as often as it
takes. The launcher only waits: all it knows comes from the queue and the work directories.
"""

import contextlib
import io
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.grid.plan import PlannedRun
from experiments.launch import WITHOUT_RESULT, last_lines, titles, why_unfinished, worker
from senet_jax.errors import InputError, counted
from senet_jax.runs import lock, workdir
from senet_jax.system import files, startup
from senet_jax.training.loggers import USUAL

JOB = "job.json"  # the latest job of a run, in its work directory
REQUEUES = 1000  # time-outs per job, each of which has brought it further
UNLIMITED = 1000  # jobs at once, as far as submitit is concerned
POLL = 10.0  # seconds between two looks at the queue
PATIENCE = 30  # looks without an answer
# What a surrounding job says of itself, and what of it is about the cluster.
OF_A_JOB = ("SLURM_", "SBATCH_", "SRUN_", "PMI_", "PMIX_")
OF_THE_CLUSTER = ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_JWT")
# Paths that sbatch and submitit take as they are: % begins a pattern, and lines end options.
PLAIN_PATH = re.compile(r"[\w@+=:,./-]*", re.ASCII)
MAX_ARRAY_SIZE = re.compile(r"^MaxArraySize\s*=\s*(\d+)", re.MULTILINE)
TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<clock>\d+(?::\d+){0,2})")


class Training:
    """The work of a job: start the worker in a process of its own, so that signals reach it there.

    submitit calls it, and at a time-out or preemption asks for a `checkpoint` and requeues the job.
    """

    def __init__(self, directory: Path, log: Sequence[str]) -> None:
        self.directory, self.log = directory, log
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> None:
        import submitit

        # Their worker gets them as well, and saves.
        for number in startup.DEFAULTS.keys() - {signal.SIGINT}:
            signal.signal(number, self._terminated)
        together = submitit.JobEnvironment().num_tasks > 1
        self._process = worker.start(
            self.directory, self.log, ["--distributed"] if together else []
        )
        while (status := self._process.poll()) is None:
            time.sleep(1)  # not wait: NumPy's threads may get the signals that are to end it
        if status in worker.STOPPED:
            sys.exit(143)  # so that submitit, too, sees no result
        if status:
            raise RuntimeError(f"the worker ended with status {status}: {self.directory}")

    def checkpoint(self) -> Any:
        """End the worker, which saves, and return what the job does when it runs again."""
        import submitit

        self._end()
        return submitit.helpers.DelayedSubmission(Training(self.directory, self.log))

    def _end(self) -> None:
        if self._process is not None:
            self._process.terminate()
            # Not Popen.wait, which this signal has interrupted and which holds a lock.
            with contextlib.suppress(ChildProcessError):  # it has been waited for
                os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)

    def _terminated(self, number: int, frame: object = None) -> None:
        # Preemption with a time of grace begins with SIGTERM, and so does the end of a job that was
        # cancelled: only a job that is to go on goes back to the queue. The other signals are those
        # that sbatch may be asked to send before the time limit.
        job = f"--jobs={os.environ.get('SLURM_JOB_ID')}"
        if _squeue(job, "--format=%T").stdout.strip() == "RUNNING":
            os.kill(os.getpid(), signal.SIGUSR2)  # submitit's
        else:
            self._end()


class Slurm:
    """The launcher: submits what is not in the queue yet, and waits for all.

    Args:
      parameters: sbatch's parameters by name; those without a value are True.
      folder: submitit's folder for its files, on storage that the machines share; see `folder_for`.
      jobs: the largest number of runs at once; None for as many as the cluster allows.
      log: names of the runs' loggers.

    Raises: InputError if this machine lacks SLURM or submitit, or a parameter is not valid.
    """

    def __init__(
        self,
        parameters: Mapping[str, str | bool],
        folder: Path,
        jobs: int | None,
        log: Sequence[str] = USUAL,
    ) -> None:
        of_sbatch = {key.replace("_", "-"): value for key, value in parameters.items()}
        of_sbatch |= {} if "no-requeue" in of_sbatch else {"requeue": True}
        # The parameters that submitit counts with; sbatch gets all others as they are.
        of_submitit = {"time": _minutes(of_sbatch.get("time"))}
        for key in {"nodes", "ntasks-per-node"} & of_sbatch.keys():
            of_submitit[key.replace("-", "_")] = _count(key, of_sbatch.pop(key))
        self.jobs, self.log = jobs, log
        self.executor = executor(folder_for(folder))
        self.executor.update_parameters(
            **of_submitit,
            job_name=of_sbatch.pop("job-name", "senet_jax"),
            array_parallelism=jobs or UNLIMITED,
            wckey=None,  # submitit's name, which accounting might not know
            additional_parameters=of_sbatch,
        )

    def __call__(self, runs: Sequence[PlannedRun]) -> dict[Path, str]:
        """Train the runs. Raises: InputError if sbatch refuses the jobs."""
        jobs = {run.workdir: _earlier_job(run.workdir) for run in runs}
        queued = queue()
        missing = [directory for directory, job in jobs.items() if job not in queued]
        if len(missing) < len(runs):
            print(f"{len(runs) - len(missing)} of {len(runs)} runs are in the queue already")
        print("waiting; Ctrl-C does not end the jobs, and the same command waits for them again")
        names, failures = titles(runs), {}
        waiting = {path: job for path, job in jobs.items() if path not in missing}
        size = largest_array() if len(missing) > 1 else 1
        for start in range(0, len(missing), size):
            if start and self.jobs:  # each array by itself has so many at once
                failures |= _wait(names, waiting, self.executor.folder)
                waiting = {}
            waiting |= self._submit(missing[start : start + size])
        return failures | _wait(names, waiting, self.executor.folder)

    def _submit(self, directories: Sequence[Path]) -> dict[Path, str]:
        """Submit one array of jobs; returns their names."""
        from submitit.core.utils import FailedJobError

        try:
            with (
                contextlib.redirect_stderr(io.StringIO()),
                outside_of_a_job(),
                self.executor.batch(),
            ):
                tasks = [Training(path.absolute(), self.log) for path in directories]
                jobs = [self.executor.submit(task) for task in tasks]
        except FailedJobError as error:
            reason = re.sub(r"^sbatch: (error: )?", "", str(error).strip(), flags=re.MULTILINE)
            raise InputError(
                f"sbatch refuses the jobs: {'; '.join(reason.splitlines())}"
            ) from error
        names = {path: job.job_id for path, job in zip(directories, jobs, strict=True)}
        for path, name in names.items():
            files.write_json(path / JOB, {"job": name})
            workdir.forget_failure(path)
        print(f"{counted(len(names), 'job')} submitted: {', '.join(names.values())}", flush=True)
        return names


def executor(folder: Path) -> Any:
    """Make submitit's executor for SLURM. Raises: InputError if this machine lacks either."""
    if shutil.which("sbatch") is None:
        raise InputError(
            "--launcher=slurm needs sbatch, which this machine lacks; start it where jobs are "
            "submitted, or use --launcher=local"
        )
    try:
        import submitit
    except ImportError as error:
        raise InputError(
            "--launcher=slurm needs submitit, which is not installed: pip install -e '.[slurm]'"
        ) from error
    return submitit.SlurmExecutor(folder, max_num_timeout=REQUEUES)


def folder_for(folder: Path) -> Path:
    """The folder, or one in the nearest folder above it whose path is taken as it is.

    Raises: InputError if there is none that can be written to.
    """
    folder = folder.absolute()
    if PLAIN_PATH.fullmatch(str(folder)):
        return folder
    for above in folder.parents:
        if PLAIN_PATH.fullmatch(str(above)) and above.is_dir() and os.access(above, os.W_OK):
            return above / "senet_jax_slurm"
    raise InputError(
        f"SLURM does not take {str(folder)!r} as it is, nor can a folder be made above it: give a "
        "--workdir of letters, digits and . _ - only"
    )


@contextlib.contextmanager
def outside_of_a_job() -> Iterator[None]:
    """Take a surrounding job's variables from the environment: new jobs would inherit them.

    They say how many tasks and processors, and how much memory, that job has. Outside of a job such
    variables are the user's own defaults, and stay.
    """
    inside = "SLURM_JOB_ID" in os.environ
    names = [n for n in os.environ if n.startswith(OF_A_JOB) and n not in OF_THE_CLUSTER]
    of_the_job = {name: os.environ.pop(name) for name in names if inside}
    try:
        yield
    finally:
        os.environ.update(of_the_job)


def largest_array() -> int:
    """The most jobs that the cluster takes as one array; a thousand, its default, if unsaid."""
    command = ["scontrol", "show", "config"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except OSError:
        said = ""
    found = MAX_ARRAY_SIZE.search(said)
    return max(1, int(found[1])) if found else 1000


def queue() -> set[str]:
    """The user's jobs that wait, run or are about to end. Raises: InputError if squeue fails."""
    reason = ""
    for attempt in range(PATIENCE):
        if attempt:
            time.sleep(POLL)  # the controller may be restarting
        answer = _squeue("--me", "--array", "--format=%i")
        if answer.returncode == 0:
            return set(answer.stdout.split())
        reason = answer.stderr.strip()
        if not attempt:
            print(f"squeue does not answer, asking for {PATIENCE * POLL:g} s: {reason}", flush=True)
    raise InputError(f"squeue does not answer: {reason}")


def _squeue(*flags: str) -> "subprocess.CompletedProcess[str]":
    command = ["squeue", "--noheader", *flags]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _wait(names: Mapping[Path, str], jobs: Mapping[Path, str], folder: Path) -> dict[Path, str]:
    """Wait until each run has a result, or neither a job nor another process that trains it."""
    failures, gone, waiting = {}, set(), dict(jobs)
    while waiting:
        queued = queue()
        for directory, job in list(waiting.items()):
            why = why_unfinished(directory)
            if why is not None and (job in queued or lock.last_process(directory).get("alive")):
                continue
            if why is not None and directory not in gone:
                gone.add(directory)  # its last files may still be on their way here
                continue
            if why == WITHOUT_RESULT:
                lines = [line for path in folder.glob(f"{job}_*.err") for line in last_lines(path)]
                why = workdir.fail(directory, f"job {job} {': '.join((why, *lines[-1:]))}")
            if why is not None:
                failures[directory] = why
            print(f"{names[directory]}: {'done' if why is None else f'failed: {why}'}", flush=True)
            del waiting[directory]
        if waiting:
            time.sleep(POLL)
    return failures


def _earlier_job(directory: Path) -> str:
    """The name of the latest job of a run; "" if it had none."""
    return (files.read_json(directory / JOB) or {}).get("job", "")


def _minutes(text: str | bool | None) -> int:
    if text is None:
        raise InputError(
            "give --slurm.time, after which a run goes back to the queue, like --slurm.time=4:00:00"
        )
    match = TIME.fullmatch(str(text))
    if match is None:
        raise InputError(f"--slurm.time must be like 30, 4:00:00 or 1-12:00:00, not {text!r}")
    numbers = [int(number) for number in match["clock"].split(":")]
    if match["days"]:
        hours, minutes, seconds = (*numbers, 0, 0)[:3]
    else:  # minutes, minutes:seconds or hours:minutes:seconds
        hours, minutes, seconds = ((0, *numbers, 0) if len(numbers) < 3 else numbers)[:3]
    return math.ceil(int(match["days"] or 0) * 24 * 60 + hours * 60 + minutes + seconds / 60)


def _count(key: str, text: str | bool) -> int:
    if not str(text).isdecimal() or not int(text):
        raise InputError(f"--slurm.{key} must be a whole number from 1, not {text!r}")
    return int(text)
