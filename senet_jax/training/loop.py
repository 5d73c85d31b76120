"""The training loop: `train_and_evaluate(config, directory)`. Read it from the top."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from senet_jax.config import flatten, plain
from senet_jax.data import resident
from senet_jax.evaluation.loop import evaluate
from senet_jax.evaluation.tally import Tally
from senet_jax.runs.workdir import WorkDirectory
from senet_jax.system import interrupt
from senet_jax.system.agreement import Agreement
from senet_jax.system.device_memory import Peak
from senet_jax.system.devices import Devices, all_devices, assert_replicated, prefetch
from senet_jax.training import averages, class_errors, loggers
from senet_jax.training.loggers import Loggers
from senet_jax.training.prepare import Run, prepare
from senet_jax.training.profiling import Profile
from senet_jax.training.reporter import Reporter, reporting
from senet_jax.training.result import collect
from senet_jax.training.session import Session
from senet_jax.training.start import resolve_config, with_whole_paths
from senet_jax.training.state import TrainState
from senet_jax.training.writer import MetricWriter

AfterEvaluation = Callable[[int, Mapping[str, Any]], None]
Evaluated = dict[str, tuple[dict[str, Any], Tally]]


def train_and_evaluate(
    config: ConfigDict,
    directory: Path | str,
    devices: Devices | None = None,
    *,
    quiet: bool = False,
    log: Sequence[str] = loggers.USUAL,
    group: str = "",
    after_evaluation: AfterEvaluation | None = None,
) -> dict[str, Any]:
    """Train as `config` says and return the content of `directory/result.json`.

    A finished work directory returns its result at once; an unfinished one continues from its
    latest checkpoint and ends with the bits of a run that was never interrupted.

    Of several processes that train together (see system/processes.py) all must call it.

    Args:
      config: a configuration as configs/common.py describes it.
      directory: folder that gets config.json, metrics.jsonl, TensorBoard events, states in
        checkpoints/<step>, the last of them final, and in the end result.json.
      devices: devices that share the batch; by default all there are, of all processes.
      quiet: whether to show no progress, as in a notebook that is to keep its outputs.
      log: names of loggers beside metrics.jsonl; see training/loggers.
      group: name of what the run belongs to, for loggers that show runs in groups.
      after_evaluation: a function of the step and the evaluation's metrics, called in all
        processes; what it raises ends the run.

    Raises:
      InputError: for a configuration that cannot be run, a work directory of another configuration,
        a logger that is not installed, a loss that is no longer finite, or a checkpoint that cannot
        be written or read. In the first three cases nothing has been written.
      Occupied: if another process is training in the work directory.
      KeyboardInterrupt: after Ctrl-C or SIGTERM, when the state has been saved.
    """
    started, directory = time.perf_counter(), Path(directory)
    config = with_whole_paths(config)
    with WorkDirectory(directory) as work, Loggers(log, group) as logging:
        if result := work.finished_result(config):
            return result
        work.check_usable()
        with interrupt.at_safe_points() as stop:
            stop.nothing_to_save = True
            peak, filled = Peak(devices or all_devices()), resolve_config(config, directory)
            run = prepare(filled, devices or all_devices(), work.has_checkpoint())
            stop.if_asked_anywhere(run.devices, run.initial_state)
            total, per_epoch = run.plan.total_steps, run.plan.steps_per_epoch
            if result := work.occupy(config, filled, total_steps=total, steps_per_epoch=per_epoch):
                return result  # another process was quicker
            session = Session.resume(run, work.checkpoints, started)
            work.cut_metrics(session.step, session.evaluation_owed)
            logging.begin(flatten(plain(filled)), work.written_here, session.step)
            with MetricWriter(work.written_here, logging) as writer:
                train(run, session, writer, stop, after_evaluation, quiet=quiet)
            assert_replicated(session.state)
            stop.if_asked_anywhere(run.devices, session.state)
        result = work.finish(collect(filled, run, session, peak))
        logging.finish(result)
        return result


def train(
    run: Run,
    session: Session,
    writer: MetricWriter,
    stop: interrupt.Stop,
    after_evaluation: AfterEvaluation | None = None,
    *,
    quiet: bool = False,
) -> None:
    """Train from where `session` stands to the end of the run.

    A process whose writer has no directory says nothing, and writes no traces.
    """
    settings, quiet = run.settings, quiet or writer.directory is None
    with (
        reporting(run.plan.total_steps, settings.batch_size, quiet=quiet) as report,
        Profile(writer.directory, *settings.profile_steps) as profile,
    ):
        take_steps(run, session, writer, report, stop, profile, after_evaluation)


def take_steps(
    run: Run,
    session: Session,
    writer: MetricWriter,
    report: Reporter,
    stop: interrupt.Stop,
    profile: Profile,
    after_evaluation: AfterEvaluation | None = None,
) -> None:
    """The loop: calls of steps, lines of metrics, evaluations and checkpoints as they are due."""
    plan, start = run.plan, session.step
    batches = run.dataset.train.train_batches(run.settings.batch_size, run.seed, start)
    images = resident.images(run.dataset.train)
    batches = prefetch(batches, run.devices, counts=plan.calls(start), resident=images)
    counts = plan.calls(start)
    compiled = set()
    agree = Agreement(run.devices, delay=2)  # with the steps that queue up
    while not session.ended:
        if not session.evaluation_owed:
            count = next(counts)
            with report.waiting():
                batch = next(batches)
            function = run.steps.after(plan, session.step)
            profile.before(session.step + 1, count)
            if (function, count) in compiled:
                session.advance(function, batch, count)
                report.steps(count)
            else:
                with report.paused():
                    session.advance(function, batch, count)
                    assert_replicated(session.state)  # waits for it: it compiles
                stop.nothing_to_save = False
                compiled.add((function, count))
            profile.after(session.step, session.state)
            session.evaluation_owed = plan.has_evaluation(session.step)
            done = range(session.step - count + 1, session.step + 1)
            if lines := [step for step in done if plan.has_line(step)]:
                # Only here does the host wait for the device; between, steps queue up.
                for step, means in session.lines():
                    means["learning_rate"] = learning_rate(run, session.state, step)
                    if step == lines[-1]:
                        means |= report.step(step, means.get("train/loss"))
                    writer.write(step, means)
                session.measured |= report.pace

        stop.agreed, late = agree(stop.signalled, session.late)
        if session.evaluation_owed and not stop.asked:
            with report.paused():
                evaluated = evaluations(run, session, stop, agree)
            if evaluated:
                write_down(evaluated, session, writer, report)
                if after_evaluation:
                    after_evaluation(session.step, evaluated["eval"][0])
        with report.paused():
            if session.save_if_due(stop.asked or late):
                agree.forget()  # that it was late
        stop.if_asked(session.state)  # Ctrl-C and SIGTERM, only when the state is saved


def write_down(
    evaluated: Evaluated, session: Session, writer: MetricWriter, report: Reporter
) -> None:
    """Write the metrics of an evaluation and, at the end of the run, its errors by class."""
    run, (means, tally) = session.run, evaluated["eval"]
    before, now = session.measured.get("eval/examples", means["examples"]), means["examples"]
    if before != now:
        logging.getLogger(__name__).warning(
            "%d images are evaluated at step %d, %d the last time: errors of other images are "
            "compared in looking for the lowest, by which train.patience and train.keep_best go",
            now,
            session.step,
            before,
        )
    metrics = session.record_evaluation({kind: found for kind, (found, _) in evaluated.items()})
    writer.write(session.step, metrics)
    report.evaluation(session.step / run.plan.steps_per_epoch, means)
    if session.stopped_early:
        best, step = session.best or (0.0, 0)
        report.say(
            f"stopping at step {session.step}/{run.plan.total_steps}: no evaluation since step "
            f"{step} has a lower top-1 error than its {best:.2f} % (train.patience "
            f"{run.settings.patience})"
        )
    if writer.directory and session.ended:
        class_errors.write(writer.directory, tally, run.dataset.class_names)


def evaluations(
    run: Run, session: Session, stop: interrupt.Stop, agree: Agreement
) -> Evaluated | None:
    """What `evaluate` gives for the weights, "eval", and for their averages, "eval_ema".

    Even averages get batch statistics of their own at the end of the run, and are evaluated there
    alone. None if the evaluation was stopped half-way: the run then saves the state and owes it.
    """
    batch_size, devices, dataset = run.settings.batch_size, run.devices, run.dataset

    def between() -> None:
        stop.agreed, _ = agree(stop.signalled, False)
        stop.if_asked(session.state)

    try:
        at_end = session.step == run.plan.total_steps
        if run.steps.statistics and at_end:
            session.state = averages.with_statistics(run, session.state, between)
        state = session.state
        kinds = {"eval": state.variables}
        if state.ema is not None and (at_end or not run.steps.statistics):
            kinds["eval_ema"] = state.ema
        return {
            kind: evaluate(
                run.steps.eval,
                variables,
                dataset.eval,
                batch_size,
                devices,
                between,
                classes=dataset.num_classes,
            )
            for kind, variables in kinds.items()
        }
    except KeyboardInterrupt:
        if not stop.asked:  # not ours: signals are handled by somebody else
            raise
        return None


def learning_rate(run: Run, state: TrainState, step: int) -> float:
    """Learning rate of the update that made `step`."""
    scale = 1.0 if state.plateau is None else float(np.asarray(state.plateau.scale))
    return scale * float(np.asarray(run.schedule(step - 1)))
