"""Networks with weights: timm's published ones, files in their form, and those of our runs.

    model, variables = create_model("seresnet50.ra2_in1k", pretrained=True)

With weights a network has timm's architecture (timm.py), which is not always that of the same name
here: the excitation has biases; the hidden width of seresnet18 and 34 is rounded to multiples of 8;
legacy_* networks pool as in Caffe, legacy ResNets from 50 layers on stride on the first 1x1, and
legacy basic blocks have a ReLU before the SE block; activations of mobilenetv1_100 end at 6. (What
vgg16_bn does with images of more than 224 pixels is torchvision's, not timm's.) Padding is even on
both sides, also with stride 2, in all networks here. ResNets for CIFAR, which timm lacks, are as
without weights. A tensor that is missing, has no place or a different shape is an error.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, overload

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from senet_jax import models
from senet_jax.errors import InputError
from senet_jax.layers.network import Network
from senet_jax.layers.slot import SEConfig
from senet_jax.runs import provenance, workdir
from senet_jax.runs.stored import EARLIER, FINAL, StoredRun, load_weights
from senet_jax.system import files
from senet_jax.weights import declared, timm, torch_names
from senet_jax.weights import files as weight_files
from senet_jax.weights.assembly import Variables, variables_of, with_head
from senet_jax.weights.class_names import names_of_classes, readable
from senet_jax.weights.files import Source
from senet_jax.weights.image_spec import ImageSpec
from senet_jax.weights.torch_names import HEAD, check_fits, shapes_of


@dataclasses.dataclass(frozen=True)
class Weights:
    """A network with weights.

    Attributes:
      name: the network's name, in timm for everything but a run of ours.
      model: the module.
      variables: `params` and `batch_stats` in float32, as `model.apply` takes them.
      image_spec: the images that they were made for, from config.json, else what timm says of the
        tag or the network; None for a run of ours, whose configuration has that.
      classes: width of the classifier that they came with; 0 for none. Where that of the model is
        different, its classifier is a new one.
      sha256: the sum of the file; for a run, the sum of its weights in the form of params_sha256 in
        its result, which it equals if they are the final ones; "" where there is neither.
      class_names: one name per output of the weights' own classifier; none for a run of ours that
        has not recorded them.
    """

    name: str
    model: Network
    variables: Variables
    image_spec: ImageSpec | None
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
    weights: str = FINAL,
    num_classes: int | None = None,
    dtype: Any = jnp.float32,
    se: Mapping[str, Any] | SEConfig | None = None,
    **overrides: Any,
) -> tuple[Network, Variables]: ...


def create_model(
    name: str,
    *,
    pretrained: bool | Source = False,
    weights: str = FINAL,
    num_classes: int | None = None,
    dtype: Any = jnp.float32,
    se: Mapping[str, Any] | SEConfig | None = None,
    **overrides: Any,
) -> Network | tuple[Network, Variables]:
    """Build the network `name`, which takes images [B, H, W, C] to logits [B, num_classes].

    Args:
      name: one of `list_models()`: "resnet50", "seresnet50", "seresnet20_cifar"; or a network in
        timm, with or without the tag of weights: "seresnet50.ra2_in1k", "legacy_seresnet50".
      pretrained: where weights come from: True for those that timm publishes under that name; a
        hub id; a safetensors file or a folder with one; or a work directory.
      weights: those of a work directory: "final", "ema" (their moving averages) or "best" (of the
        lowest evaluation error on the way, if the run kept them).
      num_classes: width of the classifier; by default that of the weights, or of the network's own
        dataset. Where it differs from that of the weights, the classifier is a new one.
      dtype: type of activations, e.g. "bfloat16"; parameters stay float32.
      se: fields of SEConfig that differ from the network's own, e.g. `dict(ratio=8)`, or a whole
        SEConfig.
      **overrides: further fields of the module, e.g. `stride_on="1x1"`.

    Returns the module; with `pretrained` a pair, the module in the architecture of the weights and
    its variables as `model.apply` takes them.

    Raises:
      InputError: an unknown name or field, a value the network refuses, or weights that cannot be
        read or do not fit.
    """
    fields = {"num_classes": num_classes, "dtype": dtype, "se": se, **overrides}
    if not pretrained:
        check_only_runs(weights, "a network without weights")
        return _network(name, **fields)
    loaded = load_pretrained(name, pretrained, weights, **fields)
    return loaded.model, loaded.variables


def _network(name: str, **fields: Any) -> Network:
    """The network of a name here, or of one that means timm's architecture, without weights."""
    if name not in models.MODELS and ("." in name or name in timm.NETWORKS):
        return models.construct(name, timm.constructor_of(name), **fields)
    return models.create_model(name, **fields)


def list_pretrained(pattern: str = "*") -> list[str]:
    """Names of the weights that timm publishes for networks here, by a shell pattern."""
    return models.matching(pattern, timm.weights())


def load_pretrained(
    name: str, source: Literal[True] | Source = True, weights: str = FINAL, **fields: Any
) -> Weights:
    """Load the network `name` with weights; arguments and errors are those of `create_model`."""
    name, path = locate(name, source)
    if is_run(path):
        run_sections(name, path)  # refuses a run of a different network
        return from_run(load_weights(path, weights), **fields)
    check_only_runs(weights, str(path))
    return _from_file(name, path, fields)


def check_only_runs(weights: str, source: str) -> None:
    """Raises: InputError if a choice among a run's weights is asked of a source that is none."""
    if weights not in (FINAL, EARLIER):
        raise InputError(
            f"only runs have other weights than their final ones, and {source} is none"
        )


def locate(name: str, source: Literal[True] | Source) -> tuple[str, Path]:
    """The network's name, with a tag where timm's own weights are meant, and where these are.

    Raises: InputError for weights that timm lacks, and as files.locate does.
    """
    if source is not True:
        return name, weight_files.locate(source)
    timm.constructor_of(name)
    name = name if "." in name else timm.default_weights(name)
    return name, weight_files.locate(f"hf-hub:timm/{name}")


def is_run(path: Path) -> bool:
    """Whether a path is a work directory of ours, not weights in timm's form."""
    content = files.read_json(path / weight_files.CONFIG_JSON) if path.is_dir() else None
    return isinstance(content, dict) and {"model", "data"} <= content.keys()


def _from_file(name: str, path: Path, fields: Mapping[str, Any]) -> Weights:
    network = name.partition(".")[0]
    timm.constructor_of(name)
    file = weight_files.read(path)
    architecture = timm.architecture_in(file.config_json) or network
    if architecture != network:
        raise InputError(f"{file.path} has weights of {architecture}, not of {network}")
    weights = from_tensors(name, file.tensors, origin=str(file.path), **fields)
    classes = declared.classes(file.config_json)
    if weights.classes and classes not in (None, 0, weights.classes):
        raise InputError(
            f"the classifier in {file.path} has {weights.classes} classes, not the {classes} that "
            "its config.json says (num_classes)"
        )
    spec = timm.image_spec_of(name, file.config_json)
    return dataclasses.replace(
        weights,
        image_spec=dataclasses.replace(spec, num_classes=weights.classes),
        sha256=files.sha256(file.path),
        class_names=names_of_classes(file.config_json, weights.classes),
    )


def from_tensors(
    name: str, tensors: Mapping[str, np.ndarray], *, origin: str = "the state_dict", **fields: Any
) -> Weights:
    """The network `name` in timm with the tensors of its state_dict, as NumPy arrays.

    Args:
      origin: what errors call the tensors.
      **fields: arguments of `create_model`.

    Raises: InputError for an unknown name or field, or tensors that do not fit.
    """
    network = name.partition(".")[0]
    model = models.construct(name, timm.constructor_of(name), **fields)
    stored = {
        key: value
        for key, value in torch_names.unwrapped(tensors).items()
        if not key.endswith("num_batches_tracked")  # nothing reads it with a fixed momentum
    }
    head = torch_names.name_of(model, HEAD[1:], legacy=torch_names.is_legacy(network))
    if longer := [key for key in stored if key.endswith(f".{head}")]:
        raise InputError(
            f"{origin} does not fit {network}: {longer[0]} has no place in it, where it is called "
            f"{head}; take away what is before the names"
        )
    classes = len(stored[head]) if head in stored else 0
    model = with_head(model, fields.get("num_classes"), classes, origin)
    shapes = shapes_of(model.clone(features=False))
    places = torch_names.tensors(model, shapes, legacy=torch_names.is_legacy(network))
    if model.num_classes != classes:
        scope = head.removesuffix("weight")
        stored = {key: value for key, value in stored.items() if not key.startswith(scope)}
        places = {key: place for key, place in places.items() if not key.startswith(scope)}
    check_fits(
        f"{origin} does not fit {network}",
        {key: value.shape for key, value in stored.items()},
        {key: place.shape for key, place in places.items()},
        channels=1,
    )
    arrays = {
        place.path: torch_names.from_torch(stored[key], place) for key, place in places.items()
    }
    spec = dataclasses.replace(timm.image_spec_of(name, {}), num_classes=classes)
    return Weights(network, model, variables_of(model, arrays, shapes), spec, classes)


def run_sections(name: str, directory: Path) -> dict[str, Any]:
    """The configuration, as nested dicts, of a run of the network `name`.

    It lacks the keys that say where the run started from.

    Raises: InputError if it is a run of a different network.
    """
    sections: dict[str, Any] = workdir.load_config(directory).to_dict()
    for key in workdir.ORIGIN:
        sections["model"].pop(key, None)
    if sections["model"].get("name") != name:
        ours = sections["model"].get("name", "a network without a name")
        raise InputError(f"{directory} is a run of {ours}, not of {name}")
    return sections


def from_run(run: StoredRun, **fields: Any) -> Weights:
    """The network of a run of ours; `fields` and errors are those of `create_model`."""
    section = {k: v for k, v in run.config["model"].items() if k not in workdir.ORIGIN}
    if "name" not in section:
        raise InputError(f"{run.directory / 'config.json'} is damaged: it has no model.name")
    name, variables, directory = section["name"], run.variables, run.directory
    changes = {key: value for key, value in fields.items() if value is not None}
    if "se" in section and isinstance(changes.get("se"), Mapping):
        changes["se"] = section["se"] | dict(changes["se"])
    model = _network(**(section | changes))
    arrays = {path: np.asarray(value) for path, value in flatten_dict(variables).items()}
    classes = arrays[HEAD].shape[-1]
    model = with_head(model, fields.get("num_classes"), classes, str(directory))
    shapes = shapes_of(model.clone(features=False), run.image_shape)
    expected = dict(shapes)
    if model.num_classes != classes:
        for path in [path for path in shapes if path[:2] == HEAD[:2]]:
            del expected[path]
            arrays.pop(path, None)
    check_fits(
        f"the weights of {directory} do not fit {name} with these fields",
        {"/".join(path): value.shape for path, value in arrays.items()},
        {"/".join(path): shape for path, shape in expected.items()},
        channels=2,
    )
    sha256 = provenance.fingerprint(variables)
    variables = variables_of(model, arrays, shapes, run.image_shape)
    names = readable((run.dataset | run.result).get("class_names", ()))
    return Weights(name, model, variables, None, classes, sha256, names)
