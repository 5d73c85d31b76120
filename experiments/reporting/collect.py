"""The results of a study's runs, from their work directories."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.grid.study import PRETRAINED, Row, Study
from senet_jax.config import differences, flatten
from senet_jax.errors import InputError
from senet_jax.runs import effect
from senet_jax.system import files

# The content of result.json, with the flat "config", and the "curve": one dict per evaluation with
# the keys of CURVE.
Result = dict[str, Any]
Results = dict[str, list[Result]]  # row label to the results of its seeds
Unfinished = Mapping[str, Mapping[int, str]]  # row label to seed to the reason, "" if not known

CURVE = ("step", "epoch", "eval/top1_error", "eval/loss", "train/loss")
# The keys of a result that tables need; others are shown if a result has them.
NEEDED = (
    *("seed", "model", "dataset", "params", "eval/top1_error", "eval/examples"),
    *("wall_time_seconds", "device_kind", "devices", "host_cpus", "jax_version", "git_commit"),
)


def collect_results(study: Study, directory: Path) -> Results:
    """Read the results of each row's seeds, in order of the seeds; rows without any are left out.

    Raises: InputError if a file cannot be read, or runs differ where they should be the same.
    """
    results: Results = {}
    for row in study.rows:
        runs = [_read(path) for path in (directory / row.label).glob("seed*/result.json")]
        for run in runs if row.starts_from else ():  # wherever these runs lie
            run["config"][PRETRAINED] = f"{row.starts_from}/seed{run['seed']}"
        if runs:
            results[row.label] = sorted(runs, key=lambda run: run["seed"])
    _check_comparable(study, results, directory)
    return results


def dataset_of(results: Results) -> str:
    """The TFDS dataset that all results have in common."""
    return next(iter(results.values()))[0]["dataset"]


def made_with(results: Results, key: str) -> list[str]:
    """The different values of a key in all environments that the runs had, sorted."""
    runs = [run for of_row in results.values() for run in of_row]
    environments = [each for run in runs for each in (run, *run.get("earlier_environments", ()))]
    return sorted({str(each[key]) for each in environments if each.get(key) is not None})


def find_unfinished(study: Study, directory: Path) -> Unfinished:
    """Find the runs that were started and lack a result: they failed, stopped, or still train."""
    unfinished: dict[str, dict[int, str]] = {}
    for row in study.rows:
        for path in sorted((directory / row.label).glob("seed*")):
            seed = path.name.removeprefix("seed")
            failed = files.read_json(path / "failed.json")
            started = failed is not None or (path / "config.json").exists()
            if started and seed.isdecimal() and not (path / "result.json").exists():
                reason = (failed or {}).get("reason", "")
                unfinished.setdefault(row.label, {})[int(seed)] = reason
    return unfinished


def missing(study: Study, results: Results, unfinished: Unfinished) -> list[str]:
    """Sentences that name the seeds each row lacks, among those that any row has or was begun with.

    Args:
      study: the study with the rows.
      results: the finished runs.
      unfinished: the runs that were started and lack a result.
    """
    expected = {run["seed"] for runs in results.values() for run in runs}
    expected |= {seed for seeds in unfinished.values() for seed in seeds}
    lines = []
    for row in study.rows:
        lacking = expected - {run["seed"] for run in results.get(row.label, [])}
        reasons = {
            seed: why
            for seed, why in unfinished.get(row.label, {}).items()
            if why and seed in lacking
        }
        for seed, why in sorted(reasons.items()):
            lines.append(f"Row {row.label}: seed {seed} failed: {why.splitlines()[0].rstrip('.')}.")
        if silent := sorted(lacking - reasons.keys()):
            seeds = ", ".join(map(str, silent))
            have = "seed {} has" if len(silent) == 1 else "seeds {} have"
            lines.append(f"Row {row.label}: {have.format(seeds)} no result.")
    return lines


def at_chance(runs: Sequence[Result]) -> list[int]:
    """The seeds whose runs end no better than guessing, by two standard errors of that.

    Results of versions that did not record the number of classes are left out.
    """
    seeds = []
    for run in runs:
        if classes := run.get("classes"):
            right = 1 / classes
            error = (right * (1 - right) / run["eval/examples"]) ** 0.5
            if run["eval/top1_error"] >= 100 * (1 - right - 2 * error):
                seeds.append(run["seed"])
    return seeds


def _read(path: Path) -> Result:
    config = files.read_json(path.with_name("config.json"))
    if config is None:
        raise InputError(f"{path.parent} has a result.json but no config.json")
    result = files.read_json(path)
    if lacking := [key for key in NEEDED if key not in result]:
        raise InputError(
            f"{path} lacks {', '.join(lacking)}; run it again in a different --workdir"
        )
    flat = flatten(config)
    curve = _curve(path.with_name("metrics.jsonl"), flat["train.epochs"])
    return result | {"config": flat, "curve": curve}


def _curve(path: Path, epochs: float) -> list[dict[str, float]]:
    """The evaluations of a finished run, each with the training loss of the steps before it."""
    steps: dict[int, dict[str, float]] = {}
    try:
        for line in path.read_text("utf-8").splitlines():
            values = json.loads(line)
            steps.setdefault(values["step"], {}).update(values)
    except FileNotFoundError:  # the file may have been deleted; the result stands without it
        return []
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    evaluations = [values for values in steps.values() if "eval/loss" in values]
    for values in evaluations:  # the last evaluation is at the end of the run
        values["epoch"] = epochs * values["step"] / evaluations[-1]["step"]
    return [{key: values[key] for key in CURVE if key in values} for values in evaluations]


def _check_comparable(study: Study, results: Results, directory: Path) -> None:
    everything = [(row, r) for row in study.rows for r in results.get(row.label, [])]
    for index, (row, result) in enumerate(everything):
        for other_row, other in everything[:index]:
            idle = {*effect.without(other["config"]), *effect.without(result["config"])}
            configs = (
                {
                    key: value
                    for key, value in r["config"].items()
                    if key not in idle and _in_common(study, row, other_row, key)
                }
                for r in (other, result)
            )
            if changes := differences(*configs, names=("in the first", "in the second")):
                one, two = (
                    directory / which.label / f"seed{run['seed']}"
                    for which, run in ((other_row, other), (row, result))
                )
                raise InputError(f"{one} and {two} are runs of different configurations: {changes}")


def _in_common(study: Study, row: Row, other: Row, key: str) -> bool:
    """Whether runs of two rows must have the same value of a configuration key.

    Runs of one network may differ in the seed and in what the rows override. A plain network and
    the same with SE may also differ in the SE blocks, so that the difference is due to them.
    Different networks have their own sizes and recipes, and only the data in common.
    """
    if key == "seed" or (row is not other and key in row.varied | other.varied):
        return False
    if key == PRETRAINED and row.starts_from:  # each run's weights are those of its seed
        return False
    network, other_network = study.network_of(row), study.network_of(other)
    if network == other_network:
        return True
    if network.removeprefix("se") == other_network.removeprefix("se"):
        return key != "model.name" and not key.startswith("model.se.")
    return key in ("data.name", "data.train_split", "data.eval_split")
