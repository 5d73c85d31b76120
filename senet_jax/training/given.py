"""What a command line gives for a configuration: further fields of its network, and keys that act.

A configuration file lists the fields of a network that recipes choose. Any other, such as `width`
or `stem_pool`, comes into the `model` section where a command line sets it, and only there: the
configurations of all other runs stay what they are.
"""

import dataclasses
import functools
import typing
from collections.abc import Mapping
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_dict, config_flags

from senet_jax.config import flatten
from senet_jax.errors import InputError
from senet_jax.runs import effect
from senet_jax.system import cli, files

# Fields of a module that the configuration file has in any case, or that are decided elsewhere.
NOT_GIVEN = ("name", "se", "dtype", *effect.DECIDED)


@functools.cache
def fields_of(network: str) -> Mapping[str, Any]:
    """The fields of a network that a configuration can set, with its own values.

    A field without a value has a placeholder of its type. Raises: InputError for an unknown name.
    """
    from senet_jax.weights.loading import create_model  # brings JAX, and few command lines ask

    module = create_model(network)
    types = typing.get_type_hints(type(module))
    values = {}
    for field in dataclasses.fields(module):
        if field.name not in NOT_GIVEN:
            value = getattr(module, field.name)
            if value is None:  # of "int | None"
                value = config_dict.placeholder(typing.get_args(types[field.name])[0])
            values[field.name] = value
    return values


def add_fields(config: Any, given: Mapping[str, str | None]) -> list[str]:
    """Give a configuration those of the keys `model.FIELD` that it lacks and its network has.

    Args:
      given: the keys that a command line sets, with their texts; see cli.dotted.

    Returns: all keys `model.FIELD` that there are, if any of those given was lacking.

    Raises: InputError for an unknown network.
    """
    model = config.get("model", {})
    fields = [key.partition(".")[2] for key in given if key.startswith("model.")]
    if not (missing := [field for field in fields if "." not in field and field not in model]):
        return []
    of_network = fields_of(given.get("model.name") or model["name"])
    with config.unlocked():
        model.update({field: of_network[field] for field in missing if field in of_network})
    return [f"model.{field}" for field in {**of_network, **model}]


class ConfigFlag:
    """The flag `--config=FILE`, with `--config.KEY=VALUE` for keys of what the file returns.

    Args:
      values: where the flag is defined.
      argv: the command line, which must be complete when it is parsed.
    """

    def __init__(self, values: flags.FlagValues, argv: list[str]) -> None:
        self._holder = config_flags.DEFINE_config_file(
            "config", lock_config=True, flag_values=values, sys_argv=argv
        )
        self._flag = values["config"]
        self._flag.parser = _WithFields(self._flag.parser, argv)

    @property
    def value(self) -> Any:
        """The configuration, whose recipe has left nothing behind that has no effect.

        Raises: InputError if there is none, or a flag has no effect.
        """
        config = self._holder.value
        if not isinstance(config, ConfigDict):
            raise InputError(f"get_config() must return a ConfigDict, not {config!r}")
        given = config_flags.get_override_values(self._flag)
        with config.ignore_type():  # what has no effect may be of any type
            config.update_from_flattened_dict(effect.resets(flatten(config.to_dict()), given))
        return config


class _WithFields(flags.ArgumentParser[Any]):
    """A parser of configuration files, of which `~` is expanded, that adds the fields given."""

    def __init__(self, parser: flags.ArgumentParser[Any], argv: list[str]) -> None:
        self._parser, self._argv = parser, argv

    def parse(self, argument: str) -> Any:
        config = self._parser.parse(files.local_path(argument))
        if isinstance(config, ConfigDict):
            given = cli.dotted(self._argv, "config")
            if known := add_fields(config, given):
                for key in given:
                    if key.startswith("model.") and key.count(".") == 1 and key not in known:
                        raise cli.unknown_key(key, "config", known)
        return config

    def flag_type(self) -> str:
        return self._parser.flag_type()
