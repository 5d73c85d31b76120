"""The training loop: `train_and_evaluate(config, workdir)`. Locals only; read it from the top."""

import contextlib
import time
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from senet_jax.evaluation.loop import evaluate
from senet_jax.runs import checkpoints, lock, workdir
from senet_jax.system import files, interrupt, processes
from senet_jax.system.devices import Agreement, Devices, all_devices, assert_replicated, prefetch
from senet_jax.system.processes import on_first
from senet_jax.training.prepare import Run, prepare
from senet_jax.training.profiling import Profile
from senet_jax.training.reporter import Reporter, reporting
from senet_jax.training.result import collect
from senet_jax.training.session import Session
from senet_jax.training.start import resolve
from senet_jax.training.state import TrainState
from senet_jax.training.writer import MetricWriter


def train_and_evaluate(
    config: ConfigDict,
    directory: Path,
    devices: Devices | None = None,
    *,
    quiet: bool = False,
) -> dict[str, Any]:
    """Train as `config` says and return the content of `directory/result.json`.

    A finished work directory returns its result at once; an unfinished one continues from its
    latest checkpoint and ends with the bits of a run that was never interrupted.

    Of several processes that train together (see processes.py) all must call it.

    Args:
      config: as configs/common.py describes.
      directory: gets config.json, metrics.jsonl, TensorBoard events, states in checkpoints/<step>,
        the last of them final, and in the end result.json.
      devices: to share the batch over; by default all there are, of all processes.
      quiet: show no progress, as in a notebook that is to keep its outputs.

    Raises:
      InputError: for a configuration that cannot be run, a work directory of another configuration,
        a loss that is no longer finite, or a checkpoint that cannot be written or read. In the
        first two cases nothing has been written.
      Occupied: if another process is training in the work directory.
      KeyboardInterrupt: after Ctrl-C or SIGTERM, when the state has been saved.
    """
    started = time.perf_counter()
    if result := on_first(lambda: workdir.finished_result(config, directory)):
        return result
    on_first(lambda: workdir.check_usable(directory))
    with contextlib.ExitStack() as until_finished:
        with interrupt.at_safe_points() as stop:
            stop.nothing_to_save = True
            config = resolve(config, directory)
            states = directory / workdir.CHECKPOINTS
            begun = on_first(lambda: bool(checkpoints.complete_steps(states)))
            run = prepare(config, devices or all_devices(), begun)
            stop.if_asked_anywhere(run.devices, run.initial_state)
            about = {"total_steps": run.total_steps, "steps_per_epoch": run.steps_per_epoch}
            alone = lock.held(directory, **about)
            on_first(lambda: until_finished.enter_context(alone))
            if result := on_first(lambda: workdir.finished_result(config, directory)):
                return result  # another process was quicker
            on_first(lambda: workdir.start(directory, config))
            workdir.check_shared(directory, config)
            progress = Session.resume(run, states, started)
            owed = progress.evaluation_owed
            on_first(lambda: workdir.cut_metrics(directory, progress.step, owed))
            first, settings = processes.is_first(), run.settings
            with (
                MetricWriter(directory if first else None, progress.step) as writer,
                reporting(run.total_steps, settings.batch_size, quiet=quiet or not first) as report,
                Profile(directory, *(settings.profile_steps if first else (0, 0))) as profile,
            ):
                train(run, progress, writer, report, stop, profile)
            assert_replicated(progress.state)
            stop.if_asked_anywhere(run.devices, progress.state)
        result = collect(config, run, progress)
        on_first(lambda: files.write_json(directory / "result.json", result))
    return result


def train(
    run: Run,
    progress: Session,
    writer: MetricWriter,
    report: Reporter,
    stop: interrupt.Stop,
    profile: Profile,
) -> None:
    """The loop, from where `progress` stands to the end of the run."""
    settings, start = run.settings, progress.step
    batches = run.dataset.train.train_batches(settings.batch_size, run.seed, start)
    batches = prefetch(batches, run.devices, counts=run.calls(start))
    counts = run.calls(start)
    compiled = set()
    agree = Agreement(run.devices, delay=2)  # with the steps that queue up
    while progress.step < run.total_steps or progress.evaluation_owed:
        if not progress.evaluation_owed:
            count = next(counts)
            with report.waiting():
                batch = next(batches)
            function = run.train_step if progress.step < run.freeze_after else run.frozen_step
            profile.before(progress.step + 1, count)
            if (function, count) in compiled:
                progress.advance(function, batch, count)
                report.steps(count)
            else:
                with report.paused():
                    progress.advance(function, batch, count)
                    assert_replicated(progress.state)  # waits for it: it compiles
                stop.nothing_to_save = False
                compiled.add((function, count))
            step = progress.step
            profile.after(step, progress.state)
            progress.evaluation_owed = step % run.eval_every_steps == 0 or step == run.total_steps
            if progress.evaluation_owed or step % settings.log_every_steps == 0:
                # Only here does the host wait for the device; between, steps queue up.
                means = progress.training_means()
                means["learning_rate"] = learning_rate(run, progress.state, step)
                writer.write(step, means | report.step(step, means.get("train/loss")))
                progress.measured |= report.pace

        stop.agreed, late = agree(stop.signalled, progress.late)
        if progress.evaluation_owed and not stop.asked:
            with report.paused():
                found = evaluations(run, progress.state, stop, agree)
            if found:
                writer.write(progress.step, progress.evaluated(found))
                report.evaluation(progress.step / run.steps_per_epoch, found["eval"])
        with report.paused():
            if progress.save_if_due(stop.asked or late):
                agree.forget()  # that it was late
        stop.if_asked(progress.state)  # Ctrl-C and SIGTERM, only when the state is saved


def evaluations(
    run: Run, state: TrainState, stop: interrupt.Stop, agree: Agreement
) -> dict[str, dict[str, float]] | None:
    """Metrics of the weights, "eval", and of their moving averages, "eval_ema".

    None if it was stopped half-way: the run then saves the state and owes the evaluation.
    """
    kinds = {"eval": state} if state.ema is None else {"eval": state, "eval_ema": state.averaged}
    batch_size, devices = run.settings.batch_size, run.devices

    def between() -> None:
        stop.agreed, _ = agree(stop.signalled, False)
        stop.if_asked(state)

    try:
        return {
            kind: evaluate(run.eval_step, which, run.dataset.eval, batch_size, devices, between)
            for kind, which in kinds.items()
        }
    except KeyboardInterrupt:
        if not stop.asked:  # not ours: signals are handled by somebody else
            raise
        return None


def learning_rate(run: Run, state: TrainState, step: int) -> float:
    """Of the update that made `step`."""
    scale = 1.0 if state.plateau is None else float(np.asarray(state.plateau.scale))
    return scale * float(np.asarray(run.schedule(step - 1)))
