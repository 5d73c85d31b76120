"""Choice of the parameters that are trained, and how fast: optim.freeze and optim.layer_decay.

The path of a parameter is its names from the outermost on: "stem/conv/kernel", "head/bias",
"stage2/block1/bn1/scale".
"""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from senet_jax.errors import InputError, did_you_mean
from senet_jax.layers.network import Network
from senet_jax.models.shapes import traced_variables

ParamGroup = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Tuning:
    """The parameters of a network that are trained, and how fast.

    Attributes:
      trained: tree of booleans, whether each parameter is trained; None if all are.
      frozen_norms: the paths of the batch-norm layers of which no parameter is trained: their
        running statistics stay, and they normalise by them in training as well.
      scales: tree of factors on the updates of each parameter; None if updates are whole.
    """

    trained: Any = None
    frozen_norms: tuple[str, ...] = ()
    scales: Any = None


def tuning(
    model: Network, image_shape: Sequence[int], freeze: Sequence[str], layer_decay: float
) -> Tuning:
    """Apply optim.freeze and optim.layer_decay to a network for images [H, W, C].

    Raises: InputError for an expression that is in no path, or if nothing is left to train.
    """
    if not freeze and layer_decay == 1:
        return Tuning()
    variables, layers = traced(model, image_shape)
    is_trained = trained(variables["params"], freeze) if freeze else None
    norms = frozen_norms(variables.get("batch_stats", {}), is_trained) if freeze else ()
    scales = layer_scales(variables["params"], layers, layer_decay) if layer_decay != 1 else None
    return Tuning(is_trained, norms, scales)


def idle(tuned: Tuning, decays: Any, batch_stats: Any) -> dict[str, str]:
    """The keys that have no effect on the parameters that are trained, each with the reason.

    Args:
      decays: tree of booleans, whether weight decay is kept for each parameter where
        optim.decay_norm_and_bias is False.
    """
    if tuned.trained is None:
        return {}
    found = {}
    is_trained = flatten_dict(tuned.trained)

    def of_trained(tree: Any) -> list[Any]:
        return [value for path, value in flatten_dict(tree).items() if is_trained[path]]

    if tuned.scales is not None and all(scale == 1 for scale in of_trained(tuned.scales)):
        found["optim.layer_decay"] = "optim.freeze leaves only the last layer to train"
    if all(of_trained(decays)):
        found["optim.decay_norm_and_bias"] = "optim.freeze leaves only kernels to train"
    norms = {"/".join(path[:-1]) for path in flatten_dict(batch_stats)}
    if norms <= {*tuned.frozen_norms}:
        for key in ("train.freeze_bn_epochs", "train.sync_batch_norm"):
            found[key] = "optim.freeze has frozen all batch norm"
    return found


def trained(params: Any, patterns: Sequence[str]) -> Any:
    """Tree of booleans: whether none of the regular expressions is in a parameter's path."""
    paths = sorted(flatten_dict(params, sep="/"))
    for pattern in patterns:
        if not any(re.search(pattern, path) for path in paths):
            prefixes = {path[: name.end()] for path in paths for name in re.finditer("[^/]+", path)}
            near = did_you_mean(pattern, prefixes)
            raise InputError(
                f"optim.freeze has {pattern!r}, which is in the path of no parameter"
                f"{near or f'; paths are like {paths[0]!r} and {paths[-1]!r}'}"
            )
    kept = {path: not any(re.search(p, path) for p in patterns) for path in paths}
    if not any(kept.values()):
        raise InputError(
            f"optim.freeze {tuple(patterns)} is in the paths of all parameters: nothing is trained"
        )
    return unflatten_dict(kept, sep="/")


def frozen_norms(batch_stats: Any, trained: Any) -> tuple[str, ...]:
    """The paths of the layers with batch statistics of which no parameter is trained."""
    in_training = {path[:-1] for path, is_trained in flatten_dict(trained).items() if is_trained}
    norms = {path[:-1] for path in flatten_dict(batch_stats)}
    return tuple(sorted("/".join(path) for path in norms - in_training))


def layer_scales(params: Any, layers: Sequence[ParamGroup], decay: float) -> Any:
    """Tree of factors: `decay` to the power of the number of layers after the parameter's own.

    This is the rule of BEiT (Bao et al. 2021) and timm; `layer_of` says what a layer is.
    """
    followers = {layer: number for number, layer in enumerate(reversed(layers))}
    return unflatten_dict(
        {path: decay ** followers[layer_of(path)] for path in flatten_dict(params)}
    )


def traced(model: Network, image_shape: Sequence[int]) -> tuple[Any, list[ParamGroup]]:
    """Shapes of a network's variables, and its layers in the order of the computation."""
    layers: dict[ParamGroup, None] = {}

    def note(next_fun: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        output = next_fun(*args, **kwargs)
        for name, value in context.module.variables.get("params", {}).items():
            if not isinstance(value, dict):
                layers.setdefault(layer_of((*context.module.path, name)))
        return output

    with nn.intercept_methods(note):
        variables = traced_variables(model, image_shape)
    return variables, list(layers)


def layer_of(path: tuple[str, ...]) -> ParamGroup:
    """The layer of a parameter: a block of a stage, or else an outermost part: stem, classifier.

    Where a stage has no blocks, its modules of the same number are a layer, such as conv2 and bn2.
    """
    if path[0].startswith("stage") and len(path) > 2:
        number = re.search(r"\d*$", path[1])
        assert number is not None
        return path[0], number[0] or path[1]
    return path[:1]
