"""Networks with weights: timm's published ones, files in their form, and those of our runs.

    model, variables = create_model("seresnet50.ra2_in1k", pretrained=True)

With weights a network has timm's architecture (`models/timm.py`), which is not always that of the
same name here: the excitation has biases; the hidden width of seresnet18 and 34 is rounded to
multiples of 8; legacy_* networks pool as in Caffe, legacy ResNets from 50 layers on stride on the
first 1x1, and legacy basic blocks have a ReLU before the SE block. Padding is even on both sides,
with stride 2 as well, in all networks here. A tensor that is missing, has no place or another shape
is an error.
"""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, overload

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from senet_jax import class_names, files, models, provenance, torch_names, weight_files, workdir
from senet_jax.errors import InputError
from senet_jax.layers.network import Network, he_normal
from senet_jax.layers.squeeze_excite import SEConfig
from senet_jax.models import timm
from senet_jax.models.timm import PretrainedConfig
from senet_jax.weight_files import Source

Variables = dict[str, Any]
Shapes = dict[tuple[str, ...], tuple[int, ...]]
HEAD = ("params", "head", "kernel")
# The first convolution, in one family or another.
IMAGES = tuple(
    ("params", *scopes.split("/"), "kernel")
    for scopes in ("stem/conv", "stem/conv1", "stage1/conv1", "stem1/conv")
)


@dataclasses.dataclass(frozen=True)
class Weights:
    """A network with weights.

    Attributes:
      name: of the network; that of timm for everything but a run of ours.
      model: the module.
      variables: `params` and `batch_stats` in float32, as `model.apply` takes them.
      config: the images that they were made for; None for a run of ours, whose configuration has
        that.
      classes: of the classifier that they came with, 0 for none. Where the model has another number
        its classifier is a new one.
      sha256: of the file; of a run's weights as in params_sha256 of its result, which it is unless
        they are moving averages; "" where there is neither.
      class_names: of each output of the weights' own classifier; none for a run of ours.
    """

    name: str
    model: Network
    variables: Variables
    config: PretrainedConfig | None
    classes: int
    sha256: str = ""
    class_names: tuple[str, ...] = ()


@overload
def create_model(
    name: str,
    *,
    pretrained: Literal[False] = False,
    num_classes: int | None = None,
    dtype: Any = jnp.float32,
    se: Mapping[str, Any] | SEConfig | None = None,
    **overrides: Any,
) -> Network: ...


@overload
def create_model(
    name: str,
    *,
    pretrained: Literal[True] | Source,
    num_classes: int | None = None,
    dtype: Any = jnp.float32,
    se: Mapping[str, Any] | SEConfig | None = None,
    **overrides: Any,
) -> tuple[Network, Variables]: ...


def create_model(
    name: str,
    *,
    pretrained: bool | Source = False,
    num_classes: int | None = None,
    dtype: Any = jnp.float32,
    se: Mapping[str, Any] | SEConfig | None = None,
    **overrides: Any,
) -> Network | tuple[Network, Variables]:
    """The network `name`, images [B, H, W, C] to logits [B, num_classes], and weights if asked for.

    Args:
      name: one of `list_models()`: "resnet50", "seresnet50", "seresnet20_cifar"; or a network of
        timm's, with or without the tag of weights: "seresnet50.ra2_in1k", "legacy_seresnet50".
      pretrained: True for the weights that timm publishes under that name; a hub id; a safetensors
        file or a folder with one; or a work directory. A pair is returned then: the module, of the
        weights' architecture, and its variables.
      num_classes: width of the classifier; by default that of the weights, or of the network's own
        dataset. Where it is not that of the weights, the classifier is a new one.
      dtype: of activations, e.g. "bfloat16"; parameters stay float32.
      se: fields of SEConfig that differ from the network's own, e.g. `dict(ratio=8)`, or a whole
        SEConfig.
      **overrides: further fields of the module, e.g. `stride_on="1x1"`.

    Raises:
      InputError: an unknown name or field, a value the network refuses, or weights that cannot be
        read or do not fit.
    """
    fields = {"num_classes": num_classes, "dtype": dtype, "se": se, **overrides}
    if pretrained is False:
        return models.create_model(name, **fields)
    found = load(name, pretrained, **fields)
    return found.model, found.variables


def list_pretrained(pattern: str = "*") -> list[str]:
    """The sets of weights that timm publishes of networks here, by a shell pattern."""
    return models.matching(pattern, timm.weights())


def load(name: str, source: Literal[True] | Source = True, **fields: Any) -> Weights:
    """The network `name` with weights; arguments and errors as of `create_model`."""
    name, path = locate(name, source)
    return _load_run(name, path, fields) if is_run(path) else _load_file(name, path, fields)


def locate(name: str, source: Literal[True] | Source) -> tuple[str, Path]:
    """The network's name, with a tag where timm's own weights are meant, and where they lie."""
    if source is not True:
        return name, weight_files.locate(source)
    timm.constructor_of(name)
    name = name if "." in name else timm.default_weights(name)
    return name, weight_files.locate(f"hf-hub:timm/{name}")


def is_run(path: Path) -> bool:
    """Whether it is a work directory of ours, not weights in timm's form."""
    config = files.read_json(path / weight_files.CONFIG) if path.is_dir() else None
    return isinstance(config, dict) and {"model", "data"} <= config.keys()


def made_for(name: str, config: Mapping[str, Any]) -> PretrainedConfig:
    """What images weights of timm's network `name` are made for, as their config.json says."""
    said = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in config.get("pretrained_cfg", {}).items()
        if key in PretrainedConfig.__dataclass_fields__ and value is not None
    }
    names = (key for key in timm.weights() if key == name or key.partition(".")[0] == name)
    base = timm.weights().get(next(names, ""), PretrainedConfig())
    return dataclasses.replace(base, **said)


def _load_file(name: str, path: Path, fields: Mapping[str, Any]) -> Weights:
    network = name.partition(".")[0]
    timm.constructor_of(name)
    file = weight_files.read(path)
    if (there := str(file.config.get("architecture", network))) != network:
        timm.constructor_of(there)
        raise InputError(f"{file.path} has weights of {there}, not of {network}")
    found = from_tensors(name, file.tensors, origin=str(file.path), **fields)
    declared = file.config.get("num_classes", found.classes)
    if found.classes and declared not in (0, found.classes):
        raise InputError(
            f"the classifier in {file.path} has {found.classes} classes, not the {declared} that "
            "its config.json says"
        )
    config = dataclasses.replace(made_for(name, file.config), num_classes=found.classes)
    names = class_names.of_weights(file.config, found.classes)
    sha256 = files.sha256(file.path)
    return dataclasses.replace(found, config=config, sha256=sha256, class_names=names)


def from_tensors(
    name: str, tensors: Mapping[str, np.ndarray], *, origin: str = "the state_dict", **fields: Any
) -> Weights:
    """timm's network `name` with the tensors of its state_dict, as NumPy arrays.

    Args:
      origin: what errors call them.
      **fields: as of `create_model`.
    """
    network = name.partition(".")[0]
    model = models.construct(name, timm.constructor_of(name), **fields)
    stored = {
        key: value
        for key, value in tensors.items()
        if not key.endswith("num_batches_tracked")  # nothing reads it with a fixed momentum
    }
    head = torch_names.name_of(model, HEAD[1:], legacy=_is_legacy(network))
    classes = len(stored[head]) if head in stored else 0
    model = _with_head(model, fields.get("num_classes"), classes, origin)
    shapes = _shapes(model.clone(features=False))
    places = torch_names.tensors(model, shapes, legacy=_is_legacy(network))
    if model.num_classes != classes:
        scope = head.removesuffix("weight")
        stored = {key: value for key, value in stored.items() if not key.startswith(scope)}
        places = {key: place for key, place in places.items() if not key.startswith(scope)}
    _check_fits(
        f"{origin} does not fit {network}",
        {key: value.shape for key, value in stored.items()},
        {key: place.shape for key, place in places.items()},
        channels=1,
    )
    found = {
        place.path: torch_names.from_torch(stored[key], place) for key, place in places.items()
    }
    config = dataclasses.replace(made_for(name, {}), num_classes=classes)
    return Weights(network, model, _variables(model, found, shapes), config, classes)


def run_sections(name: str, directory: Path) -> dict[str, Any]:
    """The configuration of a run of the network `name`, nested, without where it started from.

    Raises: InputError if it is a run of another one.
    """
    sections: dict[str, Any] = workdir.load_config(directory).to_dict()
    for key in ("pretrained", "new_head"):
        sections["model"].pop(key, None)
    if (there := sections["model"]["name"]) != name:
        raise InputError(f"{directory} is a run of {there}, not of {name}")
    return sections


def _load_run(name: str, directory: Path, fields: Mapping[str, Any]) -> Weights:
    from senet_jax import finished  # brings the data pipelines

    section = run_sections(name, directory)["model"]
    _, variables = finished.load_weights(directory)
    given = {key: value for key, value in fields.items() if value is not None}
    if "se" in section and isinstance(given.get("se"), Mapping):
        given["se"] = section["se"] | dict(given["se"])
    model = models.create_model(**(section | given))
    found = {path: np.asarray(value) for path, value in flatten_dict(variables).items()}
    classes = found[HEAD].shape[-1]
    model = _with_head(model, fields.get("num_classes"), classes, str(directory))
    shapes = _shapes(model.clone(features=False))
    expected = dict(shapes)
    if model.num_classes != classes:
        for path in [path for path in shapes if path[:2] == HEAD[:2]]:
            del expected[path]
            found.pop(path, None)
    _check_fits(
        f"the weights of {directory} do not fit {name} with these fields",
        {"/".join(path): value.shape for path, value in found.items()},
        {"/".join(path): shape for path, shape in expected.items()},
        channels=2,
    )
    sha256 = provenance.fingerprint(variables)
    return Weights(name, model, _variables(model, found, shapes), None, classes, sha256)


def _with_head(model: Network, asked: int | None, classes: int, origin: str) -> Network:
    """The module with as many classes as it will have.

    Args:
      asked: the classes that were asked for, if any.
      classes: those of the weights; 0 if these have no classifier.
    """
    if not (asked or classes or model.features):
        raise InputError(f"{origin} has no classifier; give num_classes for a new one")
    return model.clone(num_classes=asked or classes or 1)


def _shapes(model: Network) -> Shapes:
    """Of all variables, by their paths from "params" or "batch_stats" on, for RGB images."""
    side = model.image_size
    images = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    flat: dict[tuple[str, ...], Any] = flatten_dict(dict(variables))
    return {path: leaf.shape for path, leaf in flat.items()}


def _check_fits(
    problem: str,
    found: Mapping[str, tuple[int, ...]],
    expected: Mapping[str, tuple[int, ...]],
    channels: int,
) -> None:
    """Raises: InputError that names the first array that is missing, unknown or of another shape.

    Args:
      channels: the axis of kernels where the first has the number of channels of the images, which
        is free.
    """
    faults = [f"{name} is missing" for name in sorted(expected.keys() - found.keys())]
    faults += [f"{name} has no place in it" for name in sorted(found.keys() - expected.keys())]
    for name in sorted(expected.keys() & found.keys()):
        there, here = found[name], expected[name]
        if len(here) == len(there) == 4 and here[channels] == 3:
            here = (*here[:channels], there[channels], *here[channels + 1 :])
        if there != here:
            faults.append(f"{name} is {list(there)} there and {list(here)} in it")
    if faults:
        more = f", and {len(faults) - 1} more do not fit" if len(faults) > 1 else ""
        raise InputError(f"{problem}: {faults[0]}{more}")


def _variables(
    model: Network, found: Mapping[tuple[str, ...], np.ndarray], shapes: Shapes
) -> Variables:
    """What `model.apply` takes: arrays of JAX, with a new classifier where none was found.

    Args:
      shapes: of the variables of the model with its classifier.
    """
    for path, value in found.items():
        if value.dtype != np.float32:
            raise InputError(f"{'/'.join(path)} must be float32 or shorter, not {value.dtype}")
    variables: dict[tuple[str, ...], Any] = {p: jnp.asarray(value) for p, value in found.items()}
    for path in shapes.keys() - variables.keys():
        initialise = he_normal if path == HEAD else jax.nn.initializers.zeros
        variables[path] = initialise(jax.random.key(0), shapes[path])
    wanted = _shapes(model) if model.features else shapes
    return unflatten_dict({path: variables[path] for path in wanted})


def save(
    folder: str | os.PathLike[str],
    model: Network,
    variables: Variables,
    config: PretrainedConfig | None = None,
) -> None:
    """Write `model.safetensors` and `config.json`, which timm and `create_model` read.

    Arrays are moved bit by bit. Biases that timm's excitation has and this one has not are written
    as the zeros that they amount to.

    Args:
      config: the images that the weights were made for, for config.json; timm's usual if None.

    Raises: InputError if timm has no such network, the variables are not the model's, or the folder
      cannot be written.
    """
    network = architecture_of(model)
    shapes = _shapes(_biased(model).clone(features=False))
    given = {path: np.asarray(value) for path, value in flatten_dict(dict(variables)).items()}
    for path in shapes.keys() - given.keys():
        if "se" in path and path[-1] == "bias":
            given[path] = np.zeros(shapes[path], np.float32)
    _check_fits(
        f"the variables are not those of {network}",
        {"/".join(path): value.shape for path, value in given.items()},
        {"/".join(path): shape for path, shape in shapes.items()},
        channels=2,
    )
    places = torch_names.tensors(
        model, {path: value.shape for path, value in given.items()}, legacy=_is_legacy(network)
    )
    stored = {key: torch_names.to_torch(given[place.path], place) for key, place in places.items()}
    for key in [key for key in stored if key.endswith("running_var")]:
        stored[key.replace("running_var", "num_batches_tracked")] = np.zeros((), np.int64)

    def name_of(path: tuple[str, ...]) -> str:
        name = torch_names.name_of(model, path[1:], legacy=_is_legacy(network))
        return name.removesuffix(".weight")

    features, classes = given[HEAD].shape
    pretrained = dataclasses.replace(config or PretrainedConfig(), num_classes=classes)
    named = {
        "architecture": network,
        "num_classes": classes,
        "num_features": features,
        "pretrained_cfg": {
            "custom_load": False,
            "fixed_input_size": False,
            "crop_mode": "center",
            "first_conv": name_of(next(path for path in IMAGES if path in given)),
            "classifier": name_of(HEAD),
            **{key: value for key, value in dataclasses.asdict(pretrained).items() if value},
        },
    }
    weight_files.write(Path(folder), stored, named)


def architecture_of(model: Network) -> str:
    """The name of a module's network in timm, whatever its classes, dropout and dtype.

    Raises: InputError if timm has none like it.
    """
    ours = bare(_biased(model))
    for name, constructor in timm.NETWORKS.items():
        if type(model) is constructor.func and bare(constructor()) == ours:
            return name
    raise InputError(
        f"timm has no network like this {type(model).__name__}; those that it has are "
        f"{', '.join(timm.NETWORKS)}, with their own fields"
    )


def _biased(model: Network) -> Network:
    """The module with biases in its SE blocks, if it has such blocks."""
    se: SEConfig | None = getattr(model, "se", None)
    if se is None or not se.stages or (se.kind, se.excitation) != ("se", "mlp"):
        return model
    return model.clone(se=dataclasses.replace(se, bias=True))


def bare(model: Network) -> Network:
    """The module without the fields that change nothing of what its weights compute."""
    names = {field.name for field in dataclasses.fields(Network)} - {"parent", "name"}
    fields = {name: getattr(Network, name) for name in names}
    if hasattr(model, "zero_init_last_bn"):
        fields["zero_init_last_bn"] = False
    return model.clone(**fields)


def _is_legacy(network: str) -> bool:
    return network.startswith("legacy_")
