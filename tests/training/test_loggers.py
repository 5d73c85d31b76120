"""Loggers get every point once, whatever stops a run, and can neither stop nor change one."""

import functools
import importlib.util
import threading

import pytest
from helpers.loggers import Memory, add_logger, lines_of
from helpers.runs import same
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from senet_jax import main
from senet_jax.errors import InputError
from senet_jax.runs import workdir
from senet_jax.training import loggers
from senet_jax.training.loggers import USUAL, Loggers
from senet_jax.training.loop import train_and_evaluate
from senet_jax.training.writer import MetricWriter


@pytest.fixture
def with_logger(monkeypatch):
    """Make an object a logger by name."""
    return functools.partial(add_logger, monkeypatch)


@pytest.fixture
def memory(with_logger):
    return with_logger("memory", Memory())


# --- Every point once -----------------------------------------------------------------------------


def session(directory, lines, start, names):
    """Write lines after step `start`, as a process does that continues there."""
    workdir.cut_metrics(directory, start, False)
    with Loggers(names, "16") as logging:
        logging.begin({"seed": 0}, directory, start)
        with MetricWriter(directory, logging) as writer:
            for step, values in lines:
                writer.write(step, values)


WHOLE = [
    line
    for step in range(1, 9)
    for line in [(step, {"train/loss": 1 / step}), (step, {"eval/loss": 2 / step})][: 2 - step % 2]
]


@settings(
    max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    cuts=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 12), st.booleans()), max_size=3),
    lost=st.booleans(),
)
def test_a_logger_has_every_point_once_however_often_a_run_is_cut_off(
    with_logger, tmp_path_factory, cuts, lost
):
    """A process starts from some checkpoint, writes so many lines, with or without the logger.

    What it wrote after the next checkpoint is written again, and a logger that was not there, or
    failed, is told what it missed.
    """
    memory, directory = with_logger("memory", Memory()), tmp_path_factory.mktemp("run")
    (directory / "metrics.jsonl").touch()
    written = 0
    for start, count, with_it in cuts:
        start = min(start, written)
        after = [line for line in WHOLE if line[0] > start][:count]
        session(directory, after, start, ["memory"] if with_it else [])
        written = max([start, *(step for step, _ in after[:-1])])  # the last may be half a step
    if lost:  # which a user may do, and the run goes on
        (directory / "metrics.jsonl").unlink()
    start = min(4, written)
    session(directory, [line for line in WHOLE if line[0] > start], start, ["memory"])
    (points,) = memory.runs.values()
    missed = [line for line in WHOLE if line not in points]
    assert len(points) + len(missed) == len(WHOLE)
    assert [line for line in WHOLE if line in points] == points
    assert missed == [] or lost


# --- Neither stop nor change a run ----------------------------------------------------------------


class Failing(Memory):
    def __init__(self, method):
        super().__init__()
        self.method = method

    def _fail(self, *_):
        raise RuntimeError(f"no {self.method}\nat all")

    def __getattribute__(self, name):
        fails = name != "method" and name == object.__getattribute__(self, "method")
        return object.__getattribute__(self, "_fail" if fails else name)


def test_loggers_that_fail_warn_once_each_and_leave_the_run_as_it_is(
    tiny, tmp_path, one_device, with_logger, capsys
):
    plain = tmp_path / "plain"
    train_and_evaluate(tiny, plain, one_device, log=[])
    assert not list(plain.glob("events.*"))
    names = ["begin", "write", "finish"]
    for name in names:
        with_logger(name, Failing(name))
    good = with_logger("good", Memory())
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "damaged.json").write_text("{")
    with_logger("damaged", Memory())
    capsys.readouterr()
    train_and_evaluate(tiny, tmp_path / "run", one_device, log=[*names, "damaged", "good"])
    same(plain, tmp_path / "run")
    assert good.runs["run0"] == lines_of(tmp_path / "run")
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(warnings) == 4
    for name in names:
        assert f"warning: {name} failed, and the run goes on without it: no {name}" in warnings


def test_a_logger_that_hangs_is_left_behind(tmp_path, with_logger, monkeypatch, capsys):
    monkeypatch.setattr(loggers, "SHORT_PATIENCE", 0.1)
    ended = threading.Event()

    class Hanging(Memory):
        def write(self, step, values):
            ended.wait(60)

    with_logger("hanging", Hanging())
    (tmp_path / "metrics.jsonl").touch()
    session(tmp_path, WHOLE, 0, ["hanging"])
    assert "warning: hanging did not end within 0.1 s" in capsys.readouterr().err
    ended.set()


def test_only_the_first_process_logs(tiny, tmp_path, one_device, memory, monkeypatch):
    monkeypatch.setattr(workdir.WorkDirectory, "written_here", property(lambda _: None))
    train_and_evaluate(tiny, tmp_path, one_device, log=["memory", "tensorboard"])
    assert memory.abouts == []
    assert not list(tmp_path.glob("events.*"))


@pytest.mark.parametrize(
    ("flag", "sentence"),
    [
        ("tensorbord", "--log takes tensorboard, wandb, mlflow, not 'tensorbord'; did you mean"),
        ("wandb ml", "not 'wandb ml'"),
        ("tensorboard,tensorboard", "--log has tensorboard twice"),
        ("mlflow", r"--log=mlflow needs mlflow, which is not installed: pip install -e '.\[mlfl"),
    ],
)
def test_what_cannot_be_logged_to_is_refused_before_anything(
    flag, sentence, tiny, tmp_path, monkeypatch
):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "mlflow" else 1)
    with pytest.raises(InputError, match=sentence):
        train_and_evaluate(tiny, tmp_path / "x", log=flag.split(","))
    assert not (tmp_path / "x").exists()


def test_the_default_is_tensorboard_beside_metrics():
    assert main.LOG.default == [*USUAL] == ["tensorboard"]


# --- TensorBoard ----------------------------------------------------------------------------------


def events(directory):
    from tensorboardX.proto.event_pb2 import Event

    for path in sorted(directory.glob("events.out.tfevents.*")):
        content, place = path.read_bytes(), 0
        while place < len(content):
            size = int.from_bytes(content[place : place + 8], "little")
            yield Event.FromString(content[place + 12 : place + 12 + size])
            place += size + 16


def test_tensorboard_shows_the_points_and_the_hyperparameters(tiny, tmp_path):
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

    session(tmp_path, WHOLE[:5], 0, ["tensorboard"])
    points = [
        (event.step, {value.tag: pytest.approx(value.simple_value)})
        for event in events(tmp_path)
        for value in event.summary.value
        if not value.metadata.plugin_data.plugin_name
    ]
    assert points == WHOLE[:5]
    with Loggers() as logging:
        logging.begin({"optim.nesterov": True, "seed": 3, "se": (2, 3)}, tmp_path, 0)
        logging.finish({"step": 8})
    plugins = {
        value.tag.rpartition("/")[2]: HParamsPluginData.FromString(
            value.metadata.plugin_data.content
        )
        for event in events(tmp_path)
        for value in event.summary.value
        if value.metadata.plugin_data.plugin_name == "hparams"
    }
    assert plugins.keys() == {"experiment", "session_start_info", "session_end_info"}
    given = plugins["session_start_info"].session_start_info.hparams
    assert given["optim.nesterov"].bool_value is True
    assert given["seed"].number_value == 3
    assert given["se"].string_value == "(2, 3)"
    metrics = [info.name.tag for info in plugins["experiment"].experiment.metric_infos]
    assert {"eval/top1_error", "train/loss"} <= {*metrics}
