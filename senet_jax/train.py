"""The training loop: `train_and_evaluate(config, workdir)`. Locals only; read it from the top."""

import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from senet_jax import (
    checkpoints,
    interrupt,
    metrics,
    optim,
    parallel,
    provenance,
    summary,
    workdir,
)
from senet_jax.errors import Diverged
from senet_jax.evaluate import evaluate
from senet_jax.prepare import Run, prepare
from senet_jax.state import TrainState


def train_and_evaluate(
    config: ConfigDict, directory: Path, devices: parallel.Devices | None = None
) -> dict[str, Any]:
    """Train as `config` says and return the content of `directory/result.json`.

    A finished work directory returns its result at once; an unfinished one starts from the
    beginning.

    Args:
      config: as configs/common.py describes.
      directory: gets config.json, metrics.jsonl, TensorBoard events, the final state in
        checkpoints/<step> and, last of all, result.json.
      devices: to share the batch over; all local ones by default.

    Raises:
      InputError: for a configuration that cannot be run, a work directory of another configuration,
        a loss that is no longer finite, or a checkpoint that cannot be written. In the first two
        cases nothing has been written.
    """
    started = time.perf_counter()
    if result := workdir.finished_result(config, directory):
        return result
    workdir.check_usable(directory)
    with interrupt.at_safe_points() as safe_point:
        run = prepare(config, devices or jax.local_devices())
        safe_point(run.initial_state)
        environment = provenance.environment(run.devices)  # now: files may change while it trains
        workdir.start(directory, config)
        checkpoints.discard(directory / workdir.CHECKPOINTS)
        with (
            metrics.MetricWriter(directory) as writer,
            metrics.reporting(run.total_steps, run.settings.batch_size) as report,
        ):
            state, measured = train(run, writer, report, safe_point)
        parallel.assert_replicated(state)
        checkpoints.save(directory / workdir.CHECKPOINTS, run.total_steps, state)
    counts = summary.summarize(run.model, run.dataset.train.image_shape)
    sections: dict[str, Any] = config.to_dict()
    result = {
        "model": sections["model"]["name"],
        "dataset": sections["data"]["name"],
        "seed": sections["seed"],
        "params": counts.params,
        "macs": counts.macs,
        "step": run.total_steps,
        **measured,
        "wall_time_seconds": time.perf_counter() - started,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        **environment,
        "params_sha256": provenance.fingerprint(state.variables),
    }
    workdir.write_json(directory / "result.json", result)
    return result


def train(
    run: Run,
    writer: metrics.MetricWriter,
    report: metrics.Reporter,
    safe_point: Callable[[Any], None],
) -> tuple[TrainState, dict[str, Any]]:
    """The loop. Returns the final state and its metrics: last training loss, evaluation, speed."""
    settings, state = run.settings, run.initial_state
    eval_every = max(1, round(settings.eval_every_epochs * run.steps_per_epoch))
    batches = run.dataset.train.train_batches(settings.batch_size, run.seed)
    measured: dict[str, Any] = {}
    pending: list[dict[str, jax.Array]] = []
    for step in range(1, run.total_steps + 1):
        batch = parallel.split_batch(next(batches), run.devices)
        step_function = run.train_step if step <= run.freeze_after else run.frozen_step
        state, sums = step_function(state, batch)
        pending.append(sums)
        if step == 1:
            parallel.assert_replicated(state)  # waits for the first step, so for its compilation
            report.start()

        evaluating = step % eval_every == 0 or step == run.total_steps
        if evaluating or step % settings.log_every_steps == 0:
            # Only here does the host wait for the device; between, steps queue up.
            train_means = {f"train/{name}": v for name, v in metrics.means(pending).items()}
            pending = []
            _check_finite("training", train_means["train/loss"], step)
            writer.write(step, train_means | {"learning_rate": learning_rate(run, state, step)})
            report.step(step, train_means["train/loss"])
            measured |= {"train/loss": train_means["train/loss"]}

        if evaluating:
            with report.paused():
                found, eval_means = evaluations(run, state)
            _check_finite("evaluation", found["loss"], step)
            if state.plateau is not None:
                plateau = optim.after_evaluation(run.optim, state.plateau, found["loss"])
                state = state.replace(plateau=parallel.replicate(plateau, run.devices))
            writer.write(step, eval_means)
            report.evaluation(step / run.steps_per_epoch, found)
            measured |= eval_means
        safe_point(state)  # Ctrl-C stops here
    return state, measured | {"images_per_second": report.images_per_second(run.total_steps)}


def evaluations(run: Run, state: TrainState) -> tuple[dict[str, float], dict[str, float]]:
    """Metrics of the weights, and the same for the log, beside those of their moving averages."""
    kinds = {"eval": state} if state.ema is None else {"eval": state, "eval_ema": state.averaged}
    found = {
        kind: evaluate(run.eval_step, which, run.dataset.eval, run.settings.batch_size, run.devices)
        for kind, which in kinds.items()
    }
    named = {f"{kind}/{name}": v for kind, means in found.items() for name, v in means.items()}
    return found["eval"], named


def learning_rate(run: Run, state: TrainState, step: int) -> float:
    """Of the update that made `step`."""
    scale = 1.0 if state.plateau is None else float(np.asarray(state.plateau.scale))
    return scale * float(np.asarray(run.schedule(step - 1)))


def _check_finite(kind: str, loss: float, step: int) -> None:
    if not math.isfinite(loss):
        raise Diverged(
            f"the {kind} loss became {loss} by step {step}; try a smaller optim.learning_rate"
        )
