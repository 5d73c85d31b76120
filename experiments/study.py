"""What a study is: rows that override one base configuration, and the figures the paper prints.

A study is one short file that declares a `Study`; `run` and `report` work on any of them.
"""

import dataclasses
import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from senet_jax.errors import InputError, did_you_mean

STUDIES = ("reduction",)

# A few steps a row on a handful of images: the whole grid as a first look, and for tests.
SMOKE = {
    "train.epochs": 3.0,
    "train.batch_size": 32,
    "train.eval_every_epochs": 3.0,
    "data.train_split": "train[:64]",
    "data.eval_split": "test[:50]",
    "optim.warmup_epochs": 0.0,
}


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
      label: as the paper prints it.
      overrides: dotted configuration keys and their values.
      paper: the figures printed for this row, by column; see Study.
    """

    label: str
    overrides: Mapping[str, Any]
    paper: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Study:
    """A table of the paper as data.

    Attributes:
      name: of the study's file and work directory.
      title: one line; table and subject.
      column: heading of the row labels.
      rows: in the order of the table.
      base: dataset to "config:argument", the configuration all rows start from; "*" stands for
        every other dataset, whose name replaces {dataset}.
      network: the paper's network, whose parameters and multiply-adds are counted for each row.
      network_fields: further fields of it, for the counts to be the paper's.
      paper_columns: heading to the figures of Row.paper shown under it.
      notes: sentences below the table.
      secondary: headings that a narrow terminal does without.
      seeds: of each row, unless the command line gives others.
    """

    name: str
    title: str
    column: str
    rows: tuple[Row, ...]
    base: Mapping[str, str]
    network: str
    network_fields: Mapping[str, Any]
    paper_columns: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...] = ()
    secondary: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0, 1, 2)

    @property
    def varied(self) -> set[str]:
        """The configuration keys that the grid itself sets."""
        return {"seed", *(key for row in self.rows for key in row.overrides)}


@dataclasses.dataclass(frozen=True)
class PlannedRun:
    """One training run of a study: its row, seed, configuration and work directory."""

    row: Row
    seed: int
    config: ConfigDict
    workdir: Path


def define_flags(values: flags.FlagValues) -> None:
    """The flags that say which runs of a study are meant; shared by `run` and `report`."""
    flags.DEFINE_string("dataset", "digits", "A TFDS dataset of small images.", flag_values=values)
    flags.DEFINE_string("workdir", None, "Default: runs/STUDY/DATASET.", flag_values=values)
    flags.DEFINE_bool("smoke", False, "The grid in miniature.", flag_values=values)


def directory_of(study: Study, values: flags.FlagValues) -> Path:
    """Where the runs go that the flags mean."""
    if values.workdir:
        return Path(values.workdir)
    return Path("runs", study.name + ("-smoke" if values.smoke else ""), values.dataset)


def the_study(names: Sequence[str], command: str) -> Study:
    """The one study named on the command line. Raises: InputError for none, several, an unknown."""
    if len(names) != 1:
        raise InputError(f"give one study, e.g. `python -m experiments.{command} reduction`")
    return load_study(names[0])


def load_study(name: str) -> Study:
    """Raises: InputError for a name that is not a study."""
    if name not in STUDIES:
        near = did_you_mean(name, STUDIES)
        raise InputError(f"unknown study {name!r}{near} (there is {', '.join(STUDIES)})")
    return importlib.import_module(f"experiments.{name}").STUDY


def base_config(study: Study, dataset: str, *, smoke: bool) -> ConfigDict:
    """The configuration that every row of the study starts from."""
    module, _, argument = study.base.get(dataset, study.base["*"]).partition(":")
    get_config = importlib.import_module(f"configs.{module}").get_config
    config = get_config(argument.format(dataset=dataset))
    if smoke:
        config.update_from_flattened_dict(SMOKE)
    return config.lock()


def plan(study: Study, base: ConfigDict, seeds: tuple[int, ...], workdir: Path) -> list[PlannedRun]:
    """All runs, one seed after the other, so that the table fills evenly."""
    runs = []
    for seed in seeds:
        for row in study.rows:
            config = base.copy_and_resolve_references()
            config.update_from_flattened_dict({"seed": seed, **row.overrides})
            runs.append(PlannedRun(row, seed, config, workdir / row.label / f"seed{seed}"))
    return runs
