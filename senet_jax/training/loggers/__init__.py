"""Where a run is logged beside metrics.jsonl, from which every logger can be told what it missed.

A logger has a thread of its own: the run never waits for it until its end, and goes on without it
if it fails. The work directory says, in LOGGER.json, which run of the logger's it is and the
last line of metrics.jsonl that it has; a run that continues goes on there, without a point twice.
"""

import contextlib
import dataclasses
import importlib
import importlib.util
import itertools
import json
import queue
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

from absl import flags

from senet_jax.errors import InputError, did_you_mean, first_line
from senet_jax.system import files

flags.disclaim_key_flags()  # that of define_flag is the caller's

Values = Mapping[str, Any]

PROJECT = "senet_jax"  # in which runs are, unless the logger's own variables say otherwise
USUAL = ("tensorboard",)
# Each logger's module here, the package that it needs, and how to install that.
LOGGERS = {
    "tensorboard": ("tensorboard", "tensorboardX", "pip install tensorboardX"),
    "wandb": ("weights_and_biases", "wandb", "pip install -e '.[wandb]'"),
    "mlflow": ("ml_flow", "mlflow", "pip install -e '.[mlflow]'"),
}
# Seconds to wait for loggers at the end of a run, and of one that is stopped, perhaps by somebody
# who will not wait long.
PATIENCE, SHORT_PATIENCE = 60.0, 10.0


@dataclasses.dataclass(frozen=True)
class About:
    """A run, as its loggers know it.

    Attributes:
      directory: its work directory, by whose name it is called.
      group: name of what it belongs to, a row of a study; "" for none.
      step: the step it continues from; 0 at its beginning.
      run_id: what `begin` returned when the run was first logged there; None if it was not.
      last: the last line of metrics.jsonl that the logger has, by `order`; -1 for none.
    """

    directory: Path
    group: str = ""
    step: int = 0
    run_id: str | None = None
    last: int = -1


class Logger(Protocol):
    """A place where runs are logged; whatever it raises is a warning."""

    def begin(self, config: Values, about: About) -> str | None:
        """Begin or continue a run of this flat configuration.

        Returns: the id to continue it by; None for a logger that forgets what is after the step
          from which a run continues.
        """
        ...

    def write(self, step: int, values: Values) -> None:
        """Take a line of metrics.jsonl."""
        ...

    def finish(self, result: Values | None) -> None:
        """Close the run, with the content of result.json or, where it was stopped, None."""
        ...


def define_flag(values: flags.FlagValues) -> flags.FlagHolder[list[str]]:
    """Define the flag `--log`, which commands `check`."""
    where = "Loggers beside metrics.jsonl: tensorboard, wandb, mlflow."
    return flags.DEFINE_list("log", [*USUAL], where, flag_values=values)


def check(names: Sequence[str]) -> None:
    """Raises: InputError for a name that is no logger or comes twice, or one not installed."""
    for name in names:
        if name not in LOGGERS:
            raise InputError(
                f"--log takes {', '.join(LOGGERS)}, not {name!r}{did_you_mean(name, LOGGERS)}"
            )
        if names.count(name) > 1:
            raise InputError(f"--log has {name} twice")
        _, package, remedy = LOGGERS[name]
        if importlib.util.find_spec(package) is None:
            raise InputError(f"--log={name} needs {package}, which is not installed: {remedy}")


def order(step: int, values: Values) -> int:
    """The place of a line of metrics.jsonl among all: an evaluation comes after its step."""
    return 2 * step + ("eval/loss" in values)


def numbers_of(result: Values) -> dict[str, float]:
    """The numbers of a result that are not metrics, as "result/NAME"."""
    return {
        f"result/{name}": value
        for name, value in result.items()
        if isinstance(value, int | float) and "/" not in name
    }


class Loggers:
    """The loggers of a run; a context that waits for them when it is left.

    Args:
      names: keys of LOGGERS.
      group: see About.

    Raises: InputError, see `check`.
    """

    def __init__(self, names: Sequence[str] = USUAL, group: str = "") -> None:
        check(names)
        self._names, self._group = names, group
        self._feeds: list[_Feed] = []
        self._result: Values | None = None

    def begin(self, config: Values, directory: Path | None, step: int) -> None:
        """Begin a run, or continue it from a step, after what metrics.jsonl has.

        Without a directory, in a process that writes nothing, there is none.
        """
        if directory is None:
            return
        about = About(directory, self._group, step)
        earlier = []
        with (
            contextlib.suppress(FileNotFoundError),
            (directory / "metrics.jsonl").open("rb") as file,
        ):
            earlier = [json.loads(line) for line in file]
        self._feeds = [_Feed(name, config, about, earlier) for name in self._names]
        for feed in self._feeds:
            feed.start()

    def write(self, step: int, values: Values) -> None:
        """Pass on a line of metrics.jsonl."""
        for feed in self._feeds:
            feed.lines.put({"step": step, **values})

    def finish(self, result: Values) -> None:
        """Say that the run is finished."""
        self._result = result

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        for feed in self._feeds:
            feed.result = self._result
            feed.lines.put(None)
        patience = SHORT_PATIENCE if self._result is None else PATIENCE
        deadline = time.monotonic() + patience
        for feed in self._feeds:
            feed.join(max(0.0, deadline - time.monotonic()))
            if feed.is_alive():
                feed.warn(f"did not end within {patience:g} s, and may lack the last lines")


class _Feed(threading.Thread):
    """A thread that gives one logger the lines it lacks; it ends nobody but itself."""

    def __init__(self, name: str, config: Values, about: About, earlier: Sequence[Values]) -> None:
        super().__init__(name=name, daemon=True)
        self._config, self._about, self._earlier = config, about, earlier
        self.lines: queue.SimpleQueue[Values | None] = queue.SimpleQueue()
        self.result: Values | None = None
        self._warned = False

    def warn(self, text: str) -> None:
        """Print a warning, the first one only."""
        if not self._warned:
            print(f"warning: {self.name} {text}", file=sys.stderr, flush=True)
        self._warned = True

    def run(self) -> None:
        try:
            self._run()
        except BaseException as error:  # of any kind: it comes from packages and servers of others
            self.warn(f"failed, and the run goes on without it: {first_line(error)}")

    def _run(self) -> None:
        place = self._about.directory / f"{self.name}.json"
        about = dataclasses.replace(self._about, **(files.read_table(place) or {}))
        module = importlib.import_module(f"{__name__}.{LOGGERS[self.name][0]}")
        logger: Logger = module.LOGGER()
        run_id = logger.begin(self._config, about)

        def keep(last: int) -> None:
            files.write_json(place, {"run_id": run_id, "last": last})

        if run_id is None:
            for step, values in map(_parted, iter(self.lines.get, None)):
                logger.write(step, values)
        else:
            keep(about.last)  # before there is a line: it must not begin a second run
            lines = itertools.chain(self._earlier, iter(self.lines.get, None))
            for step, values in map(_parted, lines):
                if (here := order(step, values)) > about.last:
                    logger.write(step, values)
                    keep(here)
        logger.finish(self.result)


def _parted(line: Values) -> tuple[int, Values]:
    return line["step"], {name: value for name, value in line.items() if name != "step"}
