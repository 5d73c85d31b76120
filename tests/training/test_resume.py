"""A run that is stopped, killed or damaged ends with the bits of one that never was."""

import dataclasses
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest
from helpers.runs import interrupt_training, interrupted, logged, same

from senet_jax import data
from senet_jax.errors import InputError, Terminated
from senet_jax.inference.trained_run import load_trained_network
from senet_jax.runs import checkpoints, provenance, workdir
from senet_jax.system import processors
from senet_jax.training.loop import train_and_evaluate

ROOT = Path(__file__).parents[2]


@pytest.fixture
def everything(tiny):
    """Moving averages, parts, plateaus and evaluations in the middle of an epoch."""
    tiny.train.update({"ema_decay": 0.9, "accumulate_steps": 2, "eval_every_epochs": 0.75})
    tiny.optim.update({"schedule": "plateau", "patience": 1})
    tiny.train.log_every_steps = 3
    tiny.data.flip = True
    return tiny


@pytest.mark.parametrize("count", [pytest.param(1, marks=pytest.mark.slow(reason="as with 4")), 4])
def test_ctrl_c_and_sigterm_save_and_the_same_call_continues(
    everything, tmp_path, monkeypatch, count
):
    devices = jax.local_devices()[:count]
    train_and_evaluate(everything, tmp_path / "whole", devices)
    cut = tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt):
        interrupted(everything, cut, devices, monkeypatch, signal.SIGINT, ("learning_rate", 1))
    (first,) = checkpoints.complete_steps(cut / "checkpoints")
    assert not (cut / "result.json").exists()
    with pytest.raises(Terminated):  # in the middle of an evaluation
        interrupted(everything, cut, devices, monkeypatch, signal.SIGTERM, ("evaluate", 1))
    assert checkpoints.complete_steps(cut / "checkpoints")[-1] >= first
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    train_and_evaluate(everything, cut, devices)
    same(tmp_path / "whole", cut)


def test_a_stop_before_the_first_step_leaves_nothing_to_continue_from(
    tiny, tmp_path, one_device, monkeypatch
):
    with pytest.raises(Terminated):
        interrupted(tiny, tmp_path, one_device, monkeypatch, signal.SIGTERM, ("prepare", 1))
    assert not list(tmp_path.iterdir())


def test_checkpoints_are_made_every_so_many_steps_and_the_best_is_kept(tiny, tmp_path, one_device):
    tiny.train.update({"checkpoint_every_steps": 2, "keep_checkpoints": 2, "keep_best": True})
    tiny.train.eval_every_epochs = 0.25
    train_and_evaluate(tiny, tmp_path, one_device)
    errors = {step: v for (step, name), v in logged(tmp_path).items() if name == "eval/top1_error"}
    best = min(errors, key=lambda step: (errors[step], step))
    assert checkpoints.complete_steps(tmp_path / "checkpoints") == sorted({best, 6, 8})


def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(
    everything, tmp_path, one_device, monkeypatch, capfd
):
    train_and_evaluate(everything, tmp_path / "whole", one_device)
    everything.train.checkpoint_every_steps = 1
    cut = tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt):
        interrupted(everything, cut, one_device, monkeypatch, signal.SIGINT, ("evaluate", 2))
    earlier, latest = checkpoints.complete_steps(cut / "checkpoints")
    (cut / "checkpoints" / str(latest) / checkpoints.NOTES).write_text("{")
    train_and_evaluate(everything, cut, one_device)
    output = capfd.readouterr().err
    assert f"{latest} is damaged" in output
    assert f"continuing from step {earlier}/8" in output
    assert logged(tmp_path / "whole") == logged(cut)


def test_a_damaged_checkpoint_does_not_push_out_a_good_one(tiny, tmp_path, one_device, monkeypatch):
    tiny.train.checkpoint_every_steps = 1
    with pytest.raises(KeyboardInterrupt):
        interrupted(tiny, tmp_path, one_device, monkeypatch, signal.SIGINT, ("learning_rate", 4))
    states = tmp_path / "checkpoints"
    assert checkpoints.complete_steps(states) == [3, 4]
    (states / "4" / checkpoints.SUMS).write_text("")
    shutil.copytree(states / "4", states / "6")
    with pytest.raises(KeyboardInterrupt):
        interrupted(tiny, tmp_path, one_device, monkeypatch, signal.SIGINT, ("learning_rate", 1))
    assert checkpoints.complete_steps(states) == [3, 4]


def test_a_signal_while_the_last_state_is_saved_leaves_the_result_to_the_next_call(
    tiny, tmp_path, one_device, monkeypatch
):
    train_and_evaluate(tiny, tmp_path / "whole", one_device)
    save, cut = checkpoints.save, tmp_path / "cut"

    def asked_to_stop(directory, step, *arguments):
        save(directory, step, *arguments)
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "save", asked_to_stop)
        with pytest.raises(Terminated):
            train_and_evaluate(tiny, cut, one_device)
    assert not (cut / "result.json").exists()
    train_and_evaluate(tiny, cut, one_device)
    same(tmp_path / "whole", cut)


def test_what_a_run_was_begun_with_is_said_and_recorded(
    tiny, tmp_path, one_device, monkeypatch, capfd
):
    with monkeypatch.context() as patched:
        patched.setattr(provenance, "git_commit", lambda: "1234-dirty")
        patched.setenv("PJRT_NPROC", "99")
        with pytest.raises(KeyboardInterrupt):
            interrupted(
                tiny, tmp_path, one_device, monkeypatch, signal.SIGINT, ("learning_rate", 1)
            )
    result = train_and_evaluate(tiny, tmp_path, jax.local_devices()[:2])
    (earlier,) = result["earlier_environments"]
    assert (earlier["git_commit"], earlier["devices"]) == ("1234-dirty", 1)
    assert result["devices"] == 2
    assert (earlier["host_cpus"], result["host_cpus"]) == (99, processors.threads_of_xla())
    warning = capfd.readouterr().err
    assert "begun with another devices (1, now 2), git_commit (1234" in warning
    assert "host_cpus (99, now" in warning
    assert warning.count("warning:") == 1


def test_a_run_does_not_continue_on_another_dataset(tiny, tmp_path, one_device, monkeypatch):
    """Prepared again from other files: its order, statistics, steps or classes are not the same."""
    tiny.train.checkpoint_every_steps = 1
    interrupt_training(tiny, tmp_path, one_device)
    steps, load = checkpoints.complete_steps(tmp_path / "checkpoints"), data.load_dataset

    def with_half(whole):
        half = dataclasses.replace(whole.train, image=whole.train.image[:64])
        return {"train": dataclasses.replace(half, label=whole.train.label[:64])}

    for change, difference in (
        (with_half, r"the number of the training images \(128 there, 64 now\)"),
        (lambda whole: {"class_names": whole.class_names[::-1]}, r"class_names\[0\] \(0 there, 9"),
        (lambda whole: {"mean": (1.0,)}, r"mean\[0\] \("),
    ):

        def rebuilt(change=change, **arguments):
            whole = load(**arguments)
            return dataclasses.replace(whole, **change(whole))

        with monkeypatch.context() as patched:
            patched.setattr(data, "load_dataset", rebuilt)
            with pytest.raises(InputError, match=f"was trained on, differing in {difference}"):
                train_and_evaluate(tiny, tmp_path, one_device)
            network = load_trained_network(tmp_path, unfinished=True)
        assert network.class_names == tuple("0123456789")
        assert network.mean != (1.0,)
        assert checkpoints.complete_steps(tmp_path / "checkpoints") == steps


def test_a_loss_that_is_not_finite_overwrites_no_checkpoint(tiny, tmp_path, one_device):
    tiny.train.update({"checkpoint_every_steps": 1, "log_every_steps": 100})
    tiny.optim.update({"learning_rate": 1e30, "warmup_epochs": 0.0})
    with pytest.raises(InputError, match="is not finite at step"):
        train_and_evaluate(tiny, tmp_path, one_device)
    for step in checkpoints.complete_steps(tmp_path / "checkpoints"):
        assert step <= 2


def test_a_last_line_cut_short_and_lines_of_lost_steps_are_removed(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = ['{"step": 1}\n', '{"step": 2}\n', '{"step": 2, "eval/loss": 1}\n']
    path.write_text("".join(lines) + '{"step": 3}\n{"st')
    workdir.cut_metrics(tmp_path, 2, evaluation_owed=False)
    assert path.read_text() == "".join(lines)
    workdir.cut_metrics(tmp_path, 2, evaluation_owed=True)
    assert path.read_text() == "".join(lines[:2])
    workdir.cut_metrics(tmp_path, 0, evaluation_owed=False)
    assert path.read_text() == ""


def test_metrics_that_cannot_be_read_are_refused_and_stay(tmp_path):
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(InputError, match=r"work directory .* cannot be written: Is a dir"):
        workdir.cut_metrics(tmp_path, 0, evaluation_owed=False)
    assert (tmp_path / "metrics.jsonl").is_dir()


RUN = """
import sys
from pathlib import Path
import jax
from configs import digits, imagenet
from senet_jax.system import compilation_cache
from senet_jax.training.loop import train_and_evaluate

kind, count, workdir = sys.argv[1:]
if kind == "memory":
    config, fields = digits.get_config("seresnet20"), {"stage_sizes": (1,), "width": 4}
    config.data.update({"train_split": "train[:128]", "eval_split": "test[:50]"})
else:
    sys.path.insert(0, "tests")
    import helpers.photos
    config, fields = imagenet.get_config("seresnet50,photos"), {"stage_sizes": (1,), "width": 4}
    config.data.update({"train_split": "whole", "eval_split": "whole", "image_size": 32})
    config.data.shuffle_buffer = 8
    if kind == "files":
        folder = Path(workdir).parent / "photos"
        for index in range(helpers.photos.COUNT):
            place = folder / "ab"[index % 2] / f"{index}.jpg"
            place.parent.mkdir(parents=True, exist_ok=True)
            if not place.exists():
                place.write_bytes(helpers.photos.encoded(index))
        config.data.update({"name": f"folder:{folder}", "train_split": "all", "eval_split": "all"})
config.model.se.stages = (2,)
with config.unlocked():
    config.model.update(fields)
config.train.update({"epochs": 25.0 if kind == "memory" else 66.0, "batch_size": 16})
config.train.update({"ema_decay": 0.9, "accumulate_steps": 2, "eval_every_epochs": 10.0})
config.train.update({"log_every_steps": 7, "checkpoint_every_steps": 8})
compilation_cache.enable()
train_and_evaluate(config, Path(workdir), jax.local_devices()[: int(count)])
"""
KILLS = 10


def killed_somewhere(process, states, patience):
    """Wait until a state begins to be written, or for some seconds, and kill; False if it ended."""
    before = {path.name for path in states.glob("*")}
    deadline = time.monotonic() + patience
    while process.poll() is None and time.monotonic() < deadline:
        if {path.name for path in states.glob("*")} - before:
            break
        time.sleep(0.005)
    process.kill()
    process.communicate()
    return process.returncode == -signal.SIGKILL


@pytest.mark.slow(reason="starts and kills a command ten times")
@pytest.mark.parametrize(("kind", "count"), [("memory", 4), ("streamed", 1), ("files", 2)])
def test_a_run_that_is_killed_again_and_again_ends_the_same(tmp_path, kind, count):
    """kill -9 at random moments, from before the first step to the middle of writing a state.

    In three tests there are thirty of them, with moving averages and accumulation on.
    """

    def start(directory):
        return subprocess.Popen(
            [sys.executable, "-c", RUN, kind, str(count), str(directory)],
            cwd=ROOT,
            env=os.environ | {"TFDS_DATA_DIR": str(tmp_path / "tfds")},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def finish(directory):
        process = start(directory)
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors.decode()

    began = time.monotonic()
    finish(tmp_path / "whole")
    seconds = time.monotonic() - began
    draw, cut = random.Random(kind), tmp_path / "cut"
    for number in range(KILLS):
        process = start(cut)
        # A third of them anywhere, the others around the writing of a state.
        patience = draw.uniform(0, seconds / 2) if number % 3 == 0 else seconds
        time.sleep(draw.uniform(0, 0.3))
        assert killed_somewhere(process, cut / "checkpoints", patience), "it ended too soon"
    assert not (cut / "result.json").exists()
    finish(cut)
    same(tmp_path / "whole", cut)
