"""Grids by every launcher: nothing twice, failures one by one, and the same bits in the end.

The file is long because every promise is held by each launcher in turn.
"""

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import submitit
from helpers.disks import mounted
from helpers.quick import one_in
from helpers.runs import same
from helpers.studies import BIAS, grid

from configs import finetune
from experiments.grid.plan import PlannedRun
from experiments.launch import LOG, in_waves, launch, local, serial, slurm, worker
from experiments.launch.choice import slurm_parameters
from senet_jax.errors import InputError, Terminated
from senet_jax.runs import lock, workdir
from senet_jax.training.loop import train_and_evaluate

pytestmark = pytest.mark.usefixtures("hangup_is_answered")

ROOT = Path(__file__).parents[2]


def wait_for(condition, seconds=400):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def steps(directory):
    path = directory / "metrics.jsonl"
    return len(path.read_bytes().splitlines()) if path.exists() else 0


def test_the_machine_is_shared_without_a_remainder(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {2, 3, 5, 7, 8}, raising=False)
    monkeypatch.setattr(local, "visible_gpus", list)
    assert [part.processors for part in local.slices_of_machine(2)] == [[2, 3], [5, 7]]
    assert [part.flags for part in local.slices_of_machine(1)] == [["--processors=2,3,5,7,8"]]
    monkeypatch.setattr(local, "visible_gpus", lambda: ["0", "1", "2", "3"])
    assert [part.environment for part in local.slices_of_machine(2)] == [
        {"CUDA_VISIBLE_DEVICES": "0,1"},
        {"CUDA_VISIBLE_DEVICES": "2,3"},
    ]
    with pytest.raises(InputError, match="--jobs must be from 1 to 4, the GPUs of this machine"):
        local.slices_of_machine(5)


def test_the_gpus_are_those_that_jax_would_use(monkeypatch):
    plugin = dataclasses.make_dataclass("Plugin", ["name"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    monkeypatch.setenv("JAX_PLATFORMS", "")
    for plugins, platforms, gpus in (
        (["xla_cuda12"], None, ["3", "5"]),
        (["xla_cuda12"], "cuda,cpu", ["3", "5"]),
        (["xla_cuda12"], "cpu", []),
        ([], None, []),
    ):
        installed = [plugin(name) for name in plugins]
        monkeypatch.setattr(local.importlib.metadata, "entry_points", lambda group, p=installed: p)
        monkeypatch.delenv("JAX_PLATFORMS", raising=False)
        if platforms:
            monkeypatch.setenv("JAX_PLATFORMS", platforms)
        assert local.visible_gpus() == gpus


def test_nothing_to_run_is_refused_and_so_is_a_directory_of_another_configuration(tiny, tmp_path):
    with pytest.raises(InputError, match="no run is selected"):
        launch([], serial.train)
    first, _ = grid(tiny, tmp_path)
    workdir.start(first.workdir, first.config)
    tiny.train.epochs = 9.0
    with pytest.raises(InputError, match=r"train\.epochs"):
        launch(grid(tiny, tmp_path), lambda runs: pytest.fail("launched"))
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        "config.json",
        "seed0",
        first.row.label,
    ]


def test_a_refused_first_run_leaves_nothing(tiny, tmp_path):
    tiny.train.batch_size = 6
    with pytest.raises(InputError, match="cannot be divided by 4 devices"):
        launch(grid(tiny, tmp_path / "a" / "b"), serial.train)
    assert not list(tmp_path.iterdir())


def test_one_after_the_other_leaves_out_what_another_process_has(tiny, tmp_path, capfd):
    one, other = grid(tiny, tmp_path)
    with lock.held(one.workdir), lock.held(other.workdir):
        assert launch([one, other], serial.train) == {}
    assert capfd.readouterr().out.count("skipped: another process") == 2
    for run in (one, other):
        assert not (run.workdir / "result.json").exists()
        assert not (run.workdir / "failed.json").exists()


def through_worker(runs):
    for run in runs:
        worker.main(["worker", str(run.workdir)])
    return {}


@pytest.mark.parametrize(
    "train",
    one_in(2, [serial.train, through_worker], "trains once more"),
    ids=["serial", "worker"],
)
def test_a_launched_fine_tuning_is_the_direct_one(tiny, tmp_path, train, one_device, monkeypatch):
    """What a configuration leaves to the weights is filled in from them, whoever trains it."""
    monkeypatch.setattr("senet_jax.training.loop.all_devices", lambda: one_device)
    tiny.data.classes = (0, 5)
    source = train_and_evaluate(tiny, tmp_path / "source")
    config = finetune.get_config("digits,seresnet20_cifar")
    config.model.pretrained = str(tmp_path / "source")
    config.data.update(classes=(5, 10), flip=False, train_split="train[:128]", eval_split="test")
    config.train.update(epochs=1.0, batch_size=32)
    run = PlannedRun(BIAS.rows[0], 0, config, tmp_path / "grid" / "seed0")
    direct = train_and_evaluate(run.config, tmp_path / "direct")
    assert direct["mean"] == source["mean"]
    assert launch([run], train) == {}
    same(tmp_path / "direct", run.workdir)
    assert workdir.load_config(run.workdir) == workdir.load_config(tmp_path / "direct")
    assert launch([run], train) == {}


def test_what_starts_from_another_runs_weights_comes_after_it(tiny, tmp_path):
    base, tuned, bad_base, hopeless = grid(tiny, tmp_path, (0, 1))
    tuned.config.model.pretrained = str(base.workdir)
    hopeless.config.model.pretrained = str(bad_base.workdir)
    waves = []

    def launcher(runs):
        waves.append([run.workdir for run in runs])
        return {bad_base.workdir: "it diverged"} if bad_base in runs else {}

    failures = launch([tuned, base, hopeless, bad_base], in_waves(launcher))
    assert waves == [[base.workdir, bad_base.workdir], [tuned.workdir]]
    why = f"it starts from {bad_base.workdir}, which failed"
    assert failures == {bad_base.workdir: "it diverged", hopeless.workdir: why}


@pytest.mark.slow(reason="trains a grid in processes of their own, twice")
def test_at_once_one_failure_stops_no_other_and_only_what_is_missing_is_done_again(
    tiny, tmp_path, capfd
):
    taken, bad, killed, good = grid(tiny, tmp_path, (0, 1))
    broken = bad.config.copy_and_resolve_references()
    broken.data.train_split = "trian"
    killed.config.train.epochs = 5000.0
    parts = [local.Slice(sorted(os.sched_getaffinity(0)), [])] * 2

    def train(missing):
        return local.train(missing, parts)

    def kill():
        wait_for(lambda: steps(killed.workdir))
        os.kill(lock.last_process(killed.workdir)["pid"], signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    with lock.held(taken.workdir):
        failures = launch([taken, dataclasses.replace(bad, config=broken), killed, good], train)
    thread.join()
    assert set(failures) == {bad.workdir, killed.workdir}
    assert "train_split" in failures[bad.workdir]
    assert "train_split" in (bad.workdir / LOG).read_text()
    assert failures[killed.workdir] == "its process was killed by SIGKILL"
    assert f"{taken.row.label}, seed 0: skipped: another process" in capfd.readouterr().out
    assert not (taken.workdir / "result.json").exists()
    assert not (taken.workdir / "failed.json").exists()
    assert (good.workdir / "result.json").exists()

    # The same again, when the cause is gone.
    before = (good.workdir / "result.json").read_bytes()
    (bad.workdir / "config.json").unlink()
    assert launch([bad, good], train) == {}
    assert "1 of 2 runs are done already" in capfd.readouterr().out
    assert (good.workdir / "result.json").read_bytes() == before
    assert not (bad.workdir / "failed.json").exists()


@pytest.mark.slow(reason="trains a grid in processes of their own, three times")
def test_a_grid_at_once_that_is_terminated_saves_and_continues(tmp_path):
    command = (sys.executable, "-m", "experiments.run", "bias", "--smoke", "--jobs=2")
    command += (f"--workdir={tmp_path}", "--config.train.epochs=150")
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1"}
    both = [tmp_path / row.label / "seed0" for row in BIAS.rows]
    said = "\nwaiting for the runs to save\n\nterminated; the same command continues\n"
    for status, error in ((143, said), (0, "")):
        process = subprocess.Popen(
            [*command, "--config.train.log_every_steps=1"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if status:
            wait_for(lambda p=process: all(map(steps, both)) or p.poll() is not None)
            process.send_signal(signal.SIGHUP)
            process.terminate()
        _, errors = process.communicate(timeout=900)
        assert (process.returncode, errors) == (status, error)
        for path in both:
            assert lock.last_process(path)["ended"]
            assert not (path / "failed.json").exists()
    assert all("continuing from step" in (path / LOG).read_text() for path in both)
    assert all((path / "result.json").exists() for path in both)


def test_signals_that_come_together_end_all_runs_once(tiny, tmp_path, monkeypatch, capfd):
    """Threads may take both, so that the one that waits is not woken by either."""
    runs = grid(tiny, tmp_path)
    for run in runs:
        run.workdir.mkdir(parents=True)
    processes = []

    def start(*_):
        processes.append(subprocess.Popen(["sleep", "60"], stdin=subprocess.PIPE))
        return processes[-1]

    def press():
        wait_for(lambda: len(processes) == len(runs))
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1):
            os.kill(os.getpid(), number)

    monkeypatch.setattr(worker, "start", start)
    thread = threading.Thread(target=press)
    thread.start()
    began = time.monotonic()
    with pytest.raises(Terminated):
        local.train(runs, [local.Slice([0], [])] * len(runs))
    thread.join()
    assert time.monotonic() - began < 30
    assert [process.wait() for process in processes] == [-signal.SIGTERM] * len(runs)
    said = capfd.readouterr()
    assert said.out.count(": stopped") == len(runs)
    assert said.err == "\nwaiting for the runs to save\n"


@pytest.fixture
def submitit_here(monkeypatch):
    """submitit's executor for this machine in place of that for SLURM; gives its jobs."""
    jobs = []

    class Executor(submitit.LocalExecutor):
        def __init__(self, folder):
            super().__init__(folder, max_num_timeout=9)
            self.update_parameters(timeout_min=60)

        def _submit_command(self, command):
            jobs.append(super()._submit_command(command))
            return jobs[-1]

    def queue():
        return {job.job_id for job in jobs if not job.done()}

    monkeypatch.setattr(slurm, "executor", Executor)
    monkeypatch.setattr(slurm, "queue", queue)
    monkeypatch.setattr(slurm, "POLL", 0.2)
    yield jobs
    for job in jobs:
        job._process.wait(60)


@pytest.mark.slow(reason="waits for jobs of submitit's local executor")
def test_jobs_that_are_preempted_continue_and_those_that_fail_say_why(
    tiny, tmp_path, submitit_here, capfd
):
    tiny.train.epochs = 60.0
    run, bad = grid(tiny, tmp_path / "cut")
    bad.config.data.train_split = "trian"
    launcher = slurm.Slurm({"time": "10"}, tmp_path / "slurm", None)
    workdir.queue(run.workdir, run.config)
    launcher._submit([run.workdir])  # by a launcher that was left

    def preempt():
        wait_for(lambda: steps(run.workdir) > 3)
        controller = submitit_here[0].job_id
        (task,) = Path(f"/proc/{controller}/task/{controller}/children").read_text().split()
        os.kill(int(task), signal.SIGUSR2)

    thread = threading.Thread(target=preempt)
    thread.start()
    failures = launch([run, bad], launcher)
    thread.join()
    assert "1 of 2 runs are in the queue already" in capfd.readouterr().out
    assert len(submitit_here) == 2
    assert list(failures) == [bad.workdir]
    assert "train_split" in failures[bad.workdir]
    assert "continuing from step" in (run.workdir / LOG).read_text()
    train_and_evaluate(run.config, tmp_path / "whole")
    same(tmp_path / "whole", run.workdir)


@pytest.fixture
def programs_of_slurm(tmp_path, monkeypatch):
    """Programs in place of SLURM's, for an empty queue and arrays of three; sbatch tells of itself.

    Gives the folder in which it does: for each call its environment and the script.
    """
    folder = tmp_path / "sbatch calls"
    programs = {
        "srun": "",
        "squeue": "",
        "scontrol": "echo 'MaxArraySize            = 3'",
        "sbatch": f"""cd '{folder}'; n=$(ls | wc -l); mkdir $n; env > $n/env; cp "$1" $n/script
                      echo Submitted batch job $((n + 70))""",
    }
    folder.mkdir()
    (tmp_path / "bin").mkdir()
    for name, text in programs.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return folder


def waited_for(monkeypatch):
    """The jobs that the launcher waits for, one dict per wait, which ends at once."""
    waits = []
    monkeypatch.setattr(slurm, "_wait", lambda names, jobs, folder: waits.append(dict(jobs)) or {})
    return waits


@pytest.mark.parametrize(("jobs", "waits"), [(None, [7]), (2, [3, 3, 1])])
def test_runs_beyond_the_largest_array_are_further_arrays(
    tiny, tmp_path, monkeypatch, programs_of_slurm, jobs, waits
):
    """With a limit on runs at once, which sbatch holds within an array, one after the other."""
    runs = grid(tiny, tmp_path / "grid", range(4))[:7]
    waited = waited_for(monkeypatch)
    assert launch(runs, slurm.Slurm({"time": "9"}, tmp_path / "slurm", jobs)) == {}
    scripts = [(programs_of_slurm / str(n) / "script").read_text() for n in range(3)]
    limit = jobs or 3
    assert f"#SBATCH --array=0-2%{limit}\n" in scripts[0]
    assert f"#SBATCH --array=0-2%{limit}\n" in scripts[1]
    assert "--array" not in scripts[2]
    assert [len(names) for names in waited] == waits
    names = [name for wait in waited for name in wait.values()]
    assert names == ["70_0", "70_1", "70_2", "71_0", "71_1", "71_2", "72"]


def test_a_surrounding_job_hands_nothing_on(tiny, tmp_path, monkeypatch, programs_of_slurm):
    waited_for(monkeypatch)
    of_the_job = {"SLURM_NTASKS": "8", "SBATCH_PARTITION": "x", "SRUN_DEBUG": "3", "PMI_RANK": "0"}
    kept = {"SLURM_CONF": "here", "SLURMFOO": "1"}
    for inside in (True, False):
        with monkeypatch.context() as patched:
            for name, value in (of_the_job | kept).items():
                patched.setenv(name, value)
            if inside:
                patched.setenv("SLURM_JOB_ID", "5")
            before = dict(os.environ)
            workdir.queue(tmp_path / str(inside), tiny)
            slurm.Slurm({"time": "9"}, tmp_path / "slurm", None)._submit([tmp_path / str(inside)])
            assert dict(os.environ) == before
        call = len(list(programs_of_slurm.iterdir())) - 1
        given = (programs_of_slurm / str(call) / "env").read_text().splitlines()
        assert {f"{name}={value}" for name, value in kept.items()} <= set(given)
        names = {line.partition("=")[0] for line in given}
        # Outside of a job they are the user's own defaults.
        assert names & {*of_the_job, "SLURM_JOB_ID"} == (set() if inside else set(of_the_job))


@pytest.mark.parametrize(
    "name", ["100%job", "%j_%A_%a", "it's", 'a "b"', "two words", "two\nlines"]
)
def test_slurm_gets_paths_that_it_takes_as_they_are(
    tiny, tmp_path, monkeypatch, programs_of_slurm, name
):
    waited_for(monkeypatch)
    runs = grid(tiny, tmp_path / name)
    assert launch(runs, slurm.Slurm({"time": "9"}, tmp_path / name / "slurm", None)) == {}
    script = (programs_of_slurm / "0" / "script").read_text()
    folder = tmp_path / "senet_jax_slurm"
    assert f"#SBATCH --output={folder}/%A_%a_0_log.out\n" in script
    assert name not in script
    assert (folder / "70_0_submitted.pkl").exists()
    assert all((run.workdir / "job.json").exists() for run in runs)


def test_a_path_is_refused_where_no_folder_above_it_can_take_what_slurm_writes(monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(InputError, match="SLURM does not take '/%j/slurm' as it is"):
        slurm.folder_for(Path("/%j/slurm"))


def test_a_machine_without_slurm_or_submitit_is_told_so(tmp_path, monkeypatch):
    (tmp_path / "sbatch").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(InputError, match=r"needs submitit.*pip install -e '\.\[slurm\]'"):
        slurm.Slurm({"time": "9"}, tmp_path, None)
    (tmp_path / "sbatch").unlink()
    with pytest.raises(InputError, match="needs sbatch, which this machine lacks"):
        slurm.Slurm({"time": "9"}, tmp_path, None)


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({}, "give --slurm.time"),
        ({"time": "soon"}, "--slurm.time must be like 30, 4:00:00 or 1-12:00:00, not 'soon'"),
        ({"time": True}, "--slurm.time must be like"),
        ({"time": "9", "nodes": "two"}, "--slurm.nodes must be a whole number from 1, not 'two'"),
        ({"time": "9", "ntasks-per-node": "0"}, "--slurm.ntasks-per-node must be a whole number"),
    ],
)
def test_a_parameter_that_cannot_be_is_refused(tmp_path, parameters, sentence):
    with pytest.raises(InputError) as caught:
        slurm.Slurm(parameters, tmp_path, None)
    assert str(caught.value).startswith(sentence)


@pytest.fixture
def read_only_disk(tmp_path):
    with mounted(tmp_path / "disk", "ro") as path:
        yield path


def test_a_read_only_disk_is_named_before_anything_is_launched(tiny, read_only_disk):
    with pytest.raises(InputError, match=r"cannot be written: \S+disk is not writable"):
        launch(grid(tiny, read_only_disk / "grid"), lambda runs: pytest.fail("launched"))
    with pytest.raises(InputError, match=r"cannot be written: \S+disk is not writable"):
        train_and_evaluate(tiny, read_only_disk / "run")


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("30", 30),
        ("30:30", 31),
        ("4:00:00", 240),
        ("1-0", 1440),
        ("1-2:3", 1563),
        ("1-2:3:4", 1564),
    ],
)
def test_times_are_those_of_sbatch(text, minutes):
    assert slurm._minutes(text) == minutes


@pytest.fixture
def submission(tmp_path, monkeypatch):
    """What sbatch is given for flags `--slurm.KEY=VALUE`: the lines of the script."""
    made = []

    class Executor(submitit.SlurmExecutor):
        def __init__(self, folder, **kwargs):
            monkeypatch.setattr(type(self), "affinity", classmethod(lambda cls: 2))
            super().__init__(folder, **kwargs)
            made.append(self)

    monkeypatch.setattr(slurm, "executor", Executor)

    def lines(*parameters):
        given = [f"--slurm.{text}" for text in ("time=1-0", *parameters)]
        slurm.Slurm(slurm_parameters(given), tmp_path, 3)
        text = made[-1]._make_submission_file_text("command", "id")
        prefix = "#SBATCH --"
        return [line.removeprefix(prefix) for line in text.splitlines() if line.startswith(prefix)]

    return lines


def test_parameters_of_sbatch_are_taken_as_they_are(submission):
    given = ["gres=gpu:1", "exclusive", "nodes=2", "mem=4G", "qos=long"]
    lines = submission(*given)
    assert {*given, "time=1-0", "requeue", "job-name=senet_jax"} <= set(lines)
    assert not any("wckey" in line for line in lines)


@pytest.mark.parametrize(
    "given",
    [
        ["job-name=mine"],
        ["no-requeue"],
        ["open-mode=truncate", "signal=B:USR1@60", "error=x", "output=y", "array=0-1%1"],
        ["ntasks-per-node=3", "nodes=2", "cpus-per-task=4", "wckey=w", "mem-per-cpu=1G"],
        ["gpus-per-node=1", "gpus-per-task=1", "cpus-per-gpu=2", "constraint=a", "dependency=b"],
    ],
)
@pytest.mark.parametrize("joint", ["-", "_"])
def test_parameters_of_the_user_stand_once_and_not_beside_ours(submission, given, joint):
    names = [name.partition("=") for name in given]
    lines = submission(*(name.replace("-", joint) + is_ + value for name, is_, value in names))
    assert set(given) <= set(lines)
    of = [line.partition("=")[0].removeprefix("no-") for line in lines]
    assert len(of) == len(set(of))


def test_a_queue_that_gives_no_answer_is_said_at_once_and_given_up(monkeypatch, capsys):
    silent = subprocess.CompletedProcess([], 1, "", "no controller")
    monkeypatch.setattr(slurm, "_squeue", lambda *flags: silent)
    monkeypatch.setattr(slurm, "POLL", 0.0)
    with pytest.raises(InputError, match="squeue does not answer: no controller"):
        slurm.queue()
    assert capsys.readouterr().out.count("no controller") == 1
