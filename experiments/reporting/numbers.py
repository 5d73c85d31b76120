"""The numbers behind a study's table: exact counts, the paper's figures, our errors and gains."""

import functools
import json
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.grid.plan import base_config, paper_config, row_config
from experiments.grid.study import OF_WEIGHTS, Row, Study
from experiments.reporting import compare
from experiments.reporting.collect import Results, dataset_of
from experiments.reporting.run_files import Result
from experiments.statistics.paired import t_interval
from senet_jax.config import differences, flatten, plain
from senet_jax.models import create_model
from senet_jax.models.counts import Summary, image_shape_of, summarize
from senet_jax.models.resnet import ResNet
from senet_jax.runs import effect
from senet_jax.training.start import split_origin

Numbers = dict[str, Any]  # unrounded, behind a row of the table; None for a number it lacks

COUNTS = {"params": 1e6, "gflops": 1e9}  # the paper's figures that are counts, and their units


def counts(study: Study, row: Row) -> Summary:
    """Count the paper's network in this row exactly, at the image size it is made for.

    Its fields are those that are trained on the paper's dataset; see paper_config.
    """
    _, fields = split_origin(paper_config(study, row).model.to_dict())
    return _counts(json.dumps(fields))


@functools.cache
def _counts(fields: str) -> Summary:
    network = json.loads(fields)
    return summarize(create_model(**network), image_shape_of(network["name"]))


def not_as_counted(study: Study, results: Results) -> list[str]:
    """The differences between the networks counted and those trained, on a dataset of the paper.

    There are none unless runs are in miniature, had flags for their network, or are of a version
    that trained others.
    """
    if not results or study.paper_name_of(dataset_of(results)) is None:
        return []
    found = []
    for row in study.rows:
        counted = flatten(plain(paper_config(study, row)))
        for run in results.get(row.label, []):
            networks = (
                {k: v for k, v in c.items() if _is_of_network(k)} for c in (counted, run["config"])
            )
            one, other = networks
            found.append(differences(one, other, ("counted", "trained"), most=len(one | other)))
    return [each for each in dict.fromkeys(found) if each]


def not_as_declared(study: Study, results: Results) -> str:
    """A sentence on the values that runs have by flags, and not as the study declares them.

    A study in miniature is declared, too. What rows vary and what has no effect is left out. A
    sweep declares nothing; its flags are among its notes.
    """
    if study.is_sweep:
        return ""
    found = []
    for row in study.rows:
        declared = [
            flatten(
                plain(row_config(row, base_config(study, row, dataset_of(results), smoke=smoke)))
            )
            for smoke in (False, True)
        ]
        for run in results.get(row.label, []):
            found.append(min((_by_flags(row, each, run["config"]) for each in declared), key=len))
    changes = "; ".join(filter(None, dict.fromkeys(found)))
    return f" With other values than the study's own: {changes}." if changes else ""


def _by_flags(row: Row, declared: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    idle = {*effect.without(declared), *effect.without(config)}
    weights = row.varied - {*row.overrides}  # what a row takes from those that it starts from
    keys = config.keys() - {"seed", *idle, *weights}
    names = "in the study", "here"
    ours = {key: config[key] for key in keys}
    theirs = {k: declared[k] for k in keys & declared.keys()}
    return differences(theirs, ours, names, most=len(ours))  # a caption leaves none out


def _is_of_network(key: str) -> bool:
    return key.startswith("model.") and key not in (
        *OF_WEIGHTS,
        "model.dtype",
        "model.implementation",
    )


def number_rows(study: Study, results: Results) -> list[Numbers]:
    """The numbers behind the table, row by row."""
    dataset = dataset_of(results) if results else study.dataset
    gains, shared = compare.gains(study, results), compare.shared_by_folds(results)
    return [
        {
            study.column: row.label,
            **row.factors,
            **_counts_of(study, row, results.get(row.label, [])),
            **_paper_figures(study, row, dataset),
            **our_errors(results.get(row.label, []), shared),
            **_gains(study, row, gains.get(row.label, compare.Gain(())), dataset),
        }
        for row in study.rows
    ]


def _counts_of(study: Study, row: Row, runs: Sequence[Result]) -> Numbers:
    if not study.is_sweep:
        return {"params": counts(study, row).params, "macs": counts(study, row).macs}
    trained = runs[0] if runs else {}  # a sweep has no network of the paper
    return {"params": trained.get("params"), "macs": trained.get("macs")}


def _paper_figures(study: Study, row: Row, dataset: str) -> Numbers:
    keys = [key for keys in study.paper_columns.values() for key in keys]
    return {f"paper_{key}": row.printed(key, dataset) for key in keys}


def our_errors(runs: Sequence[Result], shared: float) -> Numbers:
    """The numbers of a row's runs: errors in per cent, their interval, and the median time."""
    errors = [run["eval/top1_error"] for run in runs]
    seconds = [run["wall_time_seconds"] for run in runs]
    low, high = t_interval(errors, shared=shared) or (None, None)
    return {
        "our_params": runs[0]["params"] if runs else None,
        "our_top1_error_mean": statistics.fmean(errors) if errors else None,
        "our_top1_error_std": statistics.stdev(errors) if len(errors) > 1 else None,
        "our_top1_error_low": low,
        "our_top1_error_high": high,
        "our_seeds": len(errors),
        # The median: the first run of a row compiles, the others need not.
        "our_seconds": statistics.median(seconds) if seconds else None,
    }


def _gains(study: Study, row: Row, gain: compare.Gain, dataset: str) -> Numbers:
    """The gains of the paper's row and of ours over the rows that they are compared with."""
    reference, key = study.reference_of(row), study.gain_of
    before, after = None, row.printed(key, dataset)
    if reference:  # a row from a different source has that source's figure for it
        before = row.printed("reference1", dataset) or reference.printed(key, dataset)
    low, high = gain.interval or (None, None)
    return {
        "paper_gain": None if before is None or after is None else before - after,
        "our_gain": gain.mean,
        "our_gain_low": low,
        "our_gain_high": high,
        "our_gain_seeds": len(gain.differences),
    }


def is_narrow(runs: Sequence[Result]) -> bool:
    """Whether some SE block of the row's network has fewer channels than its ratio."""
    if not runs or not runs[0]["config"].get("model.se.stages"):
        return False
    model, config = create_model(runs[0]["model"]), runs[0]["config"]
    first_stage = min(config["model.se.stages"])
    return isinstance(model, ResNet) and (
        config.get("model.width", model.width) * 2 ** (first_stage - 2) * model.block.expansion
        < config["model.se.ratio"]
    )


def decimals(key: str, printed: float) -> int:
    """The number of decimals that the paper prints of a count."""
    if key == "params":
        return 1
    return 3 if printed < 1 else 2  # Table 3 prints millions of multiply-adds


def deviates(row: Numbers, key: str) -> bool:
    """Whether a printed count differs from ours, rounded to as many decimals."""
    printed = row[f"paper_{key}"]
    if printed is None:
        return False
    ours = row["params" if key == "params" else "macs"] / COUNTS[key]
    return round(ours, decimals(key, printed)) != printed
