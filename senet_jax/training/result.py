"""Accounts of a finished run: the content of result.json, and a few sentences."""

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from senet_jax.errors import counted
from senet_jax.evaluation import metrics
from senet_jax.models.counts import summarize
from senet_jax.runs import provenance
from senet_jax.system.device_memory import Peak
from senet_jax.system.terminal import duration
from senet_jax.training import seen
from senet_jax.training.prepare import Run
from senet_jax.training.session import Session
from senet_jax.training.teacher import NAME
from senet_jax.weights import channels


def collect(config: ConfigDict, run: Run, session: Session, peak: Peak) -> dict[str, Any]:
    """The content of result.json: what was trained, how it ended, and what it was computed with.

    Errors are in per cent, times in seconds. Memory is in bytes: the most that was in use on a
    device, where the device says so, and by the last process on the host, since the run began in
    it. Mean and deviation of the channels are those of images from 0 to 1.
    """
    counts = summarize(run.model, run.dataset.train.image_shape)
    sections: dict[str, Any] = config.to_dict()
    *earlier, environment = session.environments
    on_device = peak.bytes
    return {
        "model": sections["model"]["name"],
        "dataset": sections["data"]["name"],
        "seed": sections["seed"],
        "params": counts.params,
        "macs": counts.macs,
        "classes": run.dataset.num_classes,
        "step": session.step,
        **({"planned_steps": run.plan.total_steps} if session.stopped_early else {}),
        "batch_size": run.settings.batch_size,
        **session.measured,
        "best_top1_error": session.best and session.best[0],
        "best_step": session.best and session.best[1],
        "wall_time_seconds": session.seconds,
        **({"peak_device_memory": on_device} if on_device else {}),
        "peak_host_memory": peak.on_host,
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **environment,
        **({"earlier_environments": earlier} if earlier else {}),
        **session.pretrained,
        **({"class_weights": [*run.class_weights]} if run.class_weights else {}),
        "params_sha256": provenance.fingerprint(session.state.variables),
        # With which the network can be asked where the dataset is gone, and runs be compared.
        **run.dataset.identity,
        "splits": {split: [*about] for split, about in run.dataset.whole.items()},
    }


def in_words(result: Mapping[str, Any], directory: Path) -> str:
    """A few sentences on how a run went, for whoever waited for it."""
    devices = f"{result['devices']} x {result['device_kind']}"
    took = duration(result["wall_time_seconds"])
    lines = [
        f"{result['model']} on {result['dataset']}, seed {result['seed']}: "
        f"{counted(result['step'], 'step')} in {took} on {devices}"
    ]
    if "images_per_second" in result:
        lines[0] += (
            f", {result['images_per_second']:,.0f} images/s, "
            f"{result['data_wait']:.0%} of the time waiting for data"
        )
    lines.append(errors(result, "eval"))
    if "eval/balanced_error" in result:
        lines.append(metrics.in_words(result, "eval/"))
    if "eval_ema/top1_error" in result:
        lines.append(f"moving averages: {errors(result, 'eval_ema')}")
    if planned := result.get("planned_steps"):
        lines.append(
            f"stopped early, at step {result['step']:,} of {planned:,}: no evaluation since step "
            f"{result['best_step']:,} had a lower top-1 error"
        )
    if result.get("best_step") != result["step"]:
        lines.append(
            f"lowest top-1 error on the way {result['best_top1_error']:.2f} %, at step "
            f"{result['best_step']:,}"
        )
    if weights := result.get("class_weights"):
        lines.append(f"classes weighted from {min(weights):.3g} to {max(weights):.3g} in training")
    if theirs := result.get("pretrained_channels"):
        lines.append(f"started from {channels.in_words(theirs, result['image_shape'][-1])}")
    if teacher := result.get(NAME):
        lines.append(f"learned from the answers of {teacher}")
    if count := result.get(seen.RECORD):
        lines.append(seen.in_words(count, result["eval/examples"]))
    if skipped := result.get("train/skipped"):
        lines.append(f"{skipped} updates were not finite and were skipped")
    memory = result.get("peak_device_memory", result["peak_host_memory"]) / 2**30
    where = "of a device" if "peak_device_memory" in result else "of the process"
    lines.append(f"peak memory {where} {memory:.1f} GiB")
    return "\n".join(lines) + f"\n-> {directory}/result.json"


def caption(result: Mapping[str, Any]) -> str:
    """What was trained, for pictures of its errors."""
    return (
        f"{result['model']} on {result['dataset']}, seed {result['seed']}, step "
        f"{result['step']:,}: {errors(result, 'eval')}"
    )


def errors(result: Mapping[str, Any], kind: str) -> str:
    """The errors of an evaluation, "eval" or "eval_ema", in words."""
    return (
        f"top-1 error {result[f'{kind}/top1_error']:.2f} %, top-5 error "
        f"{result[f'{kind}/top5_error']:.2f} % on "
        f"{counted(result[f'{kind}/examples'], 'example')}"
    )
