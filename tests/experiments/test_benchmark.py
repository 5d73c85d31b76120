"""The benchmark's rows and table, on a network of seconds; nothing here looks at the times."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.commands import call, start

from experiments import overhead
from experiments.reporting.blocks import pages_with
from experiments.statistics.medians import interval_of_median
from experiments.timing import answers, contestants, growth, input_race, performance, race
from senet_jax.errors import InputError
from senet_jax.training.prepare import prepare

ROOT = Path(__file__).parents[2]


@pytest.mark.slow(reason="compiles eight steps and inferences in processes of their own")
def test_contestants_take_their_steps_and_leave_a_row_each(tmp_path):
    path = tmp_path / "rows.csv"
    arguments = "--what=train,infer", "--batch=2", "--steps=1", "--against=plain"
    done = start("experiments.benchmark", "seresnet20_cifar", *arguments, f"--csv={path}")
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [(row["what"], row["contestant"]) for row in rows] == [
        ("train", "ours"),
        ("train", "plain"),
        ("infer", "ours"),
        ("infer", "plain"),
    ]
    for row in rows:
        assert float(row["min_s"]) <= float(row["median_s"]) <= float(row["max_s"])
        assert float(row["peak_gb"]) > 0
        assert float(row["compile_s"]) > 0
        assert float(row["gmacs"]) == 0.082  # 0.041 per image, counted by hand
    assert float(rows[0]["again_s"]) < float(rows[0]["compile_s"])
    table = performance.markdown_table(rows)
    assert "| `seresnet20_cifar` train, 2, 32 |" in table
    assert rows[0]["machine"] in table
    assert start("experiments.benchmark", f"--growth={path}").returncode == 0
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_a_race_that_is_measured_again_is_a_line_of_its_own():
    """A table never puts the times of two races side by side."""

    def row(contestant, seconds, times_ours, commit):
        named = {"network": "resnet50", "what": "train", "batch": "8", "size": "224"}
        named |= {"contestant": contestant, "machine": "m", "commit": commit, "peak_gb": "1"}
        cold = dict.fromkeys(("compile_s", "again_s", "again_gb"), "1")
        return named | cold | {"median_s": str(seconds), "times_ours": str(times_ours)}

    before = [row("ours", 2.0, 1.0, "a"), row("plain", 5.0, 2.5, "a")]
    after = [row("ours", 1.0, 1.0, "b")]
    lines = performance.markdown_table(before + after).splitlines()
    assert [line.split(" | ")[1:3] for line in lines[2:4]] == [["2.000", "2.50"], ["1.000", "-"]]


def of_input():
    rows = (ROOT / "experiments/results/timing/input.csv").read_text("utf-8")
    return input_race.markdown_table(list(csv.DictReader(rows.splitlines())))


@pytest.mark.parametrize(
    ("mark", "table"),
    [
        ("performance", performance.overview),
        ("speed", performance.headline),
        ("input", of_input),
        ("growth", growth.published),
    ],
)
def test_pages_hold_the_published_tables(mark, table):
    pages = pages_with(mark)
    assert pages
    for page in pages:
        assert f"<!-- {mark} -->\n{table()}<!-- end {mark} -->" in page.read_text("utf-8")


def taken(seconds, burst=1, **facts):
    return race.Taken(seconds, burst, 2.0, {"peak_gb": 1.0} | facts)


def test_rows_say_what_was_done_against_what_the_machine_can_do(monkeypatch):
    monkeypatch.setattr(race.provenance, "processor", lambda: "a processor")
    entry = contestants.Entry("ours", {"name": "x"}, "train", 8, 32, dtype="bfloat16", devices=2)
    facts = {"hardware": "NVIDIA X100 80GB", "machine_tflops": 3.0, "machine_gb_s": 20.0}
    ours = taken([0.4, 0.6] * 6, moved_gb=5.0, **facts)
    other = taken([0.8, 1.2] * 5 + [2.0, 3.0], burst=7)
    rows = performance.rows_of(entry, {"ours": ours, "torch": other}, taken([1.0]), 10**10)
    assert rows[0]["images_per_s"] == 16
    # 8 images of 10^10 multiply-adds, 2 FLOPs each, three times in training, in half a second
    assert rows[0]["tflops"] == 8 * 2 * 3 * 0.01 / 0.5
    assert performance.of_machine(rows[0], "tflops") == "0.96 (32%)"
    assert performance.of_machine(rows[0], "gb_s") == "10 (50%)"
    assert performance.of_machine(rows[1], "gb_s") == ""  # XLA's analysis is of our programs
    assert (rows[1]["times_ours"], rows[1]["low"], rows[1]["burst"]) == (2.0, 2.0, 7)
    assert rows[1]["high"] > 2.0
    table = performance.markdown_table(rows)
    assert "`x` train, 8, 32, bfloat16, 2 devices" in table
    assert "plain" not in table
    assert rows[0]["machine"].startswith("NVIDIA X100 80GB, jax ")


def test_a_ratio_pairs_turns_and_has_no_interval_of_few():
    """The machine slows down eightfold on its way; the ratio of the turns does not move."""
    ours = [0.1 * 1.5**turn for turn in range(6) for _ in range(2)]
    theirs = [3 * seconds for seconds in ours]
    assert performance.ratio_of(taken(theirs), taken(ours)) == pytest.approx((3, 3, 3))
    assert performance.ratio_of(taken(theirs[:10]), taken(ours[:10])) == pytest.approx((3,))
    assert performance.ratio_of(taken(theirs[:1]), taken(ours[:1])) == pytest.approx((3,))


def test_rows_for_a_folder_go_to_the_file_of_their_hardware(tmp_path):
    machine = "NVIDIA H100 80GB HBM3, jax 0.10.2, torch 2.14.1"
    folder = tmp_path / "a" / "b"
    assert performance.csv_of(folder, machine) == folder / "nvidia-h100-80gb-hbm3.csv"
    assert performance.csv_of(tmp_path / "x.csv", machine) == tmp_path / "x.csv"
    (tmp_path / "file.csv").write_text("")
    with pytest.raises(InputError, match="cannot be made"):
        performance.csv_of(tmp_path / "file.csv" / "folder", machine)


def test_published_rows_are_in_the_file_of_their_hardware():
    for path in performance.FOLDER.glob("*.csv"):
        for row in csv.DictReader(path.read_text("utf-8").splitlines()):
            assert performance.csv_of(path.parent, row["machine"]) == path


@pytest.mark.parametrize(("least", "step", "steps"), [(0.5, 2.0, 1), (0.5, 0.01, 50), (0, 0, 1)])
def test_a_burst_has_as_many_steps_as_it_needs_to_last(least, step, steps):
    assert race.steps_for(least, step) == steps


def test_a_contestant_takes_its_steps_in_a_burst_and_knows_its_memory(monkeypatch, capsys):
    taken = []
    monkeypatch.setattr("sys.stdin", io.StringIO("steps 1\nsteps 7\nfacts\n"))
    answers.serve(taken.append, 1.5, facts={"hardware": lambda: "x"})
    said = [line.removeprefix("answer ") for line in capsys.readouterr().out.splitlines()]
    assert taken == [1, 7]
    assert said[0] == "1.5"
    assert json.loads(said[-1])["hardware"] == "x"
    assert json.loads(said[-1])["peak_gb"] > 0


def test_what_a_contestant_does_ahead_counts_when_it_is_asked_next(monkeypatch, capsys):
    done = [100.0]

    def questions():
        for number in (1, 7):
            done[0] += 20.0  # it prepares what it will be asked for
            yield f"steps {number}\n"

    def steps(number):
        done[0] += number

    monkeypatch.setattr("sys.stdin", questions())
    answers.serve(steps, 1.5, work=lambda: done[0])
    said = capsys.readouterr().out.splitlines()
    assert said == ["answer 1.5", "answer 21.0", "answer 27.0"]


WITHOUT_TENSORFLOW = "raise ImportError('this machine has no TensorFlow')\n"


def without_tensorflow(folder):
    for name in ("tensorflow", "tensorflow_datasets"):
        (folder / f"{name}.py").write_text(WITHOUT_TENSORFLOW)
    return os.environ | {"PYTHONPATH": f"{folder}:{ROOT}"}


def test_the_benchmark_starts_without_tensorflow(tmp_path):
    code = "import experiments.benchmark, experiments.timing.contestants"
    environment = without_tensorflow(tmp_path)
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)
    code = "import tensorflow"  # the same way fails
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, check=False
    )
    assert b"this machine has no TensorFlow" in done.stderr


@pytest.mark.slow(reason="compiles three inferences and two steps in processes of their own")
def test_two_devices_and_bfloat16_race_without_tensorflow(tmp_path):
    arguments = "--what=train,infer", "--batch=4", "--steps=1", "--dtype=bfloat16", "--devices=2"
    command = [sys.executable, "-m", "experiments.benchmark", "seresnet20_cifar", *arguments]
    environment = without_tensorflow(tmp_path)
    folder = tmp_path / "rows"
    done = subprocess.run(
        [*command, "--against=fused", f"--csv={folder}"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (path,) = folder.iterdir()
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [row["contestant"] for row in rows] == ["ours", "fused"] * 2
    for row in rows:
        assert (row["dtype"], row["devices"], row["batch"]) == ("bfloat16", "2", "4")
        for column in ("tflops", "machine_tflops", "moved_gb", "gb_s", "machine_gb_s", "peak_gb"):
            assert float(row[column]) > 0, column


@pytest.mark.parametrize(
    ("module", "arguments", "sentence"),
    [
        ("benchmark", "", "name a network"),
        ("benchmark", "seresnet5", "did you mean 'seresnet50'"),
        (
            "benchmark",
            "seresnet50 --against=keras",
            "takes no-onednn, fused, plain, torch, torch-nchw, torch-compile, torch-huge, "
            "not 'keras'",
        ),
        ("benchmark", "seresnet50 --what=traine", "--what takes train, infer, not 'traine'"),
        ("benchmark", "resnet50 --dtype=float16", "takes float32, bfloat16, not 'float16'"),
        ("benchmark", "resnet50 --devices=0", "--devices must be at least 1, not 0"),
        ("benchmark", "resnet50 --devices=3 --batch=8", "--batch=8 does not divide among 3"),
        ("benchmark", "resnet50 --devices=2 --against=torch", "torch has one device"),
        ("benchmark", "seresnet50 --batch=0", "--batch must be at least 1, not 0"),
        ("benchmark", "seresnet50 --size=big", "--size must be at least 1, not big"),
        ("benchmark", "--markdown=nothing.csv", "nothing.csv cannot be read: No such file"),
        ("overhead", "", "give a configuration"),
        ("overhead", "--config=configs/digits.py steps=10", "unexpected argument 'steps=10'"),
        ("overhead", "--config=configs/digits.py --steps=0", "--steps must be at least 1, not 0"),
        ("benchmark", "seresnet50 --input=photographs", "takes no network, not 'seresnet50'"),
        ("benchmark", "--input=photograph", "did you mean 'photographs'"),
        ("benchmark", "--input=digits --steps=0", "--steps must be at least 1, not 0"),
    ],
)
def test_bad_input_is_refused_with_a_sentence(module, arguments, sentence):
    done = call(f"experiments.{module}", *arguments.split())
    assert done.returncode != 0
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_the_loop_is_timed_in_turn_with_bare_steps(tiny, one_device):
    tiny.train.update({"steps_per_call": 2, "eval_every_epochs": 0.5, "log_every_steps": 3})
    run = prepare(tiny, one_device)
    pairs = list(overhead.rounds(run, steps=4, count=2))
    assert len(pairs) == 2
    assert all(0 < seconds < 60 for pair in pairs for seconds in pair)
    assert not run.initial_state.step.is_deleted()  # each round began with a copy


@pytest.mark.parametrize("count", [6, 7, 8, 15, 40])
def test_the_interval_of_a_median_covers_it_as_often_as_it_says(count):
    draws = np.random.default_rng(1).lognormal(0.0, 0.1, (1000, count))  # of median 1
    bounds = [interval_of_median(draw) for draw in draws]
    covered = sum(low <= 1 <= high for low, high in bounds)
    assert 0.945 * len(draws) < covered < len(draws)
    assert all(set(pair) <= set(draw) for draw, pair in zip(draws, bounds, strict=True))


def test_there_is_no_interval_of_five_values():
    assert interval_of_median([1.0, 2.0, 3.0, 4.0, 5.0]) is None
    assert interval_of_median([1.0]) is None
    assert interval_of_median([2.0] * 6) == (2.0, 2.0)
