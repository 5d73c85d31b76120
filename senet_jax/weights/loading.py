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
from senet_jax.errors import InputError, counted
from senet_jax.layers.network import Network
from senet_jax.layers.slot import SEConfig
from senet_jax.runs import provenance, workdir
from senet_jax.runs.stored import FINAL, StoredRun, load_weights
from senet_jax.system import files
from senet_jax.weights import declared, sources, timm, torch_names
from senet_jax.weights import files as weight_files
from senet_jax.weights.assembly import Variables, variables_of, with_head
from senet_jax.weights.channels import adapt, check_channels
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
      channels: channels of the images that they were for; 0 for as many as those of the model.
    """

    name: str
    model: Network
    variables: Variables
    image_spec: ImageSpec | None
    classes: int
    sha256: str = ""
    class_names: tuple[str, ...] = ()
    channels: int = 0


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
    in_channels: int | None = None,
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
    in_channels: int | None = None,
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
      in_channels: channels of the images, to which weights for RGB are adapted, see
        channels.adapt; by default as many as the weights are for.
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
        sources.check_only_runs(weights, "a network without weights")
        if in_channels is not None:
            raise InputError(
                "in_channels is for weights: a network without any takes as many as it first sees"
            )
        return _network(name, **fields)
    loaded = load_pretrained(name, pretrained, weights, in_channels=in_channels, **fields)
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
    check_channels(fields.get("in_channels"))
    name, path = sources.locate(name, source)
    if sources.is_run(path):
        sources.run_sections(name, path)  # refuses a run of a different network
        return from_run(load_weights(path, weights), **fields)
    sources.check_only_runs(weights, str(path))
    return _from_file(name, path, fields)


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
            f"the classifier in {file.path} has "
            f"{counted(weights.classes, 'class')}, not the {classes} that "
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
    name: str,
    tensors: Mapping[str, np.ndarray],
    *,
    origin: str = "the state_dict",
    in_channels: int | None = None,
    **fields: Any,
) -> Weights:
    """The network `name` in timm with the tensors of its state_dict, as NumPy arrays.

    Args:
      origin: what errors call the tensors.
      in_channels, **fields: arguments of `create_model`.

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
    arrays, theirs = adapt(arrays, model, in_channels, origin)
    spec = dataclasses.replace(timm.image_spec_of(name, {}), num_classes=classes)
    variables = variables_of(model, arrays, shapes, origin)
    return Weights(network, model, variables, spec, classes, channels=theirs)


def from_run(run: StoredRun, *, in_channels: int | None = None, **fields: Any) -> Weights:
    """The network of a run of ours; arguments and errors are those of `create_model`."""
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
    arrays, theirs = adapt(arrays, model, in_channels, str(directory), (run.image_shape or ())[:2])
    sha256 = provenance.fingerprint(variables)
    variables = variables_of(model, arrays, shapes, str(directory), run.image_shape)
    names = readable((run.dataset | run.result).get("class_names", ()))
    return Weights(name, model, variables, None, classes, sha256, names, theirs)
