"""The results of a study's runs, from their work directories."""

import collections
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from configs import common
from experiments.grid.plan import is_fold_of_seed
from experiments.grid.study import PRETRAINED, Row, Study
from experiments.reporting.run_files import Result, read_run
from senet_jax.config import differences
from senet_jax.errors import InputError, did_you_mean
from senet_jax.runs import effect, provenance
from senet_jax.runs.workdir import ADDED, with_added
from senet_jax.system import files

Results = dict[str, list[Result]]  # row label to the results of its seeds
# The keys that say of which images a run is, and what of these it was to say.
ASKED = ("data.name", "data.image", "data.label", "data.classes")
Unfinished = Mapping[str, Mapping[int, str]]  # row label to seed to the reason, "" if not known


@dataclasses.dataclass(frozen=True)
class Collected:
    """The runs of a study.

    Attributes:
      results: those with a result that can be read.
      unfinished: those that were started and lack such a result: they failed, stopped, still train,
        or are damaged.
      damaged: a sentence on each file that cannot be read; whoever shows the rest says it, and ends
        with a status other than 0.
    """

    results: Results
    unfinished: Unfinished
    damaged: Sequence[str]


def collect(study: Study, directory: Path) -> Collected:
    """Read the runs of each row, in order of the seeds; a damaged one does not stop the others.

    Raises: InputError if runs differ where they should be the same, or the directory may not be
      opened.
    """
    files.children(directory)
    runs: list[tuple[Row, Path, Result]] = []
    unfinished: dict[str, dict[int, str]] = {}
    damaged: list[str] = []

    def leave_out(row: Row, path: Path, reason: str) -> None:
        seed = path.name.removeprefix("seed")
        if seed.isdecimal():
            unfinished.setdefault(row.label, {})[int(seed)] = reason

    def name_it(error: InputError) -> None:
        damaged.append(str(error))

    for row in study.rows:
        for path in files.children(directory / row.label, "seed*", name_it):
            try:
                if (run := read_run(path, damaged)) is not None:
                    _check_place(path, run["seed"])
                    runs.append((row, path, run))
                elif (reason := _why_unfinished(path)) is not None:
                    leave_out(row, path, reason)
            except InputError as error:
                damaged.append(str(error))
                leave_out(row, path, str(error))
    if not study.is_sweep:  # where the command line chooses the rows
        damaged += _of_no_row(study, directory)
    results: Results = {}
    odd = _not_like_the_others(runs)
    for row, path, run in sorted(runs, key=lambda item: item[2]["seed"]):
        if reason := odd.get(path):
            damaged.append(reason)
            leave_out(row, path, reason)
            continue
        if row.starts_from:  # wherever these runs lie
            run["config"][PRETRAINED] = f"{row.starts_from}/seed{run['seed']}"
        results.setdefault(row.label, []).append(run)
    results = {row.label: results[row.label] for row in study.rows if row.label in results}
    check_comparable(study, results, directory)
    return Collected(results, unfinished, damaged)


def _of_no_row(study: Study, directory: Path) -> list[str]:
    """Sentences on folders of runs whose row the study lacks, such as one that was renamed."""
    labels = [row.label for row in study.rows]
    folders = sorted({path.parent.parent for path in directory.glob("*/seed*/result.json")})
    return [
        f"{folder} has runs of a row that {study.name} lacks; they are left out: rename the folder "
        f"or move it out of the study{did_you_mean(folder.name, labels)}"
        for folder in folders
        if folder.name not in labels
    ]


def _check_place(path: Path, seed: int) -> None:
    """Raises: InputError for a copy of a run beside it, which would count as another seed."""
    if path.name != f"seed{seed}":
        raise InputError(
            f"{path} has the run of seed {seed}, whose folder is seed{seed}; it is left out: move "
            "it out of the study"
        )


def _why_unfinished(path: Path) -> str | None:
    """The reason why a run lacks a result, "" if not known; None if it was not started."""
    failed = files.read_table(path / "failed.json")
    if failed is None:
        return "" if (path / "config.json").exists() else None
    return str(failed.get("reason", ""))


def _not_like_the_others(runs: Sequence[tuple[Row, Path, Result]]) -> dict[Path, str]:
    """Why runs are damaged whose configuration lacks what most of their network's have.

    These are keys, and kinds of their values. The configuration of another experiment differs in
    the values alone, and is refused.
    """
    kinds = {path: _kinds(run["config"]) for _, path, run in runs}
    alike: dict[tuple[str, bool], list[set[tuple[str, str]]]] = collections.defaultdict(list)
    for row, path, run in runs:
        alike[run["model"], bool(row.starts_from)].append(kinds[path])
    all_usual = {}
    for group, members in alike.items():
        counts = collections.Counter(pair for pairs in members for pair in pairs)
        all_usual[group] = {pair for pair, count in counts.items() if 2 * count > len(members)}
    reasons = {}
    for row, path, run in runs:
        usual = all_usual[run["model"], bool(row.starts_from)]
        lacking = {key for key, _ in usual - kinds[path]} - row.varied - {*ADDED}
        if lacking:
            reasons[path] = (
                f"{path / 'config.json'} is damaged: it lacks {min(lacking)}, or has another kind "
                "of value there than the other runs"
            )
    return reasons


def _kinds(config: Mapping[str, Any]) -> set[tuple[str, str]]:
    """The keys of a flat configuration, each with the kind of its value."""
    return {
        (key, "number" if type(value) in (int, float) else type(value).__name__)
        for key, value in config.items()
    }


def datasets_of(results: Results) -> list[str]:
    """The datasets of results by their names in TFDS or in VARIANTS: one, but of some sweeps."""
    runs = [run for of_row in results.values() for run in of_row]
    names = (common.dataset_of({"data.name": run["dataset"], **run["config"]}) for run in runs)
    return [*dict.fromkeys(names)]


def dataset_of(results: Results) -> str:
    """The dataset of all results of a study, and of the first result of a sweep."""
    return datasets_of(results)[0]


def made_with(results: Results, key: str) -> list[str]:
    """The different values of a key in all environments that the runs had, sorted."""
    runs = [run for of_row in results.values() for run in of_row]
    environments = [each for run in runs for each in (run, *run.get("earlier_environments", ()))]
    values = [each.get(key, provenance.USUAL.get(key)) for each in environments]
    return sorted({str(value) for value in values if value is not None})


def check_comparable(study: Study, results: Results, directory: Path = Path()) -> None:
    """Check that runs are the same in all but what the study varies.

    Args:
      directory: the directory of the runs, for the sentence.

    Raises: InputError, naming two runs and what they differ in, if not.
    """
    # Of a row only runs of different configurations, and of two rows only runs that differ in what
    # rows have in common: of a thousand runs few are left, and not a pair for every two.
    everything: dict[tuple[str, str], tuple[Row, Result, str]] = {}
    for row in study.rows:
        for run in results.get(row.label, []):
            whole, shared = _signatures(study, row, run)
            everything.setdefault((row.label, whole), (row, run, shared))
    earlier: list[tuple[Row, Result, str]] = []
    compared = set()
    for row, result, shared in everything.values():
        for other_row, other, its in earlier:
            if other_row is not row:
                if (its, shared) in compared:
                    continue
                compared.add((its, shared))
            idle = {*effect.without(other["config"]), *effect.without(result["config"])}
            by_seed = all(is_fold_of_seed(run["config"]) for run in (other, result))
            configs = (
                {
                    key: value
                    for key, value in _but_seed(r, by_seed=by_seed).items()
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
        earlier.append((row, result, shared))


def _signatures(study: Study, row: Row, run: Result) -> tuple[str, str]:
    """Texts that are equal for runs which compare alike: those of one row, and those of any two.

    Runs of two rows compare without the keys that the rows vary, and those without an effect.
    """
    config = _but_seed(run, by_seed=is_fold_of_seed(run["config"]))
    if row.starts_from:  # the weights of its seed
        config.pop(PRETRAINED, None)
    shared = {key: value for key, value in config.items() if key not in row.varied}
    kind = study.network_of(row), sorted(row.varied), effect.without(run["config"])
    return json.dumps(config, sort_keys=True), json.dumps((kind, shared), sort_keys=True)


def _but_seed(run: Result, *, by_seed: bool) -> dict[str, Any]:
    """A run's configuration without the seed, and without a fold's number if it goes by that."""
    return {
        key: value[1:] if by_seed and key == "data.fold" else value
        for key, value in with_added(run["config"]).items()
        if key != "seed"
    }


def _in_common(study: Study, row: Row, other: Row, key: str) -> bool:
    """Whether runs of two rows must have the same value of a configuration key.

    Runs of one network may differ in what the rows override. A plain network and
    the same with SE may also differ in the SE blocks, so that the difference is due to them.
    Different networks have their own sizes and recipes, and only the data in common.
    """
    if row is not other and key in row.varied | other.varied:
        return False
    if key in ADDED and ADDED[key] is None and not row.starts_from:  # earlier versions lack it
        return False
    if key == PRETRAINED and row.starts_from:  # each run's weights are those of its seed
        return False
    network, other_network = study.network_of(row), study.network_of(other)
    if network == other_network:
        return True
    if network.removeprefix("se") == other_network.removeprefix("se"):
        return key != "model.name" and not key.startswith("model.se.")
    return key in ("data.name", "data.train_split", "data.eval_split")
