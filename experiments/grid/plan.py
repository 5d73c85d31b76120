"""The way from a study to planned runs, each with its row, seed, configuration and directory."""

import contextlib
import copy
import dataclasses
import importlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from configs.common import VARIANTS, bare_name
from experiments.grid.folder_names import folder_of
from experiments.grid.narrow import least_size_of
from experiments.grid.study import Row, Study, on_dataset
from senet_jax.data.sources import lookup, names
from senet_jax.errors import InputError, named
from senet_jax.system import cli

# A few steps per row on a handful of images: the whole grid as a first look, and for tests.
SMOKE = {
    "train.epochs": 3.0,
    "train.batch_size": 32,
    "train.eval_every_epochs": 3.0,
    "data.cutout": 0,  # 16 pixels would leave nothing of an image of digits
    "optim.warmup_epochs": 0.0,
}


SMOKE_EXAMPLES = {"train_split": 80, "eval_split": 50}


SMOKE_DATASET = "digits"  # nothing to download


@dataclasses.dataclass(frozen=True)
class PlannedRun:
    """One training run of a study: its row, seed, configuration and work directory."""

    row: Row
    seed: int
    config: ConfigDict
    workdir: Path


def define_flags(values: flags.FlagValues) -> None:
    """Define the flags that select a study's runs, which `run`, `report` and `status` share."""
    flags.DEFINE_string(
        "dataset",
        None,
        f"A dataset; default: the study's, {SMOKE_DATASET} with --smoke.",
        flag_values=values,
    )
    cli.define_path("workdir", None, "Default: runs/STUDY/DATASET.", flag_values=values)
    flags.DEFINE_bool("smoke", False, "The grid in miniature.", flag_values=values)
    flags.DEFINE_integer(
        "folds",
        None,
        "Train each row on so many folds of the training split in place of seeds.",
        lower_bound=2,
        flag_values=values,
    )


def define_published(values: flags.FlagValues) -> None:
    """Define the flag of `run` and `report` that adds published runs."""
    flags.DEFINE_bool(
        "published",
        False,
        "Count published runs of the same configuration as done; runs here come before them.",
        flag_values=values,
    )


def dataset_of(study: Study, values: flags.FlagValues) -> str:
    """The dataset that the flags mean; a sweep's is that of its configuration."""
    if study.is_sweep:
        return study.dataset
    return names.absolute(values.dataset or (SMOKE_DATASET if values.smoke else study.dataset))


def directory_of(study: Study, values: flags.FlagValues) -> Path:
    """The directory of the runs that the flags mean.

    Raises: InputError for --root, which is for the runs of all studies.
    """
    if "root" in values and values["root"].present:
        raise InputError("--root goes with --all; the runs of one study are where --workdir says")
    if values.workdir:
        return Path(values.workdir)
    dataset = folder_of(dataset_of(study, values))
    folds = f"-{values.folds}folds" if values.folds else ""
    return Path("runs", study.name + ("-smoke" if values.smoke else ""), dataset + folds)


def base_config(study: Study, row: Row, dataset: str, *, smoke: bool) -> ConfigDict:
    """Make the configuration that a row of the study starts from.

    Raises: InputError if the study's configuration file refuses the dataset's name.
    """
    module, _, argument = study.base.get(bare_name(dataset), study.base["*"]).partition(":")
    network = study.network_of(row).removesuffix("_cifar")
    in_argument = dataset
    if names.parted(dataset)[0]:  # a comma would end the argument's part; the name follows below
        in_argument = dataset.replace(",", "_")
    argument = argument.format(network=network, dataset=in_argument)
    try:
        config = importlib.import_module(f"configs.{module}").get_config(argument)
    except ValueError as error:  # about a dataset's name, which came from the command line
        raise InputError(f"configs/{module}.py:{argument}: {error}") from error
    if dataset not in VARIANTS:
        config.data.name = dataset.strip()  # with its version, which not every file asks for
    if config.model.name == study.network:
        config.model.update(study.network_fields)
    elif config.model.name.endswith("_cifar"):
        config.model.update(study.cifar_fields)
    config.update_from_flattened_dict(on_dataset(study.recipe, dataset))
    if smoke:
        shrink(config, {**study.narrow, **row.narrow})
    return config.lock()


def base_configs(study: Study, values: flags.FlagValues) -> list[ConfigDict]:
    """The configurations that the rows of the study start from, on the dataset the flags mean.

    Raises: InputError if the study's configuration file refuses the dataset's name.
    """
    dataset = dataset_of(study, values)
    return [base_config(study, row, dataset, smoke=values.smoke) for row in study.rows]


def on_folds(
    bases: Sequence[ConfigDict], arguments: Sequence[str], values: flags.FlagValues
) -> list[ConfigDict]:
    """The rows' configurations, with --folds on the first fold; `plan` chooses each run's own.

    Raises: InputError for flags that go by seeds, or choose a fold.
    """
    if not values.folds:
        return [*bases]
    for name in ("seeds", "precision", "most_seeds", "published"):
        if name in values and values[name].present:
            raise InputError(
                f"--{name} is about seeds, and --folds={values.folds} trains seed N on fold N + 1"
            )
    if "data.fold" in cli.dotted(arguments, "config"):
        raise InputError(
            f"--folds={values.folds} chooses the fold of each run; leave out data.fold"
        )
    bases = [copy.deepcopy(base) for base in bases]  # what is derived still follows
    for base in bases:
        base.update_from_flattened_dict({"data.fold": (1, values.folds)})
    return bases


def paper_config(study: Study, row: Row) -> Any:
    """The configuration that a row is trained with on the paper's dataset, where the paper has one.

    Otherwise it is that of the study's own dataset. What is counted and printed for the row is the
    network of this configuration.
    """
    dataset = next(iter(study.paper_datasets), study.dataset)
    return row_config(row, base_config(study, row, dataset, smoke=False))


def row_config(row: Row, base: ConfigDict) -> Any:
    """The configuration of a row, from the one that it starts from; its seed is that one's."""
    config: Any = copy.deepcopy(base)  # what is derived from other values still follows them
    config.update_from_flattened_dict(on_dataset(row.overrides, config.data.name))
    config.data.name = names.absolute(config.data.name)
    return config


def shrink(config: Any, narrow: Mapping[str, Any]) -> None:
    """Reduce a configuration to a few steps of a narrow network on the first images of each split.

    Args:
      config: the configuration, which is changed.
      narrow: fields that make its network narrow.
    """
    config.update_from_flattened_dict(SMOKE)
    for key, examples in SMOKE_EXAMPLES.items():
        split = config.data[key].rpartition("+")[2].partition("[")[0]
        config.data[key] = f"{split}[:{min(examples, _count(config.data, split))}]"
    if config.data.get("image_size", 0) > 0:  # -1 is that of the weights
        config.data.image_size = least_size_of(config.model.name)
    config.model.update(narrow)


def _count(data: Any, split: str) -> float:
    """The number of examples of a split; infinite where that is not known from files."""
    if names.parted(data.name)[0] in ("folder", "csv", "hf"):
        with contextlib.suppress(InputError):  # of which whoever loads it tells
            return lookup.find(data.name, data.image, data.label).count(split)
    return math.inf


def plan(
    study: Study,
    bases: Sequence[ConfigDict],
    seeds: tuple[int, ...],
    directory: Path,
    folds: int | None = None,
) -> list[PlannedRun]:
    """Plan all runs, seed by seed, so that the table fills evenly.

    Args:
      study: the study whose rows are planned.
      bases: the configuration that each row starts from.
      seeds: the seeds of each row.
      directory: the study's directory; runs get directory/LABEL/seedN.
      folds: number of folds, if there are any; seed N then trains on fold N + 1.
    """

    def place(label: str, seed: int) -> Path:
        return directory / label / f"seed{seed}"

    runs = []
    for seed in seeds:
        for row, base in zip(study.rows, bases, strict=True):
            config = row_config(row, base)
            config.seed = seed
            if folds:
                config.data.fold = (seed + 1, folds)  # is_fold_of_seed reads this rule
            if row.starts_from:
                config.model.pretrained = str(place(row.starts_from, seed))
            runs.append(PlannedRun(row, seed, config, place(row.label, seed)))
    return runs


def check_rows(study: Study, bases: Sequence[ConfigDict]) -> None:
    """Check every row's configuration, as its run will, so that none trains before one is refused.

    What only the data or the devices tell is for the runs themselves.

    Raises: InputError, naming the row, for the first that cannot be.
    """
    from senet_jax.training import recipe  # brings JAX

    for row, base in zip(study.rows, bases, strict=True):
        with named(f"row {row.label}"):
            recipe.check_sections(row_config(row, base))


def is_fold_of_seed(config: Mapping[str, Any]) -> bool:
    """Whether a run's flat configuration is on the fold that `plan` gives its seed."""
    fold = config.get("data.fold")
    return bool(fold) and fold[0] == config.get("seed", 0) + 1
