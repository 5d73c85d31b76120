"""On a real SLURM cluster of two nodes here: grids, preemption, runs of several tasks, refusals."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from helpers.runs import same
from helpers.slurm_cluster import Unavailable, cluster

from experiments.launch import LOG, worker
from experiments.studies import load_study
from senet_jax.runs import lock, workdir

ROOT = Path(__file__).parents[2]
BIAS = load_study("bias")
GRID = ("experiments.run", "bias", "--smoke", "--launcher=slurm", "--slurm.time=10")
OF_A_JOB = {
    "SLURM_JOB_ID": "1",
    "SLURM_NTASKS": "7",
    "SLURM_MEM_PER_CPU": "1",
    "SLURM_MEM_PER_NODE": "1",
    "SBATCH_PARTITION": "nope",
}

pytestmark = pytest.mark.slow(reason="starts a SLURM cluster and waits for its jobs")


@pytest.fixture(scope="module")
def environment():
    """The environment variables with which the cluster's commands find it."""
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slurm_")))
        try:
            variables = stack.enter_context(cluster(place))
        except Unavailable as error:
            pytest.skip(str(error))
        # One device per process, as on a user's machine.
        yield variables | {"JAX_NUM_CPU_DEVICES": "1"}


@pytest.fixture
def command(environment):
    def start(*arguments):
        return subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def lines(directory):
    path = directory / "metrics.jsonl"
    return len(path.read_bytes().splitlines()) if path.exists() else 0


def test_a_grid_of_jobs_ends_in_its_table_and_one_that_is_preempted_continues(
    environment, command, tmp_path
):
    flags = ("--seeds=0,1", "--config.train.epochs=150", "--config.train.log_every_steps=1")
    place = tmp_path / "50%j of it's grid"
    # As from within another job, whose variables are not for these.
    environment.update(OF_A_JOB)
    process = command(*GRID, *flags, f"--workdir={place}", "--slurm.cpus-per-task=1")
    for name in OF_A_JOB:
        del environment[name]
    preempted = place / BIAS.rows[0].label / "seed0"
    deadline = time.monotonic() + 400
    while lines(preempted) < 5:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    job = json.loads((preempted / "job.json").read_text())["job"]
    subprocess.run(["scancel", "--signal=USR1", job], env=environment, check=True)
    squeue = ["squeue", "--noheader", f"--jobs={job}", "--format=%T"]
    while b"PENDING" not in subprocess.run(squeue, env=environment, capture_output=True).stdout:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert lock.last_process(preempted)["ended"]
    # SLURM would let it wait for two minutes; less than a few seconds would be too early for what
    # it hears of the end of the first attempt.
    soon = ["scontrol", "update", f"JobId={job}", "StartTime=now+10"]
    subprocess.run(soon, env=environment, check=True)
    stdout, stderr = process.communicate(timeout=900)
    assert process.returncode == 0, stderr
    assert [line.partition(":")[0] for line in stdout.splitlines() if "submitted" in line] == [
        "3 jobs submitted",  # the largest array of this cluster
        "1 job submitted",
    ]
    assert len(list(place.glob("*/seed*/result.json"))) == 4
    table = (place / "table.md").read_text()
    assert all(f"| {row.label} |" in table and "(2)" in table for row in BIAS.rows)
    assert "continuing from step" in (preempted / LOG).read_text()
    assert not list(place.glob("*/seed*/failed.json"))
    whole = tmp_path / "whole"
    workdir.queue(whole, workdir.load_config(preempted))
    smoke = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    assert worker.start(whole, environment=environment | smoke).wait() == 0
    same(whole, preempted)


@pytest.mark.parametrize(
    ("flag", "srun_flag"),
    [("--slurm.ntasks-per-node=2", "--nodes=1"), ("--slurm.nodes=2", "--nodes=2")],
    ids=["two tasks of a node", "two nodes"],
)
def test_tasks_of_a_job_train_together(environment, command, tmp_path, flag, srun_flag):
    """Started by the launcher; srun finds what they have finished, as README says."""
    (tmp_path / "config.py").write_text("from helpers.runs import tiny_config as get_config")
    environment["PYTHONPATH"] = f"{ROOT}{os.pathsep}{ROOT / 'tests'}"
    flags = (f"--config={tmp_path}/config.py", "--sweep=model.se.ratio=4", "--seeds=0")
    flags += ("--launcher=slurm", "--slurm.time=30", flag)
    process = command("experiments.run", *flags, f"--workdir={tmp_path}/sweep")
    stdout, stderr = process.communicate(timeout=900)
    assert process.returncode == 0, (stdout, stderr)
    directory = tmp_path / "sweep" / "ratio=4" / "seed0"
    result = json.loads((directory / "result.json").read_text())
    assert (result["processes"], result["devices"]) == (2, 2)
    srun = [
        "srun",
        "--ntasks=2",
        srun_flag,
        sys.executable,
        "-m",
        "senet_jax.main",
        "--distributed",
        flags[0],
    ]
    srun += ["--config.model.se.ratio=4", f"--workdir={directory}"]
    done = subprocess.run(
        srun, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("8 steps in") == 1  # the first of them speaks


@pytest.mark.parametrize(
    ("flag", "sentence"),
    [
        ("--slurm.partition=nope", "sbatch refuses the jobs: invalid partition specified: nope"),
        ("--slurm.nope=1", "sbatch refuses the jobs: unrecognized option '--nope=1'"),
        ("--slurm.gres=gpu:1", "sbatch refuses the jobs: Invalid generic resource"),
    ],
)
def test_what_sbatch_refuses_is_said_in_a_sentence_and_leaves_no_run(
    command, tmp_path, flag, sentence
):
    process = command(*GRID, f"--workdir={tmp_path}/grid", flag)
    _, stderr = process.communicate(timeout=200)
    assert process.returncode == 2
    assert stderr.startswith(f"error: {sentence}"), stderr
    assert len(stderr.splitlines()) == 1
    assert not list(tmp_path.glob("grid/*/seed*"))
