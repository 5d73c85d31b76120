"""Weights & Biases: offline, in the work directory, unless its variables say otherwise."""

import importlib
import os
import secrets
import sys
from typing import Any

from senet_jax.training.loggers import PROJECT, About, Values, numbers_of, order

# Either asks for the network. A login that lies about in ~/.netrc does not.
VARIABLES = ("WANDB_MODE", "WANDB_API_KEY")


class WeightsAndBiases:
    """A run of Weights & Biases, whose own step is the order of a line of metrics.jsonl.

    Two lines may be about one step of ours, and what comes late for a step of its own is dropped.
    Charts are over our steps.
    """

    def begin(self, config: Values, about: About) -> str:
        wandb: Any = importlib.import_module("wandb")
        # It says nothing itself, and asks nobody at a terminal for a key.
        wandb.setup(settings=wandb.Settings(silent=True))
        told = any(os.environ.get(name) for name in VARIABLES)
        run_id = about.run_id or secrets.token_hex(4)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            group=about.group or None,
            name=about.directory.absolute().name,
            id=run_id,
            resume="allow",
            config={**config, "workdir": str(about.directory)},
            dir=about.directory,
            mode=None if told else "offline",
            reinit="create_new",  # runs in one process do not end each other
            settings=wandb.Settings(console="off"),
        )
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")
        offline = f"offline; wandb sync {about.directory}/wandb/offline-run-* would send it"
        place = offline if self._run.offline else self._run.url
        print(f"wandb: {place}", file=sys.stderr, flush=True)
        return run_id

    def write(self, step: int, values: Values) -> None:
        self._run.log({"step": step, **values}, step=order(step, values))

    def finish(self, result: Values | None) -> None:
        if result is not None:
            self._run.summary.update(numbers_of(result))
        self._run.finish(exit_code=int(result is None))


LOGGER = WeightsAndBiases
