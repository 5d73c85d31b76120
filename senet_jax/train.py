"""The training loop: `train_and_evaluate(config, workdir)`. Locals only; read it from the top."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from senet_jax import (
    data,
    errors,
    interrupt,
    metrics,
    optim,
    parallel,
    provenance,
    steps,
    summary,
    workdir,
)
from senet_jax.data.augment import Augmentation, normalize
from senet_jax.errors import Diverged, InputError
from senet_jax.evaluate import evaluate
from senet_jax.layers.network import Network
from senet_jax.models import create_model
from senet_jax.state import TrainState, create_state


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The `train` section of a configuration; its keys are explained in configs/common.py."""

    epochs: float
    batch_size: int
    label_smoothing: float
    freeze_bn_epochs: float
    sync_batch_norm: bool
    eval_every_epochs: float
    log_every_steps: int

    def __post_init__(self) -> None:
        for field in ("epochs", "batch_size", "eval_every_epochs", "log_every_steps"):
            if not 0 < getattr(self, field) < math.inf:
                raise ValueError(f"{field} must be above 0, not {getattr(self, field)}")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1), not {self.label_smoothing}")
        if not 0 <= self.freeze_bn_epochs <= self.epochs:
            raise ValueError(
                f"freeze_bn_epochs must be from 0 to the {self.epochs:g} epochs there are, "
                f"not {self.freeze_bn_epochs}"
            )


Step = Callable[..., tuple[TrainState, dict[str, jax.Array]]]


@dataclasses.dataclass(frozen=True)
class Run:
    """What a configuration stands for: data, model and steps, ready to be called."""

    seed: int
    settings: TrainConfig
    devices: parallel.Devices
    dataset: data.Dataset
    model: Network
    schedule: optax.Schedule
    train_step: Step
    frozen_step: Step  # the same with batch norm frozen, for the steps after `freeze_after`
    eval_step: Callable[..., dict[str, jax.Array]]
    initial_state: TrainState
    steps_per_epoch: int
    total_steps: int
    freeze_after: int


def train_and_evaluate(
    config: ConfigDict, directory: Path, devices: parallel.Devices | None = None
) -> dict[str, Any]:
    """Train as `config` says and return the content of `directory/result.json`.

    A finished work directory returns its result at once; an unfinished one starts from the
    beginning.

    Args:
      config: as configs/common.py describes.
      directory: gets config.json, metrics.jsonl, TensorBoard events and, last of all, result.json.
      devices: to share the batch over; all local ones by default.

    Raises:
      InputError: for a configuration that cannot be run, a work directory of another configuration,
        or a loss that is no longer finite. In the first two cases nothing has been written.
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
        with (
            metrics.MetricWriter(directory) as writer,
            metrics.reporting(run.total_steps, run.settings.batch_size) as report,
        ):
            state, measured = train(run, writer, report, safe_point)
    parallel.assert_replicated(state)
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
        **environment,
        "params_sha256": provenance.fingerprint(state.variables),
    }
    workdir.write_json(directory / "result.json", result)
    return result


def prepare(config: ConfigDict, devices: parallel.Devices) -> Run:
    """Check the configuration, load the data, and build everything the loop calls."""
    sections: dict[str, Any] = config.to_dict()
    settings = errors.build(TrainConfig, "train", sections["train"])
    optim_config = errors.build(optim.OptimConfig, "optim", sections["optim"])
    if not 0 <= sections["seed"] < 2**32:
        raise InputError(f"seed must be from 0 to 2^32 - 1, not {sections['seed']}")
    parallel.check_divisible(settings.batch_size, devices)
    data_fields = sections["data"]
    augment_fields = {field: data_fields.pop(field) for field in ("pad", "flip", "cutout")}
    augment = errors.build(Augmentation, "data", augment_fields)
    model_fields = sections["model"]
    model_fields |= {"axis_name": parallel.AXIS, "sync_batch_norm": settings.sync_batch_norm}
    create_model(**model_fields)  # refuses what it must before any data is read
    dataset = data.load(**data_fields)
    model = create_model(**model_fields, num_classes=dataset.num_classes)

    steps_per_epoch = len(dataset.train) // settings.batch_size
    if steps_per_epoch == 0:
        raise InputError(
            f"batch_size {settings.batch_size} exceeds the {len(dataset.train)} training examples"
        )
    total_steps = max(1, round(settings.epochs * steps_per_epoch))
    schedule = optim.make_schedule(optim_config, total_steps, steps_per_epoch)
    optimizer = optim.make_optimizer(optim_config, schedule)
    scale = functools.partial(normalize, mean=dataset.mean, std=dataset.std)
    train_step, frozen_step = (
        parallel.pmap_step(
            steps.make_train_step(
                model.clone(freeze_batch_norm=freeze),
                optimizer,
                augment,
                scale,
                settings.label_smoothing,
                parallel.AXIS,
            ),
            devices,
            donate_state=True,
        )
        for freeze in (False, True)
    )
    eval_step = steps.make_eval_step(model, scale, parallel.AXIS)
    state = create_state(model, optimizer, dataset.train.image_shape, sections["seed"])
    return Run(
        seed=sections["seed"],
        settings=settings,
        devices=devices,
        dataset=dataset,
        model=model,
        schedule=schedule,
        train_step=train_step,
        frozen_step=frozen_step,
        eval_step=parallel.pmap_step(eval_step, devices, donate_state=False),
        initial_state=parallel.replicate(state, devices),
        steps_per_epoch=steps_per_epoch,
        total_steps=total_steps,
        freeze_after=total_steps - round(settings.freeze_bn_epochs * steps_per_epoch),
    )


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
            writer.write(
                step, train_means | {"learning_rate": float(np.asarray(run.schedule(step - 1)))}
            )
            report.step(step, train_means["train/loss"])
            measured |= {"train/loss": train_means["train/loss"]}

        if evaluating:
            with report.paused():
                found = evaluate(
                    run.eval_step, state, run.dataset.eval, settings.batch_size, run.devices
                )
            _check_finite("evaluation", found["loss"], step)
            eval_means = {f"eval/{name}": value for name, value in found.items()}
            writer.write(step, eval_means)
            report.evaluation(step / run.steps_per_epoch, found)
            measured |= eval_means
        safe_point(state)  # Ctrl-C stops here
    return state, measured | {"images_per_second": report.images_per_second(run.total_steps)}


def _check_finite(kind: str, loss: float, step: int) -> None:
    if not math.isfinite(loss):
        raise Diverged(
            f"the {kind} loss became {loss} by step {step}; try a smaller optim.learning_rate"
        )
