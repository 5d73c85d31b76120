"""A study made on the command line: a configuration, and values for some of its keys.

    python -m experiments.run --config=configs/cifar.py:seresnet20,cifar100 \\
        --sweep='model.se.ratio=2,4,8' --sweep='optim.learning_rate=0.05,0.1' --seeds=0,1,2

Its rows are all combinations of the values, the last key changing fastest. They are compared with
the first.
"""

import copy
import dataclasses
import re
import runpy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from configs.common import dataset_of
from experiments.grid.folder_names import in_a_path
from experiments.grid.narrow import NARROW
from experiments.grid.plan import shrink
from experiments.grid.study import PRETRAINED, Row, Study, grid
from senet_jax.config import flatten
from senet_jax.errors import InputError
from senet_jax.system import cli, files
from senet_jax.training.given import add_fields

# The keys whose values are sets: in whatever order they are given, they are the same run.
SETS = ("model.se.stages", "optim.freeze")
COMMA = re.compile(r",(?![^()]*\))")  # a comma outside of tuples


def study_of(file: str, sweeps: Sequence[str], *, smoke: bool) -> tuple[Study, Any]:
    """Make the study of a sweep; returns it with the configuration that all its rows start from.

    Args:
      file: the configuration file with its argument, like `--config` of senet_jax.main.
      sweeps: the keys and their values, each "KEY=VALUE,VALUE,...".
      smoke: whether to make it in miniature.

    Raises: InputError if a file, key or value is not valid, or there is nothing to vary.
    """
    config = load(file, smoke=smoke)
    rows = grid(_values(config, sweeps))
    return study_from("sweep", file, config, rows, reference=rows[0].label), config


def study_from(
    kind: str,
    file: str,
    config: Any,
    rows: Sequence[Row],
    notes: Sequence[str] = (),
    **fields: Any,
) -> Study:
    """Make the study of rows that differ in values of keys of one configuration.

    Args:
      kind: what made the rows, the first word of the study's name.
      file: the configuration file with its argument.
      config: the configuration of all rows.
      notes, **fields: further fields of the study.
    """
    headings, derived = list(rows[0].factors), _derived(config, rows)
    follows = [f"Follows from what is varied: {', '.join(derived)}."] if derived else []
    place, _, argument = file.partition(":")
    name = "-".join(filter(None, (kind, Path(place).stem, argument, ",".join(headings))))
    return Study(
        name=in_a_path(name),
        title=f"{kind.capitalize()} of {file}: {' x '.join(headings)}",
        rows=tuple(dataclasses.replace(row, derived=derived) for row in rows),
        base={"*": file},
        network=config.model.name,
        dataset=dataset_of(flatten(config.to_dict())),
        paper_datasets={},
        notes=(*notes, *follows),
        is_sweep=True,
        **fields,
    )


def _derived(config: Any, rows: Sequence[Row]) -> tuple[str, ...]:
    """The keys that follow in the configuration from values of the rows, apart from theirs.

    They refer to the values, or are left to the weights that a row starts from.
    """
    before, changed = flatten(config.to_dict()), set[str]()
    for row in rows:
        one = copy.deepcopy(config)  # with its references
        one.update_from_flattened_dict(dict(row.overrides))
        flat = flatten(one.to_dict())
        derived = {key for key in flat if flat[key] != before.get(key)}
        if PRETRAINED in row.overrides:
            from senet_jax.training.start import left_keys  # brings JAX, and few sweeps ask

            derived |= left_keys(one)
        changed |= derived - {*row.overrides}
    return tuple(sorted(changed))


def load(file: str, *, smoke: bool) -> Any:
    """Load a configuration file, with its argument; in miniature with `smoke`.

    Raises: InputError if it is not valid.
    """
    config = _load(file)
    if smoke:
        narrow = NARROW.get(f"se{config.model.name.removeprefix('se')}", {})
        if config.model.get("pretrained"):
            narrow = {}  # the weights decide the network
        with config.unlocked():
            shrink(config, {k: v for k, v in narrow.items() if k != "se" or k in config.model})
    return config


def _load(file: str) -> Any:
    cli.check_config_file(file)
    place, _, argument = files.local_path(file).partition(":")
    try:
        get_config = runpy.run_path(place)["get_config"]
        config = get_config(argument) if argument else get_config()
    except InputError:
        raise
    except Exception as error:  # whatever somebody's configuration file may raise
        raise InputError(f"{file}: {type(error).__name__}: {error}") from error
    if not isinstance(config, ConfigDict):
        raise InputError(f"get_config() must return a ConfigDict, not {config!r}")
    return config.lock()


def _values(config: Any, sweeps: Sequence[str]) -> dict[str, list[Any]]:
    """The keys and their values, which have the types of the configuration's."""
    values: dict[str, list[Any]] = {}
    fields = add_fields(config, dict.fromkeys(sweep.partition("=")[0] for sweep in sweeps))
    for sweep in sweeps:
        key, _, text = sweep.partition("=")
        if not text.strip():
            raise InputError(f"--sweep={sweep} selects no run: give values, like --sweep={key}=2,4")
        if key == "seed":
            raise InputError("the seeds of a sweep are given by --seeds, like --seeds=0,1,2")
        if key in values:
            raise InputError(f"--sweep={key} is given twice; give it all values at once")
        values[key] = []
        for value in COMMA.split(text):
            typed = typed_value(config, key, value, fields)
            if as_compared(key, typed) in [as_compared(key, other) for other in values[key]]:
                raise InputError(f"--sweep={sweep} has {value.strip()} twice")
            values[key].append(typed)
    return values


def as_compared(key: str, value: Any) -> Any:
    """What tells the values of a key apart: two that train the same network are one."""
    return frozenset(value) if key in SETS and isinstance(value, tuple) else value


def typed_value(config: Any, key: str, text: str, known: Sequence[str]) -> Any:
    """A value of a key, as a flag `--config.KEY=TEXT` gives it.

    Args:
      known: further keys that somebody may have meant.

    Raises: InputError if the configuration has no such key, or the value is none for it.
    """
    argument = f"--config.{key}={text.strip()}"
    cli.given_keys([argument], "config", config, known)
    return flatten(cli.with_flags(copy.deepcopy(config), [argument]).to_dict())[key]
