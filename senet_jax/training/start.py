"""The start of a run: the weights of `model.pretrained`, and the images they are made for."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from senet_jax import data, models
from senet_jax.config import build, check_kinds, check_present, differences, flatten, whole_path
from senet_jax.data.sources import names
from senet_jax.errors import InputError, named
from senet_jax.layers.network import Network
from senet_jax.layers.slot import SEConfig
from senet_jax.models.counts import image_shape_of
from senet_jax.models.shapes import variable_shapes
from senet_jax.runs import effect, numbering, workdir
from senet_jax.runs.stored import EARLIER, FINAL, read_records
from senet_jax.weights import channels, loading, saving, sources, timm
from senet_jax.weights import files as weight_files
from senet_jax.weights.class_names import first_difference, readable
from senet_jax.weights.image_spec import data_fields

TIMM = "timm"  # the weights that timm publishes under model.name


@dataclasses.dataclass(frozen=True)
class Origin:
    """The keys of the `model` section that name weights to start from; see configs/common.py."""

    pretrained: str = ""
    weights: str = EARLIER
    new_head: bool = False

    def __post_init__(self) -> None:
        if not self.pretrained and self.weights not in (EARLIER, FINAL):
            raise ValueError(
                f"weights {self.weights!r} are those of a run, which pretrained must name"
            )

    @property
    def source(self) -> Literal[True] | str:
        """The `source` of `loading.load_pretrained`; "" for no weights."""
        return True if self.pretrained == TIMM else self.pretrained


@dataclasses.dataclass(frozen=True)
class InitialWeights:
    """Weights that a run starts from.

    Attributes:
      variables: `params` and `batch_stats`, without a classifier where it is to be a new one.
      records: what a run's result says of them: their hash, see weights.loading.Weights, and the
        number of channels that they were for, if the first kernel was adapted to others.
    """

    variables: Mapping[str, Any]
    records: Mapping[str, Any]


def split_origin(section: Mapping[str, Any]) -> tuple[Origin, dict[str, Any]]:
    """A `model` section as the origin of the weights and the fields of the network."""
    origin = {key: value for key, value in section.items() if key in workdir.ORIGIN}
    network = {key: value for key, value in section.items() if key not in workdir.ORIGIN}
    return build(Origin, "model", origin), network


def with_whole_paths(config: ConfigDict) -> ConfigDict:
    """The configuration with its data and its teacher where any directory finds them.

    See sources/names.py for data.
    """
    flat, changes = flatten(config.to_dict()), {}
    for key, whole in (("data.name", names.absolute), ("train.teacher", whole_path)):
        if isinstance(value := flat.get(key), str) and value and whole(value) != value:
            changes[key] = whole(value)
    changed: Any = config.copy_and_resolve_references()
    changed.update_from_flattened_dict(changes)
    return changed if changes else config


def resolve_config(config: ConfigDict, directory: Path) -> ConfigDict:
    """Fill in what a configuration leaves to the weights, as config.json records it.

    These are the keys in `workdir.LEFT`, and the fields of the network that it does not mention. So
    a run does not depend on the weights any more, once it has begun.

    Args:
      directory: the run's directory; if the run has begun, what was filled in then stays.

    Raises: InputError for weights or a dataset that are not there, or a key without an effect.
    """
    sections: dict[str, Any] = config.to_dict()
    check_kinds(sections)
    origin, _ = split_origin(sections.get("model", {}))
    if not origin.source:
        return config
    if workdir.is_begun(directory):
        return workdir.load_config(directory)
    check_present("model", sections["model"], ("name",))
    check_present("data", sections.get("data", {}), ("name",))
    name = sections["model"]["name"]
    with named("model.pretrained"):
        if origin.source is True and "." not in name:
            published = ", ".join(loading.list_pretrained(f"{name}.*")) or "nothing of it"
            raise InputError(
                f"{TIMM!r} needs the tag of weights in model.name, which is {name!r}; timm "
                f"publishes {published}"
            )
        model, images = of_weights(name, origin)
    missing, section = workdir.left_to_weights(sections), sections["data"]
    chosen = {key: section[key] for key in ("image", "label") if key in section}
    if "data.image_size" in missing:
        usual = image_shape_of(name)[0] if name in models.MODELS else images["image_size"]
        images["image_size"] = data.image_size_for(
            section["name"], images["image_size"], usual, **chosen
        )
    if {"data.mean", "data.std"} & {*missing}:
        sizes = images if "data.image_size" in missing else section
        count = data.channels_of(section["name"], sizes.get("image_size", 0), **chosen)
        if len(images["mean"]) != count:
            images |= {"mean": (), "std": ()}  # the dataset's own
    theirs = {f"model.{key}" for key in flatten(model)} - flatten(sections).keys()
    model |= sections["model"]
    if origin.source is not True:  # from its root, or the same words would mean others elsewhere
        model["pretrained"] = whole_path(origin.pretrained)
    filled = ConfigDict(sections | {"model": model})
    filled.update_from_flattened_dict({key: images[key.removeprefix("data.")] for key in missing})
    flat = flatten(filled.to_dict())
    effect.check(flat, apart_from={*missing, *theirs})
    # What the other run left idle, or drew for itself, is nobody's choice here.
    idle = theirs & {*effect.without(flat)}
    filled.update_from_flattened_dict({key: effect.KEYS[key].default for key in idle})
    return filled.lock()


def left_keys(config: ConfigDict) -> set[str]:
    """The keys that `resolve_config` fills in from the weights of model.pretrained.

    Raises: InputError for weights that are not there.
    """
    sections: dict[str, Any] = config.to_dict()
    origin, given = split_origin(sections["model"])
    if not origin.source:
        return set()
    with named("model.pretrained"):
        model, _ = of_weights(given["name"], origin)
    theirs = {key: value for key, value in model.items() if key not in given}
    return {f"model.{key}" for key in flatten(theirs)} | {*workdir.left_to_weights(sections)}


def of_weights(name: str, origin: Origin) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields of a run's network, none for timm's weights, and the `data` keys of the images."""
    name, path = sources.locate(name, origin.source)
    if not sources.is_run(path):
        sources.check_only_runs(origin.weights, origin.pretrained)
        spec = timm.image_spec_of(name, weight_files.read_config_json(path))
        return {}, data_fields(spec)
    sections = sources.run_sections(name, path)
    _, result = read_records(path)
    images = {key: sections["data"][key] for key in ("image_size", "eval_crop", "interpolation")}
    if not {"mean", "std"} <= result.keys():
        raise InputError(
            f"{path / 'result.json'} lacks the mean and deviation of the run's images, as those of "
            "old versions do; train it again"
        )
    return sections["model"], images | {key: tuple(result[key]) for key in ("mean", "std")}


def load_initial_weights(
    origin: Origin, name: str, model: Network, dataset: data.Dataset
) -> InitialWeights:
    """Read the weights for a network of this name and a dataset.

    A classifier that is kept though the classes have other names is named in a warning.

    Raises: InputError if they cannot be read, or are those of a different network or other images.
    """
    with named("model.pretrained"):
        shape = dataset.train.image_shape
        weights = loading.load_pretrained(
            name,
            origin.source,
            origin.weights,
            num_classes=model.num_classes,
            in_channels=shape[-1],
        )
        theirs, ours = _fields(weights.model), _fields(model)
        if changes := differences(theirs, ours, names=("there", "here")):
            raise InputError(
                f"{origin.pretrained} has weights of another {name}, differing in {changes}; "
                "timm's networks are those of names with a tag"
            )
        variables = {kind: dict(tree) for kind, tree in weights.variables.items()}
        if origin.new_head or weights.classes != model.num_classes:
            del variables["params"]["head"]
        else:
            _warn_of_other_classes(origin.pretrained, weights.class_names, dataset)
        check_shapes(variables, model, shape)
    records: dict[str, Any] = {"pretrained_sha256": weights.sha256} if weights.sha256 else {}
    if weights.channels:
        records["pretrained_channels"] = weights.channels
        logging.getLogger(__name__).warning(
            "the run starts from %s", channels.in_words(weights.channels, shape[-1])
        )
    return InitialWeights(variables, records)


def _warn_of_other_classes(source: str, theirs: Sequence[str], dataset: data.Dataset) -> None:
    """Say that a classifier is kept, as it has as many classes, which are others."""
    how = ""
    if theirs and (difference := first_difference(theirs, readable(dataset.class_names))):
        how = f"have other names, there and here: {difference}"
    elif numbering.differs(dataset.identity, numbering.records_of(source)):
        how = "have numbers for names, and the same files other labels there"
    if how:
        logging.getLogger(__name__).warning(
            "the classifier of %s is kept, as it has as many classes, but they %s; "
            "model.new_head=True draws a new one",
            source,
            how,
        )


def _fields(model: Network) -> dict[str, Any]:
    """The fields of a network that its weights are tied to, by dotted names."""
    bare = saving.bare(model)
    fields = {field.name: getattr(bare, field.name) for field in dataclasses.fields(bare)}
    nested = {k: dataclasses.asdict(v) if isinstance(v, SEConfig) else v for k, v in fields.items()}
    flat = flatten(nested)
    idle = effect.without({f"model.{key}": value for key, value in flat.items()})
    return {key: value for key, value in flat.items() if f"model.{key}" not in idle}


def check_shapes(
    variables: Mapping[str, Any], model: Network, image_shape: tuple[int, int, int]
) -> None:
    """Raises: InputError for the first array whose shape is that of other images."""
    shapes: dict[tuple[str, ...], Any] = flatten_dict(dict(variable_shapes(model, image_shape)))
    stored: dict[tuple[str, ...], Any] = flatten_dict(dict(variables))
    for path, value in stored.items():
        if value.shape != (shape := shapes[path].shape):
            raise InputError(
                f"the weights are not for images of {' x '.join(map(str, image_shape))}: "
                f"{'/'.join(path)} is {list(value.shape)} there and must be {list(shape)}"
            )
