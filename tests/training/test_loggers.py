"""Loggers get every point once, whatever stops a run, and can neither stop nor change one."""

import functools
import importlib.util
import itertools
import json
import os
import sys
import threading
import types
import typing
from pathlib import Path

import jax
import pytest
from helpers.runs import SPEED, interrupt_training, logged, same, tiny_config
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from senet_jax import main
from senet_jax.errors import InputError
from senet_jax.runs import workdir
from senet_jax.training import loggers
from senet_jax.training.loggers import LOGGERS, USUAL, Loggers
from senet_jax.training.loop import train_and_evaluate
from senet_jax.training.writer import MetricWriter


def needs(package):
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"no {package}")


class Memory:
    """A logger that keeps its runs in memory."""

    def __init__(self):
        self.runs, self.ends, self.abouts = {}, [], []

    def __call__(self):
        return self

    def begin(self, config, about):
        self.abouts.append(about)
        self.config, self.id = config, about.run_id or f"run{len(self.runs)}"
        self.points = self.runs.setdefault(self.id, [])
        return self.id

    def write(self, step, values):
        self.points.append((step, dict(values)))

    def finish(self, result):
        self.ends.append(result)


def add_logger(patched, name, logger):
    patched.setitem(LOGGERS, name, (name, "json", ""))
    module = types.SimpleNamespace(LOGGER=logger)
    patched.setitem(sys.modules, f"{loggers.__name__}.{name}", module)
    return logger


@pytest.fixture
def with_logger(monkeypatch):
    """Make an object a logger by name."""
    return functools.partial(add_logger, monkeypatch)


@pytest.fixture
def memory(with_logger):
    return with_logger("memory", Memory())


def lines_of(directory):
    """The lines of metrics.jsonl, as loggers get them."""
    text = (directory / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    return [(line.pop("step"), line) for line in lines]


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


REAL = [name for name in ("wandb", "mlflow") if importlib.util.find_spec(LOGGERS[name][1])]


class Cut(typing.NamedTuple):
    """A run that was interrupted and continued, with every logger that is installed."""

    directory: Path
    store: str
    memory: Memory
    result: dict


@pytest.fixture(scope="module")
def cut(tmp_path_factory):
    place, tiny, device = tmp_path_factory.mktemp("runs"), tiny_config(), jax.local_devices()[:1]
    whole, directory = place / "whole", place / "16" / "seed0"
    store, memory = (place / "st ore").as_uri(), Memory()
    log = ["memory", *USUAL, *REAL]
    train_and_evaluate(tiny, whole, device, log=[])
    assert not [*whole.glob("events.*")]

    def train(config, directory, devices):
        return train_and_evaluate(config, directory, devices, log=log, group="16")

    with pytest.MonkeyPatch.context() as patched:
        add_logger(patched, "memory", memory)
        patched.setenv("MLFLOW_TRACKING_URI", store)
        for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_PROJECT"):
            patched.delenv(name, raising=False)  # so that nothing asks for the network
        patched.setattr("helpers.runs.train_and_evaluate", train)
        interrupt_training(tiny, directory, device)
        result = train(tiny, directory, device)
        assert train(tiny, directory, device) == result  # nothing is begun again
    same(whole, directory)
    return Cut(directory, store, memory, result)


def test_a_run_that_continues_is_the_same_run_and_has_the_same_points(cut):
    memory = cut.memory
    assert memory.ends == [None, cut.result]
    first, again = memory.abouts
    assert (first.run_id, first.group, first.directory) == (None, "16", cut.directory)
    assert (again.run_id, again.group, again.directory) == ("run0", "16", cut.directory)
    assert memory.config["model.se.ratio"] == 16
    assert without_speed(memory.runs["run0"]) == without_speed(lines_of(cut.directory))


def without_speed(points):
    return [(step, {k: v for k, v in values.items() if k not in SPEED}) for step, values in points]


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


# --- The real ones, without a network -------------------------------------------------------------


@needs("mlflow")
def test_mlflow_files_have_the_run_once(cut):
    import mlflow

    client = mlflow.MlflowClient(cut.store)
    experiment = client.get_experiment_by_name("senet_jax")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "seed0"
    assert run.data.tags["group"] == "16"
    assert run.data.params["model.se.ratio"] == "16"
    assert run.data.metrics["result/params"] > 100
    points = {
        (metric.step, name): metric.value
        for name in run.data.metrics
        for metric in client.get_metric_history(run.info.run_id, name)
        if not name.startswith("result/")
    }
    counted = sum(
        len(client.get_metric_history(run.info.run_id, name))
        for name in run.data.metrics
        if not name.startswith("result/")
    )
    assert counted == len(points)
    assert {key: v for key, v in points.items() if key[1] not in SPEED} == {
        key: value for key, value in logged(cut.directory).items() if key[1] != "step"
    }


def leveldb_log(path):
    """The records of a file that W&B writes: a log as LevelDB's, after seven bytes of its own."""
    content, place, record = path.read_bytes(), 7, b""
    assert content[:4] == b":W&B"
    while place < len(content):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768  # what is left of a block holds no header
            continue
        size, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        record += content[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # a whole record, or its last part
            yield record
            record = b""


@needs("wandb")
def test_wandb_offline_has_the_run_once(cut):
    from wandb.proto.wandb_internal_pb2 import Record

    folders = sorted((cut.directory / "wandb").glob("offline-run-*"))
    assert len(folders) == 2
    paths = [path for folder in folders for path in folder.glob("*.wandb")]
    records = [Record.FromString(content) for path in paths for content in leveldb_log(path)]
    runs = [record.run for record in records if record.HasField("run")]
    (run_id,) = {run.run_id for run in runs}
    assert json.loads((cut.directory / "wandb.json").read_text())["run_id"] == run_id
    assert {(run.project, run.run_group, run.display_name) for run in runs} == {
        ("senet_jax", "16", "seed0")
    }
    steps = [record.history.step.num for record in records if record.HasField("history")]
    assert steps == sorted(set(steps))
    points = {}
    for record in records:
        items = {
            item.key or "/".join(item.nested_key): json.loads(item.value_json)
            for item in record.history.item
        }
        for name, value in items.items():
            if not name.startswith("_") and name not in ("step", *SPEED):
                assert (items["step"], name) not in points
                points[items["step"], name] = value
    assert points == {
        key: value for key, value in logged(cut.directory).items() if key[1] != "step"
    }
    summary = {
        item.key or "/".join(item.nested_key): json.loads(item.value_json)
        for record in records
        for item in record.summary.update
    }
    assert summary["result/params"] > 100


def test_experiments_that_several_runs_make_at_once_are_one(tmp_path):
    mlflow = pytest.importorskip("mlflow")
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    from senet_jax.training.loggers.ml_flow import MLflow

    threads, ids = [], []
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("MLFLOW_TRACKING_URI", (tmp_path / "runs").as_uri())

        def begin(number):
            about = loggers.About(tmp_path / f"seed{number}")
            ids.append(MLflow().begin({}, about))

        for number in range(6):
            threads.append(threading.Thread(target=begin, args=(number,)))
            threads[-1].start()
        for thread in threads:
            thread.join()
    client = mlflow.MlflowClient((tmp_path / "runs").as_uri())
    names = [experiment.name for experiment in client.search_experiments()]
    assert names.count("senet_jax") == 1
    assert len({*ids}) == 6


# --- From the command line ------------------------------------------------------------------------


def test_every_launcher_passes_loggers_on(tmp_path, monkeypatch, tiny):
    from absl import flags

    from experiments.grid.plan import PlannedRun
    from experiments.grid.study import Row
    from experiments.launch import choice, local, worker
    from senet_jax.system import cli

    class Ended:
        wait = staticmethod(lambda: 0)

    got = []

    def train(config, directory, *, log, group):
        got.append((directory.name, list(log), group))

    monkeypatch.setattr("senet_jax.training.loop.train_and_evaluate", train)
    monkeypatch.setattr("senet_jax.training.result.in_words", lambda *_: "")
    run = PlannedRun(Row("ratio=4", {}), 1, tiny, tmp_path / "ratio=4" / "seed1")
    workdir.start(run.workdir, run.config)

    def start(directory, log, flags, environment):
        worker.main(["worker", str(directory), f"--log={','.join(log)}"])
        return Ended()

    monkeypatch.setattr(local.worker, "start", start)
    monkeypatch.setattr(local, "slices_of_machine", lambda jobs: [local.Slice([], [])] * jobs)
    for jobs, log in itertools.product(([], ["--jobs=2"]), (["tensorboard"], [])):
        values = flags.FlagValues()
        choice.define_flags(values)
        cli.parse_flags(["x", f"--log={','.join(log)}", *jobs], values)
        assert choice.launcher_of(values, [], tmp_path)([run]) == {}
        assert got.pop() == ("seed1", log, "ratio=4")
