"""Two processes of two devices each, started as commands: alike, counted once, stopped together."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers.commands import start
from helpers.runs import logged, same

from senet_jax.errors import Diverged, InputError
from senet_jax.runs import checkpoints
from senet_jax.system import processes
from senet_jax.system.agreement import Agreement
from senet_jax.training.loop import train_and_evaluate

ROOT = Path(__file__).parents[2]
CONFIG = """
from helpers.runs import tiny_config

def get_config():
    config = tiny_config()
    config.train.update({"epochs": 30.0, "eval_every_epochs": 7.5, "log_every_steps": 5})
    config.optim.learning_rate = 0.01  # a larger one doubles differences in the last bits
    return config
"""


@pytest.fixture
def command(tmp_path):
    """Start the two commands of one run."""
    (tmp_path / "config.py").write_text(CONFIG)

    @contextlib.contextmanager
    def start(directory, *flags):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            address = f"localhost:{free.getsockname()[1]}"
        arguments = [sys.executable, "-m", "senet_jax.main", f"--config={tmp_path}/config.py"]
        arguments += [f"--workdir={directory}", f"--coordinator={address}", "--num_processes=2"]
        environment = os.environ | {
            "JAX_NUM_CPU_DEVICES": "2",
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
        }
        with contextlib.ExitStack() as stack:
            pair = []
            for index in range(2):
                pair.append(
                    subprocess.Popen(
                        [*arguments, f"--process_id={index}", *flags],
                        cwd=ROOT,
                        env=environment,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.PIPE,
                        text=True,
                    )
                )
                stack.callback(pair[-1].communicate)
                stack.callback(pair[-1].kill)
            yield pair

    return start


def ended(pair, seconds=240):
    """Exit status and error output of each."""
    deadline = time.monotonic() + seconds
    errors = [one.communicate(timeout=deadline - time.monotonic())[1] for one in pair]
    return [one.returncode for one in pair], errors


def wait_for_step(directory, step, pair):
    """Wait until this pair, and not one before it, has written about a step."""
    metrics, began = directory / "metrics.jsonl", time.time()
    while not (
        metrics.exists()
        and metrics.stat().st_mtime > began
        and any(s >= step for s, _ in logged(directory))
    ):
        assert all(one.poll() is None for one in pair), pair[0].communicate()
        time.sleep(0.05)


@pytest.mark.slow(reason="five pairs of commands that compile and train together")
def test_two_processes_train_as_one_and_stop_and_continue_together(command, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    with command(whole) as pair:
        assert ended(pair)[0] == [0, 0]

    # SIGTERM to the second alone: both save the same step, and say so by their status.
    with command(cut) as pair:
        wait_for_step(cut, 10, pair)
        pair[1].send_signal(signal.SIGTERM)
        status, errors = ended(pair)
    assert status == [143, 143], errors
    assert "Traceback" not in "".join(errors)
    (saved,) = checkpoints.complete_steps(cut / "checkpoints")
    assert 10 <= saved < 120

    # One is killed: the other does not wait for it for ever.
    for index in range(2):
        with command(cut, "--config.train.checkpoint_every_steps=0") as pair:
            wait_for_step(cut, saved + 5, pair)
            pair[index].kill()
            killed = time.monotonic()
            pair[1 - index].communicate(timeout=60)
            assert time.monotonic() - killed < 60
            assert pair[1 - index].returncode not in (0, None)
    with command(cut) as pair:
        assert ended(pair)[0] == [0, 0]
    same(whole, cut)

    # The same as one process: sums are only added in another order.
    sys.path.insert(0, str(tmp_path))
    result = json.loads((whole / "result.json").read_text())
    assert (result["devices"], result["processes"], result["eval/examples"]) == (4, 2, 50)
    namespace = {}
    exec(CONFIG, namespace)
    train_and_evaluate(namespace["get_config"](), tmp_path / "one", jax.local_devices())
    one, two = logged(tmp_path / "one"), logged(whole)
    assert one.keys() == two.keys()
    for key, value in one.items():
        if "loss" in key[1]:
            np.testing.assert_allclose(two[key], value, rtol=1e-3, err_msg=str(key))


@pytest.mark.slow(reason="two pairs of commands that compile and train together")
def test_two_processes_train_alike_by_the_other_backends_and_continue_each_other(command, tmp_path):
    """A program over the devices of both: begun by shard_map, ended by jit, its state divided."""
    flags = ["--config.train.sync_batch_norm=True", "--config.train.epochs=15.0"]
    run = tmp_path / "run"
    with command(run, *flags, "--config.parallel.backend=shard_map") as pair:
        wait_for_step(run, 10, pair)
        pair[1].send_signal(signal.SIGTERM)
        status, errors = ended(pair)
    assert status == [143, 143], errors
    divided = ("--config.parallel.backend=jit", "--config.parallel.shard_optimizer=True")
    with command(run, *flags, *divided) as pair:
        status, errors = ended(pair)
    assert status == [0, 0], errors
    sys.path.insert(0, str(tmp_path))
    namespace = {}
    exec(CONFIG, namespace)
    config = namespace["get_config"]()
    config.train.update({"sync_batch_norm": True, "epochs": 15.0})
    train_and_evaluate(config, tmp_path / "one", jax.local_devices())
    one, two = logged(tmp_path / "one"), logged(run)
    assert one.keys() == two.keys()
    for key, value in one.items():
        if "loss" in key[1]:
            np.testing.assert_allclose(two[key], value, rtol=1e-3, err_msg=str(key))


def test_what_the_second_process_is_refused_the_first_is_refused_as_well(command, tmp_path):
    with command(tmp_path / "run", "--config.train.batch_size=6") as pair:
        status, errors = ended(pair)
    assert status[1] == 2
    assert "batch_size 6 cannot be divided by 4 devices" in errors[1]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (
            ["--num_processes=2", "--process_id=0"],
            "--coordinator, --num_processes and --process_id go together",
        ),
        (
            ["--coordinator=x:1", "--num_processes=2", "--process_id=2"],
            "--process_id must be from 0 to 1, not 2",
        ),
        (
            ["--coordinator=x", "--num_processes=2", "--process_id=1"],
            "--coordinator must be HOST:PORT, not 'x'",
        ),
        (["--distributed"], "--distributed finds no SLURM, Open MPI, TPU or Kubernetes job"),
    ],
)
def test_processes_that_cannot_meet_are_told_why(flags, sentence, tmp_path):
    place = f"--workdir={tmp_path}/run"
    done = start("senet_jax.main", "--config=configs/digits.py", place, *flags)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_one_process_agrees_with_itself():
    agree = Agreement(jax.local_devices(), delay=2)
    assert agree(True, False) == (True, False)
    assert processes.total(3) == 3
    assert processes.same("a")
    assert processes.on_first(lambda: (1, 2)) == (1, 2)
    with pytest.raises(Diverged, match="not finite"):
        processes.on_first(lambda: (_ for _ in ()).throw(Diverged("not finite")))
    assert issubclass(Diverged, InputError)


@pytest.mark.slow(reason="a pair of commands that compile and train together")
def test_each_process_reads_the_weights_that_they_start_from(tiny, command, tmp_path, one_device):
    tiny.train.epochs = 1.0
    source = train_and_evaluate(tiny, tmp_path / "source", one_device)
    weights = (f"--config.model.pretrained={tmp_path}/source", "--config.data.classes=(0,5)")
    with command(tmp_path / "run", *weights, "--config.optim.freeze=stem") as pair:
        statuses, errors = ended(pair)
    assert statuses == [0, 0], errors
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["pretrained_sha256"] == source["params_sha256"]
    stems = [
        checkpoints.read(tmp_path / name / "checkpoints", ["params"]).state["params"]["stem"]
        for name in ("source", "run")
    ]
    assert jax.tree.all(jax.tree.map(np.array_equal, *stems))
