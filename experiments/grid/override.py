"""What a command line gives for all rows of a study: seeds, and values of configuration keys."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from experiments.grid.plan import row_config
from experiments.grid.study import PRETRAINED, Row, Study
from senet_jax.config import flatten
from senet_jax.errors import InputError, did_you_mean, named
from senet_jax.runs import effect
from senet_jax.system import cli
from senet_jax.training.given import add_fields

SE_FLAG = re.compile(r"--?(no)?config\.model\.se\.")
DRAWN_FLAG = re.compile(r"--?(no)?config\.model\.zero_init_last_bn(=|$)")


def override(
    bases: Sequence[ConfigDict], arguments: Sequence[str], study: Study, known_flags: Sequence[str]
) -> list[ConfigDict]:
    """Apply every `--config.KEY=VALUE` of the command line to the rows' configurations.

    Flags for SE blocks apply to the rows that have some, and those for weights that are drawn to
    the rows that do not start from others.

    Args:
      bases: the configuration of each row.
      arguments: the command line's `--config.KEY=VALUE`.
      study: the study with the rows.
      known_flags: the names of the command's other flags, for suggestions in errors.

    Raises: InputError for any other flag, a key that some row lacks, or a value of the wrong type.
    """
    everything, fields = ConfigDict(), set()
    for base in bases:
        fields |= {*add_fields(base, cli.dotted(arguments, "config"))}
        everything.update(base.to_dict())
    for key in cli.given_keys(arguments, "config", everything, sorted(fields)):
        if key == "data.name":
            way = "--sweep=data.name=NAME" if study.is_sweep else "--dataset=NAME"
            raise InputError(
                f"--config.{key} would train on another dataset than the table names; "
                f"choose it with {way}"
            )
        if key in study.varied:
            raise InputError(
                f"--config.{key} is what the study varies; it cannot hold for every row"
            )
    for argument in arguments:
        name = argument.partition("=")[0].strip("-")
        if argument.startswith("-") and not name.removeprefix("no").startswith("config."):
            raise InputError(f"unknown flag --{name}{did_you_mean(name, known_flags)}")
    configs = []
    for row, base in zip(study.rows, bases, strict=True):
        values = flatten(base.to_dict())
        of_row = [a for a in arguments if not _is_of_others(row, values, a)]
        given = cli.given_keys(of_row, "config", everything)
        for key in given:
            if key not in values:
                raise InputError(
                    f"--config.{key} cannot hold for every row: {row.label} has no such key"
                )
        config = cli.with_flags(base, of_row)
        configs.append(without_leftovers(row, config, {*given, *row.overrides}))
    return configs


def _is_of_others(row: Row, values: Mapping[str, Any], argument: str) -> bool:
    """Whether a flag is for what a row, of these values, does not have."""
    has_blocks = "model.se.ratio" in values and row.overrides.get("model.se.stages") != ()
    return bool(
        (not has_blocks and SE_FLAG.match(argument))
        or (row.starts_from and DRAWN_FLAG.match(argument))
    )


def without_leftovers(row: Row, config: ConfigDict, given: set[str]) -> ConfigDict:
    """A row's configuration without what its recipe leaves and the row gives no effect.

    Raises: InputError if a given key has none.
    """
    flat = flatten(row_config(row, config).to_dict())
    if row.starts_from:  # plan names the run, once there is a seed
        flat[PRETRAINED] = row.starts_from
    with named(f"row {row.label}"):
        config.update_from_flattened_dict(effect.resets(flat, given))
    return config


def parse_seeds(texts: Sequence[str]) -> tuple[int, ...]:
    """Read `--seeds`. Raises: InputError if there are none, or one is no number or there twice."""
    for text in texts or [""]:
        if not (text.isascii() and text.isdecimal()):
            raise InputError(f"--seeds takes whole numbers from 0, like 0,1,2, not {text!r}")
    seeds = tuple(map(int, texts))
    for seed in seeds:
        if seeds.count(seed) > 1:
            raise InputError(f"--seeds has {seed} twice")
    return seeds
