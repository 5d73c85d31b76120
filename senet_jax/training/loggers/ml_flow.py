"""MLflow: files in ./mlruns, unless MLFLOW_TRACKING_URI says otherwise."""

import contextlib
import importlib
import logging
import math
import os
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from senet_jax.training.loggers import PROJECT, About, Values, numbers_of

MOST_PARAMS = 100  # that a store takes at once


class MLflow:
    """A run of MLflow, which has no groups: its pages group and filter by the tag "group"."""

    def begin(self, config: Values, about: About) -> str:
        # Its newer versions read and write files only where this is said. Files need no further
        # package, and runs may write them at once, on storage that machines share as well.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # its retries
        self._mlflow: Any = importlib.import_module("mlflow")
        where = os.environ.get("MLFLOW_TRACKING_URI") or "file:mlruns"
        self._client = self._mlflow.MlflowClient(where)
        if about.run_id is not None:
            self._id = about.run_id
            self._client.update_run(self._id, status="RUNNING")
            return self._id
        tags = {"workdir": str(about.directory)} | ({"group": about.group} if about.group else {})
        name = about.directory.absolute().name
        experiment = self._experiment(where)
        self._id = self._client.create_run(experiment, tags=tags, run_name=name).info.run_id
        self._log_params(config)
        return self._id

    def _experiment(self, where: str) -> str:
        """The id of the experiment, which is made if needed; several runs may come at once."""
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        with _locked(where):
            try:
                return self._client.create_experiment(name)
            except self._mlflow.exceptions.MlflowException:
                if (existing := self._client.get_experiment_by_name(name)) is None:
                    raise
                return existing.experiment_id

    def _log_params(self, config: Values) -> None:
        params = [self._mlflow.entities.Param(key, str(value)) for key, value in config.items()]
        for start in range(0, len(params), MOST_PARAMS):
            self._client.log_batch(self._id, params=params[start : start + MOST_PARAMS])

    def write(self, step: int, values: Values) -> None:
        now, metric = round(1000 * time.time()), self._mlflow.entities.Metric
        metrics = [metric(name, float(value), now, step) for name, value in values.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def finish(self, result: Values | None) -> None:
        if result is not None:
            finite = {k: v for k, v in numbers_of(result).items() if math.isfinite(v)}
            self.write(result["step"], finite)
        self._client.set_terminated(self._id, "KILLED" if result is None else "FINISHED")


def _locked(where: str) -> contextlib.AbstractContextManager[Any]:
    """Keep others from a store of files, which does not see to it that names are there once."""
    import filelock

    parts = urlsplit(where)
    if parts.scheme not in ("", "file"):
        return contextlib.nullcontext()
    folder = Path(unquote(parts.path))
    folder.mkdir(parents=True, exist_ok=True)
    return filelock.FileLock(folder / ".lock")


LOGGER = MLflow
