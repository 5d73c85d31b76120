"""Metrics: sums over steps, and sums to means."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def totals(sums: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Sums of several steps to sums over all of them, in float64; none for no steps."""
    names = sums[0] if sums else ()
    return {name: float(np.sum([np.float64(s[name]) for s in sums])) for name in names}


def means(sums: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Sums of several steps to loss (nats), top-1 and top-5 error (per cent) and example count.

    Where the probabilities of the right classes were summed, their mean is there as well. If no
    example counted there is only the count, 0.
    """
    total = totals(sums)
    examples = total["examples"]
    if not examples:
        return {"examples": 0}
    return {
        "loss": total["loss"] / examples,
        "top1_error": 100 * (examples - total["top1"]) / examples,
        "top5_error": 100 * (examples - total["top5"]) / examples,
        **({"probability": total["probability"] / examples} if "probability" in total else {}),
        "examples": int(examples),
    }


def in_words(scores: Mapping[str, Any], prefix: str = "") -> str:
    """The errors of a Tally in words; None stands for what is not finite."""
    balanced, calibration = (
        "not finite" if value is None else f"{value:.2f} %"
        for value in (scores[f"{prefix}{name}_error"] for name in ("balanced", "calibration"))
    )
    return f"balanced error {balanced}, expected calibration error {calibration}"
