"""Weights & Biases and MLflow, without a network: a run that was cut off is there once."""

import importlib.util
import json
import os
import threading
import typing
from pathlib import Path

import jax
import pytest
from helpers.loggers import Memory, add_logger, lines_of
from helpers.runs import SPEED, interrupt_training, logged, same, tiny_config

from senet_jax.training import loggers
from senet_jax.training.loggers import LOGGERS, USUAL
from senet_jax.training.loop import train_and_evaluate


def needs(package):
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"no {package}")


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
