"""Which parameters of a network are trained, and how fast: optim.freeze and optim.layer_decay.

The path of a parameter is its names from the outermost on: "stem/conv/kernel", "head/bias",
"stage2/block1/bn1/scale".
"""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from senet_jax.errors import InputError, did_you_mean
from senet_jax.layers.network import Network

ParamGroup = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Tuning:
    """What is trained of a network.

    Attributes:
      trained: for each parameter whether it is; None if all are.
      frozen_norms: the paths of the batch-norm layers of which no parameter is trained: their
        running statistics stay, and they normalise by them in training as well.
      scales: for each parameter the factor on its updates; None if these are whole.
    """

    trained: Any = None
    frozen_norms: tuple[str, ...] = ()
    scales: Any = None


def tuning(
    model: Network, image_shape: Sequence[int], freeze: Sequence[str], layer_decay: float
) -> Tuning:
    """What optim.freeze and optim.layer_decay say for a network and images [H, W, C].

    Raises: InputError for an expression that is in no path, or if nothing is left to train.
    """
    if not freeze and layer_decay == 1:
        return Tuning()
    variables, layers = traced(model, image_shape)
    is_trained = trained(variables["params"], freeze) if freeze else None
    norms = frozen_norms(variables.get("batch_stats", {}), is_trained) if freeze else ()
    scales = layer_scales(variables["params"], layers, layer_decay) if layer_decay != 1 else None
    return Tuning(is_trained, norms, scales)


def trained(params: Any, patterns: Sequence[str]) -> Any:
    """For each parameter whether none of the regular expressions is in its path."""
    paths = sorted(flatten_dict(params, sep="/"))
    for pattern in patterns:
        if not any(re.search(pattern, path) for path in paths):
            begins = {path[: cut.end()] for path in paths for cut in re.finditer(r"[^/]+", path)}
            near = did_you_mean(pattern, begins)
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
    free = {path[:-1] for path, is_trained in flatten_dict(trained).items() if is_trained}
    return tuple(sorted("/".join(p) for p in {p[:-1] for p in flatten_dict(batch_stats)} - free))


def layer_scales(params: Any, layers: Sequence[ParamGroup], decay: float) -> Any:
    """For each parameter `decay` to the power of the layers that come after its own.

    As in BEiT (Bao et al. 2021) and timm; what a layer is, `layer_of` says.
    """
    after = {layer: place for place, layer in enumerate(reversed(layers))}
    return unflatten_dict({path: decay ** after[layer_of(path)] for path in flatten_dict(params)})


def traced(model: Network, image_shape: Sequence[int]) -> tuple[Any, list[ParamGroup]]:
    """Shapes of the variables, and the layers in the order of the computation."""
    layers: dict[ParamGroup, None] = {}

    def note(next_fun: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        output = next_fun(*args, **kwargs)
        for name, value in context.module.variables.get("params", {}).items():
            if not isinstance(value, dict):
                layers.setdefault(layer_of((*context.module.path, name)))
        return output

    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    with nn.intercept_methods(note):
        variables = jax.eval_shape(lambda image: model.init(jax.random.key(0), image), image)
    return variables, list(layers)


def layer_of(path: tuple[str, ...]) -> ParamGroup:
    """The layer of a parameter: a block of a stage, or else what is outermost: stem, classifier.

    Where a stage has no blocks, what has the same number in it is one, such as conv2 and bn2.
    """
    if path[0].startswith("stage") and len(path) > 2:
        number = re.search(r"\d*$", path[1])
        assert number is not None
        return path[0], number[0] or path[1]
    return path[:1]
