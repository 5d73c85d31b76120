"""Report a study of many runs that were not trained; growth.py in experiments/timing asks for it.

python -m experiments.reporting.many_runs report 1000
"""

import contextlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from experiments.grid.plan import base_config, plan
from experiments.reporting.collect import collect
from experiments.reporting.run_files import made_up
from experiments.reporting.write import write_report
from experiments.studies import load_study
from experiments.timing.answers import Steps, serve
from senet_jax.runs import workdir
from senet_jax.system import files

EPOCHS = 15


def main(argv: list[str]) -> None:
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as directory:
        steps = reports(int(argv[2]), Path(directory))
        serve(steps, time.perf_counter() - start)


def reports(count: int, directory: Path) -> Steps:
    """Write what so many runs leave, and return what reports all of them."""
    study = load_study("reduction")
    bases = [base_config(study, row, "digits", smoke=False) for row in study.rows]
    seeds = tuple(range(-(-count // len(bases))))
    for run in plan(study, bases, seeds, directory)[:count]:
        _finish(run.workdir, run.config, np.random.default_rng([run.seed, len(run.row.label)]))

    def steps(times: int) -> None:
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
            for _ in range(times):
                collected = collect(study, directory)
                assert sum(map(len, collected.results.values())) == count, collected.damaged
                write_report(study, collected.results, directory, collected.unfinished)

    return steps


def _finish(path: Path, config: Any, rng: np.random.Generator) -> None:
    """Write the files of a finished run with errors that are drawn."""
    workdir.start(path, config)
    errors = rng.normal(3, 1, EPOCHS)
    result = made_up(config) | {"eval/top1_error": float(errors[-1])}
    files.write_json(path / "result.json", result)
    lines = [
        {"step": step, "eval/loss": error / 30, "eval/top1_error": error}
        for step, error in enumerate(errors.tolist(), start=1)
    ]
    files.write(path / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode())


if __name__ == "__main__":
    main(sys.argv)
