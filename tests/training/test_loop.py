"""What the loop does between steps: calls of several steps, speed, norms, traces, a few words."""

import dataclasses
import itertools
import json
import signal
import time

import jax
import numpy as np
import pytest
from helpers.runs import interrupted, logged, plan_with, same
from hypothesis import given
from hypothesis import strategies as st

from senet_jax.data import in_memory
from senet_jax.runs import checkpoints
from senet_jax.system.terminal import duration
from senet_jax.training import prepare, session
from senet_jax.training.config import TrainConfig
from senet_jax.training.loop import train_and_evaluate
from senet_jax.training.reporter import Reporter
from senet_jax.training.result import in_words


@given(
    total=st.integers(1, 200),
    every=st.tuples(st.integers(1, 90), st.integers(1, 90), st.integers(0, 90)),
    freeze_after=st.integers(0, 200),
    steps_per_call=st.integers(1, 20),
)
def test_calls_stop_where_something_is_due_and_continue_as_they_would_have(
    total, every, freeze_after, steps_per_call
):
    plan = plan_with(total, every, freeze_after, steps_per_call)
    counts = list(plan.calls(0))
    evaluations, _, checkpoints_every = every
    most = min(steps_per_call, evaluations, checkpoints_every or total)
    assert set(counts) <= {1, most}
    ends = list(itertools.accumulate(counts))
    assert ends[-1] == total
    periods = [period for period in (evaluations, checkpoints_every) if period]
    due = {step for period in periods for step in range(period, total, period)}
    due |= {plan.freeze_after} - {0}
    assert due <= set(ends)
    for end, count in zip(ends, counts, strict=True):  # single steps only where more do not fit
        places = range(end - count + 1, end - count + most)
        assert count == most or due & {*places} or end - count + most > total
    for place, end in enumerate(ends[:-1]):
        assert list(plan.calls(end)) == counts[place + 1 :]


@pytest.mark.slow(reason="trains six times, with calls of many lengths")
def test_several_steps_a_call_train_like_single_ones_and_resume_to_the_same_bits(
    tiny, tmp_path, monkeypatch
):
    devices = jax.local_devices()[:2]
    tiny.train.update({"epochs": 4.0, "log_every_steps": 5, "freeze_bn_epochs": 0.5})
    tiny.optim.learning_rate = 0.02
    train_and_evaluate(tiny, tmp_path / "single", devices)
    tiny.train.steps_per_call = 2
    train_and_evaluate(tiny, tmp_path / "whole", devices)
    one, other = logged(tmp_path / "single"), logged(tmp_path / "whole")
    assert one.keys() == other.keys()
    assert (5, "train/loss") in one
    for key, value in one.items():
        if "loss" in key[1] or "norm" in key[1]:
            np.testing.assert_allclose(other[key], value, rtol=1e-3, err_msg=str(key))
    cut = tmp_path / "cut"
    for place in (("learning_rate", 2), ("evaluate", 1)):
        with pytest.raises(KeyboardInterrupt):
            interrupted(tiny, cut, devices, monkeypatch, signal.SIGINT, place)
    train_and_evaluate(tiny, cut, devices)
    same(tmp_path / "whole", cut)


def test_norms_speed_and_a_slow_input_are_written_down(tiny, tmp_path, one_device, monkeypatch):
    original = in_memory.Images.train_batches

    def slow(*arguments):
        for batch in original(*arguments):
            time.sleep(0.3)
            yield batch

    monkeypatch.setattr(in_memory.Images, "train_batches", slow)
    tiny.train.update({"log_every_steps": 4, "profile_steps": (2, 3)})
    result = train_and_evaluate(tiny, tmp_path, one_device)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    last = [line for line in lines if "train/loss" in line][-1]
    run = prepare.prepare(tiny, one_device)
    state = checkpoints.restore(tmp_path / "checkpoints", run.initial_state).state
    squares = sum(float((np.float64(p) ** 2).sum()) for p in jax.tree.leaves(state.params))
    np.testing.assert_allclose(last["train/parameter_norm"], np.sqrt(squares), rtol=1e-5)
    assert 0 < last["train/gradient_norm"] < 100
    # Three of four steps wait for a batch, however long the steps themselves take.
    assert 0.75 * 0.3 < last["data_wait"] * last["step_seconds"] <= last["step_seconds"]
    np.testing.assert_allclose(last["images_per_second"], 32 / last["step_seconds"], rtol=1e-6)
    assert 0 < result["data_wait"] <= 1
    assert len(list((tmp_path / "plugins" / "profile").glob("*/*.xplane.pb"))) == 1


def test_no_more_than_two_calls_are_queued(tiny, one_device, tmp_path, monkeypatch):
    waited = []
    run = prepare.prepare(tiny, one_device)
    monkeypatch.setattr(session.jax, "block_until_ready", waited.extend)
    at = session.Session.resume(run, tmp_path / "none", time.perf_counter())
    for number in range(5):
        at.advance(lambda state, batch: (state, batch), {"number": number}, 3)
        assert len(waited) == max(0, number - 1)
    assert at.step == 15
    assert [sums["number"] for sums in waited] == [0, 1, 2]


def test_pace_leaves_pauses_out_and_says_nothing_before_the_first_step():
    report = Reporter(10, 32, None)
    assert report.pace == {}
    with report.paused():
        time.sleep(0.2)
    with report.waiting():
        time.sleep(0.05)
    report.steps(2)
    speed = report.step(2, 1.0)
    assert 0.025 <= speed["step_seconds"] < 0.1
    assert 0.5 < speed["data_wait"] <= 1
    assert report.step(2, None) == {}
    assert report.pace["step_seconds"] >= speed["step_seconds"]


FINISHED = {
    "model": "seresnet50",
    "dataset": "imagenet2012",
    "seed": 3,
    "step": 125_000,
    "devices": 8,
    "device_kind": "TPU v4",
    "wall_time_seconds": 12_345.0,
    "images_per_second": 10_432.1,
    "data_wait": 0.012,
    "eval/top1_error": 22.2,
    "eval/top5_error": 6.3,
    "eval/examples": 50_000,
    "best_top1_error": 22.1,
    "best_step": 120_000,
    "train/skipped": 2,
    "pretrained_channels": 3,
    "image_shape": [224, 224, 13],
    "peak_device_memory": 3 * 2**30,
    "peak_host_memory": 2**30,
}


def test_a_run_is_summed_up_in_words(tmp_path):
    assert in_words(FINISHED, tmp_path).splitlines() == [
        "seresnet50 on imagenet2012, seed 3: 125,000 steps in 3 h 26 min on 8 x TPU v4, "
        "10,432 images/s, 1% of the time waiting for data",
        "top-1 error 22.20 %, top-5 error 6.30 % on 50,000 examples",
        "lowest top-1 error on the way 22.10 %, at step 120,000",
        "started from weights for images of 3 channels, their first kernel repeated and scaled for "
        "13 channels",
        "2 updates were not finite and were skipped",
        "peak memory of a device 3.0 GiB",
        f"-> {tmp_path}/result.json",
    ]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(42.4, "42 s"), (720, "12 min"), (12_345, "3 h 26 min"), (187_200, "2 d 4 h")],
)
def test_durations_are_said_as_people_do(seconds, words):
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("value", "sentence"),
    [((3, 2), "not \\(3, 2\\)"), ((0, 5), "not \\(0, 5\\)"), ((1,), "not \\(1,\\)")],
)
def test_steps_that_cannot_be_traced_are_refused(tiny, value, sentence):
    fields = tiny.train.to_dict() | {"profile_steps": value}
    with pytest.raises(ValueError, match=f"profile_steps must be the first and the.*{sentence}"):
        TrainConfig(**fields)


def test_steps_per_call_must_be_positive(tiny):
    with pytest.raises(ValueError, match="steps_per_call must be above 0, not 0"):
        dataclasses.replace(TrainConfig(**tiny.train.to_dict()), steps_per_call=0)
