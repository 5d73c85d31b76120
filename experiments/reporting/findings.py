"""The runs of studies, wherever they are: below a folder, or published."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from configs.common import dataset_of
from experiments.grid.folder_names import folder_of
from experiments.grid.study import Study
from experiments.reporting import publish
from experiments.reporting.collect import Results, Unfinished, collect, made_with
from senet_jax.config import flatten
from senet_jax.errors import InputError
from senet_jax.system import files


@dataclasses.dataclass(frozen=True)
class Finding:
    """The runs of a study on a dataset.

    Attributes:
      study: the study of the runs.
      dataset: the folder of the runs, or of their published results, in that of the study.
      place: the directory of the runs or of their published results.
      results, unfinished: the runs with a result, and those without one.
      error: the reason why the runs cannot be shown; "" if they can.
      problems: sentences on files that cannot be read and figures that cannot be drawn.
      chosen: the flags that choose the dataset and their values, for whoever continues the runs;
        empty for published ones.
    """

    study: Study
    dataset: str
    place: Path
    results: Results = dataclasses.field(default_factory=dict)
    unfinished: Unfinished = dataclasses.field(default_factory=dict)
    error: str = ""
    problems: Sequence[str] = ()
    chosen: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def on(self) -> str:
        """The dataset of the runs, in words."""
        folds = f", {self.chosen['folds']} folds" if self.is_on_folds else ""
        return self.chosen.get("dataset", self.dataset) + folds

    @property
    def is_on_folds(self) -> bool:
        """Whether runs are on folds, in place of seeds."""
        return "folds" in self.chosen

    @property
    def flags(self) -> list[str]:
        """The flags of a command that continues the runs."""
        return [f"--{name}={value}" for name, value in self.chosen.items()]

    @property
    def anchor(self) -> str:
        """The anchor of the study's section."""
        return f"{self.study.name}-{self.dataset}"

    def values(self, key: str) -> list[str]:
        """The different values of a key of the results, in order; empty if none has it."""
        return made_with(self.results, key)


def find(study: Study, root: Path) -> list[Finding]:
    """Find the study's runs below `root`, and published ones on datasets that have none there.

    Raises: InputError if the study's folder may not be opened.
    """
    findings = []
    datasets = files.children(root / study.name)  # or what their names have before a slash
    below = [path for folder in datasets for path in files.children(folder, onerror=_pass_over)]
    for directory in sorted([*datasets, *below]):
        # One of a row that may not be opened is named where its dataset is.
        if _may_hold_runs(study, directory, if_closed=directory in datasets):
            dataset = str(directory.relative_to(root / study.name))
            finding = Finding(study, dataset, directory, chosen=_chosen(study, dataset, directory))
            try:
                runs = collect(study, directory)
                shown = {"results": runs.results, "unfinished": runs.unfinished}
                finding = dataclasses.replace(finding, **shown, problems=runs.damaged)
            except InputError as error:
                finding = dataclasses.replace(finding, error=str(error))
            findings.append(finding)
    done = {finding.dataset for finding in findings if finding.results or finding.error}
    for dataset in publish.published_datasets(study):
        if dataset not in done:  # instead of runs that have only been started, too
            findings = [finding for finding in findings if finding.dataset != dataset]
            findings.append(_published(study, dataset))
    return findings


def _pass_over(error: InputError) -> None:
    """Leave a folder out that may not be opened: whoever collects its runs names it."""


def _may_hold_runs(study: Study, directory: Path, if_closed: bool) -> bool:
    """Whether there is a row with runs in a folder; what may not be opened may have some."""
    closed: list[InputError] = []
    files.children(directory, onerror=closed.append)
    if closed:
        return if_closed
    folders = [directory / row.label for row in study.rows]
    return any(files.children(folder, "seed*", closed.append) or closed for folder in folders)


def _chosen(study: Study, dataset: str, directory: Path) -> Mapping[str, str]:
    """The flags that choose the dataset of runs, with their values, from one's configuration.

    Where none can be read they are those of the dataset that the folder is called by.
    """
    for row in study.rows:
        for seed in files.children(directory / row.label, "seed*", onerror=_pass_over):
            try:
                config = flatten(files.read_table(seed / "config.json") or {})
                name, fold = dataset_of(config), [*(config.get("data.fold") or ())]
            except (InputError, KeyError, TypeError, AttributeError):  # damaged, or of no run
                continue
            chosen = {"dataset": name}
            if dataset == folder_of(name):
                return chosen
            if len(fold) > 1:
                chosen["folds"] = str(fold[1])
            if dataset == f"{folder_of(name)}-{chosen.get('folds')}folds":
                return chosen
            return chosen | {"workdir": str(directory)}
    return {"dataset": dataset}


def _published(study: Study, dataset: str) -> Finding:
    place = Path("experiments/results", study.name, dataset)
    try:
        return Finding(study, dataset, place, *publish.read(study, dataset))
    except InputError as error:
        return Finding(study, dataset, place, error=str(error))
