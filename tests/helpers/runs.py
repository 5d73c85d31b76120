"""A run of seconds, and what a finished run leaves, without the run."""

import json
import os

import jax
import pytest
from helpers.weights import fill

from configs import digits, imagenet
from experiments.reporting.run_files import made_up
from senet_jax.runs import checkpoints, provenance, workdir
from senet_jax.system import files
from senet_jax.training import loop
from senet_jax.training.loop import train_and_evaluate
from senet_jax.training.prepare import Plan, prepare


def tiny_config(stages=1):
    """SE-ResNet-20 with one block in each stage, on a few digits.

    Most of a tiny run is its compilation, which takes half as long with one stage as with two.
    """
    config = digits.get_config("seresnet20")
    config.model.se.stages = tuple(range(2, 2 + stages))
    with config.unlocked():
        config.model.stage_sizes = (1,) * stages
        config.model.width = 4
    config.data.train_split = "train[:128]"
    config.data.eval_split = "test[:50]"
    config.train.batch_size = 32
    config.train.epochs = 2.0
    config.train.log_every_steps = 1
    return config


def photos_config():
    """A narrow, shallow SE-ResNet-18 on the streamed images of photos.py, some of them broken."""
    config = imagenet.get_config("seresnet18,photos")
    config.model.se.stages = (2,)
    with config.unlocked():
        config.model.width = 4
        config.model.stage_sizes = (1,)
    config.data.update(train_split="whole", eval_split="with_broken", image_size=32)
    config.train.update(epochs=2.0, batch_size=16)
    return config


def interrupt_training(config, directory, devices):
    """Train until Ctrl-C comes at the end of the first evaluation."""

    def press(*_):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("senet_jax.training.reporter.Reporter.evaluation", press)
        with pytest.raises(KeyboardInterrupt):
            train_and_evaluate(config, directory, devices)


def finish(directory, config, curve=(), **result):
    """Write config.json and result.json; `result` are the values that differ from the usual ones.

    `curve` are the top-1 errors of evaluations, at steps 10, 20, ..., for a metrics.jsonl.
    """
    workdir.start(directory, config)
    workdir.forget_failure(directory)
    result = made_up(config) | result
    files.write_json(directory / "result.json", result)
    lines = []
    for step, error in enumerate(curve, start=1):
        lines.append({"step": 10 * step - 5, "train/loss": 9.0})
        lines.append({"step": 10 * step, "train/loss": 1 / step, "learning_rate": 0.1})
        lines.append({"step": 10 * step, "eval/loss": 2 / step, "eval/top1_error": error})
    if lines:
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (directory / "metrics.jsonl").write_text(text)


def finish_untrained(directory, config, *, recorded=False):
    """What a run leaves that can be loaded, with weights that are drawn: no step is compiled.

    With `recorded` the result says what images and classes it was for, as it does by now.
    """
    run = prepare(config, jax.local_devices()[:1])
    state = run.initial_state.replace(**fill(run.initial_state.variables))
    checkpoints.save(directory / workdir.CHECKPOINTS, 8, state)
    records = run.dataset.identity if recorded else {}
    finish(directory, config, params_sha256=provenance.fingerprint(state.variables), **records)


def plan_with(total, periods, freeze_after, steps_per_call):
    """A plan; `periods` are those of evaluations, lines of metrics and checkpoints."""
    return Plan(total, 1, *periods, min(freeze_after, total), steps_per_call)


SPEED = ("images_per_second", "step_seconds", "data_wait")


def logged(workdir):
    """Every number of metrics.jsonl by step and name, but those of speed."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    numbers = {}
    for line in lines:
        for name, value in line.items():
            assert (line["step"], name) not in numbers or name == "step", "written twice"
            if name not in SPEED:
                numbers[line["step"], name] = value
    return numbers


def same(one, other):
    """Two runs: the same weights, and the same numbers on the way there."""
    times = (*SPEED, "wall_time_seconds", "peak_host_memory", "finished")
    results = []
    for path in (one, other):
        result = json.loads((path / "result.json").read_text())
        results.append({key: value for key, value in result.items() if key not in times})
    assert results[0] == results[1]
    assert logged(one) == logged(other)


def interrupted(config, workdir, devices, monkeypatch, number, at):
    """A run that is sent a signal when it comes to a place for the n-th time."""
    place, count = at
    calls = 0
    original = getattr(loop, place)

    def spy(*arguments, **keywords):
        nonlocal calls
        calls += 1
        if calls == count:
            os.kill(os.getpid(), number)
        return original(*arguments, **keywords)

    with monkeypatch.context() as patched:
        patched.setattr(loop, place, spy)
        return train_and_evaluate(config, workdir, devices)


def contents(directory):
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
