"""A study made on the command line: a configuration, and values for some of its keys.

    python -m experiments.run --config=configs/cifar.py:seresnet20,cifar100 \\
        --sweep='model.se.ratio=2,4,8' --sweep='optim.learning_rate=0.05,0.1' --seeds=0,1,2

Its rows are all combinations of the values, the last key changing fastest. They are compared with
the first.
"""

import copy
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
from experiments.grid.study import Study, grid
from senet_jax.config import flatten
from senet_jax.errors import InputError
from senet_jax.system import cli, files
from senet_jax.training.given import add_fields

COMMA = re.compile(r",(?![^()]*\))")  # a comma outside of tuples


def study_of(file: str, sweeps: Sequence[str], *, smoke: bool) -> tuple[Study, Any]:
    """Make the study of a sweep; returns it with the configuration that all its rows start from.

    Args:
      file: the configuration file with its argument, like `--config` of senet_jax.main.
      sweeps: the keys and their values, each "KEY=VALUE,VALUE,...".
      smoke: whether to make it in miniature.

    Raises: InputError if a file, key or value is not valid, or there is nothing to vary.
    """
    config = _load(file)
    if smoke:
        narrow = NARROW.get(f"se{config.model.name.removeprefix('se')}", {})
        if config.model.get("pretrained"):
            narrow = {}  # the weights decide the network
        with config.unlocked():
            shrink(config, {k: v for k, v in narrow.items() if k != "se" or k in config.model})
    values, derived = _values(config, sweeps)
    rows = grid(values, derived)
    headings = list(rows[0].factors)
    place, _, argument = file.partition(":")
    name = "-".join(filter(None, ("sweep", Path(place).stem, argument, ",".join(headings))))
    study = Study(
        name=in_a_path(name),
        title=f"Sweep of {file}: {' x '.join(headings)}",
        rows=rows,
        base={"*": file},
        reference=rows[0].label,
        network=config.model.name,
        dataset=dataset_of(flatten(config.to_dict())),
        paper_datasets={},
        notes=(f"Follows from what is swept: {', '.join(derived)}.",) if derived else (),
        is_sweep=True,
    )
    return study, config


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


def _values(config: Any, sweeps: Sequence[str]) -> tuple[dict[str, list[Any]], list[str]]:
    """The keys and their values, which have the configuration's types; the keys derived of them."""
    values: dict[str, list[Any]] = {}
    changed: set[str] = set()
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
            argument = f"--config.{key}={value.strip()}"
            cli.given_keys([argument], "config", config, fields)
            one = cli.with_flags(copy.deepcopy(config), [argument])
            flat, before = flatten(one.to_dict()), flatten(config.to_dict())
            changed |= {each for each in flat if flat[each] != before.get(each)}
            typed = flat[key]
            if typed in values[key]:
                raise InputError(f"--sweep={sweep} has {value.strip()} twice")
            values[key].append(typed)
    return values, sorted(changed - {*values})
