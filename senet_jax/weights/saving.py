"""Weights of ours written as timm's hub has them, the way back of loading.py.

saving.save("folder", model, variables)
timm.create_model("local-dir:folder", pretrained=True)        # in PyTorch
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from senet_jax.errors import InputError
from senet_jax.layers.network import Network
from senet_jax.layers.slot import SEConfig
from senet_jax.weights import files as weight_files
from senet_jax.weights import sources, timm, torch_names
from senet_jax.weights.image_spec import ImageSpec
from senet_jax.weights.torch_names import HEAD, check_fits, shapes_of

# Paths of the first convolution, in one family or another.
FIRST_CONVOLUTIONS = tuple(
    ("params", *scopes.split("/"), "kernel")
    for scopes in ("stem/conv", "stem/conv1", "stage1/conv1", "stem1/conv")
)


def save(
    folder: str | os.PathLike[str],
    model: Network,
    variables: Mapping[str, Any],
    image_spec: ImageSpec | None = None,
    class_names: Sequence[str] = (),
) -> None:
    """Write `model.safetensors` and `config.json`, which timm and `create_model` read.

    Arrays are moved bit by bit. Biases that timm's excitation has and this one lacks are written
    as the zeros that they amount to.

    A ResNet for CIFAR with its own fields, which timm lacks, is written in the same form, for
    `create_model` alone.

    Args:
      image_spec: the images that the weights were made for, for config.json; timm's usual if None.
      class_names: one name per output, for config.json.

    Raises: InputError for any other network that timm lacks, variables that are not the model's,
      or a folder that cannot be written or is the work directory of a run.
    """
    check_folder(Path(folder))
    network = architecture_of(model)
    arrays = _with_biases(model, network, variables)
    places = torch_names.tensors(
        model,
        {path: value.shape for path, value in arrays.items()},
        legacy=torch_names.is_legacy(network),
    )
    stored = {key: torch_names.to_torch(arrays[place.path], place) for key, place in places.items()}
    for key in [key for key in stored if key.endswith("running_var")]:
        stored[key.replace("running_var", "num_batches_tracked")] = np.zeros((), np.int64)
    config_json = _config_json(model, network, arrays, image_spec or ImageSpec(), class_names)
    weight_files.write(Path(folder), stored, config_json)


def check_folder(folder: Path) -> None:
    """Raises: InputError for the work directory of a run, which would lose its config.json."""
    if sources.is_run(folder):
        raise InputError(
            f"{folder} is the work directory of a run, whose config.json would be replaced; choose "
            "another folder"
        )


def _with_biases(
    model: Network, network: str, variables: Mapping[str, Any]
) -> dict[tuple[str, ...], np.ndarray]:
    """The variables by path, with zeros for the biases that the excitation lacks.

    Raises: InputError if they are not those of the model.
    """
    whole = model if network in timm.ALIKE else _biased(model)
    shapes = shapes_of(whole.clone(features=False))
    arrays = {path: np.asarray(value) for path, value in flatten_dict(dict(variables)).items()}
    for path in shapes.keys() - arrays.keys():
        if "se" in path and path[-1] == "bias":
            arrays[path] = np.zeros(shapes[path], np.float32)
    check_fits(
        f"the variables are not those of {network}",
        {"/".join(path): value.shape for path, value in arrays.items()},
        {"/".join(path): shape for path, shape in shapes.items()},
        channels=2,
    )
    return arrays


def _config_json(
    model: Network,
    network: str,
    arrays: Mapping[tuple[str, ...], np.ndarray],
    image_spec: ImageSpec,
    class_names: Sequence[str],
) -> dict[str, Any]:
    """The config.json of the weights, as timm reads it."""

    def module_of(path: tuple[str, ...]) -> str:
        name = torch_names.name_of(model, path[1:], legacy=torch_names.is_legacy(network))
        return name.removesuffix(".weight")

    features, classes = arrays[HEAD].shape
    spec = dataclasses.replace(image_spec, num_classes=classes)
    return {
        "architecture": network,
        "num_classes": classes,
        "num_features": features,
        **({"label_names": list(class_names)} if class_names else {}),
        "pretrained_cfg": {
            "custom_load": False,
            "fixed_input_size": False,
            "first_conv": module_of(next(path for path in FIRST_CONVOLUTIONS if path in arrays)),
            "classifier": module_of(HEAD),
            **{key: value for key, value in dataclasses.asdict(spec).items() if value},
        },
    }


def architecture_of(model: Network) -> str:
    """The name of a module's network in timm.NETWORKS or timm.ALIKE.

    Its classes, dropout and dtype do not matter.

    Raises: InputError if neither has one like it.
    """
    for networks, wanted in ((timm.NETWORKS, bare(_biased(model))), (timm.ALIKE, bare(model))):
        for name, constructor in networks.items():
            if type(model) is constructor.func and bare(constructor()) == wanted:
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
    """The module without the fields that do not change what its weights compute."""
    names = {field.name for field in dataclasses.fields(Network)} - {"parent", "name"}
    fields = {name: getattr(Network, name) for name in names}
    if hasattr(model, "zero_init_last_bn"):
        fields["zero_init_last_bn"] = False
    return model.clone(**fields)
