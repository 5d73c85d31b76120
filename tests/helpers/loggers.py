"""Loggers of tests."""

import json
import sys
import types

from senet_jax.training import loggers


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
    patched.setitem(loggers.LOGGERS, name, (name, "json", ""))
    module = types.SimpleNamespace(LOGGER=logger)
    patched.setitem(sys.modules, f"{loggers.__name__}.{name}", module)
    return logger


def lines_of(directory):
    """The lines of metrics.jsonl, as loggers get them."""
    text = (directory / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    return [(line.pop("step"), line) for line in lines]
