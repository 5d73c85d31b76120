"""Squeeze-and-Excitation networks in JAX: models, weights, training, and a look at the gates.

    import senet_jax

    model, variables = senet_jax.create_model("seresnet50.ra2_in1k", pretrained=True)
    gates = senet_jax.gates_of(model, variables, images)  # {"stage2/block1/se": [B, 256], ...}

The names in `__all__` are the public interface. Each is imported on first use: a command that only
refuses a flag does not wait for JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from senet_jax.data.image_files import open_image
    from senet_jax.errors import InputError
    from senet_jax.inference.classifier import load_classifier
    from senet_jax.inference.ensemble import evaluate_runs
    from senet_jax.inference.ensemble_views import TestViews
    from senet_jax.inference.explain import grad_cam
    from senet_jax.inference.gated_blocks import gates_of
    from senet_jax.inference.trained_run import load_run
    from senet_jax.layers.slot import SEConfig
    from senet_jax.layers.squeeze_excite import SqueezeExcite
    from senet_jax.layers.with_se import with_se
    from senet_jax.models import list_models
    from senet_jax.models.counts import image_shape_of, summarize
    from senet_jax.training.loop import train_and_evaluate
    from senet_jax.weights.loading import create_model, list_pretrained

# Public name to the module that defines it. Type checkers read the imports above and `__all__`;
# tests/commands/test_public_names.py holds the three together.
MODULES = {
    "create_model": "senet_jax.weights.loading",
    "list_models": "senet_jax.models",
    "list_pretrained": "senet_jax.weights.loading",
    "SEConfig": "senet_jax.layers.slot",
    "SqueezeExcite": "senet_jax.layers.squeeze_excite",
    "with_se": "senet_jax.layers.with_se",
    "summarize": "senet_jax.models.counts",
    "image_shape_of": "senet_jax.models.counts",
    "train_and_evaluate": "senet_jax.training.loop",
    "load_run": "senet_jax.inference.trained_run",
    "evaluate_runs": "senet_jax.inference.ensemble",
    "TestViews": "senet_jax.inference.ensemble_views",
    "load_classifier": "senet_jax.inference.classifier",
    "open_image": "senet_jax.data.image_files",
    "gates_of": "senet_jax.inference.gated_blocks",
    "grad_cam": "senet_jax.inference.explain",
    "InputError": "senet_jax.errors",
}

__all__ = [
    "InputError",
    "SEConfig",
    "SqueezeExcite",
    "TestViews",
    "create_model",
    "evaluate_runs",
    "gates_of",
    "grad_cam",
    "image_shape_of",
    "list_models",
    "list_pretrained",
    "load_classifier",
    "load_run",
    "open_image",
    "summarize",
    "train_and_evaluate",
    "with_se",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(MODULES[name]), name)
    globals()[name] = value  # from now on without this function
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("senet-jax")
    except metadata.PackageNotFoundError as error:
        raise AttributeError("senet_jax has no __version__ where it is not installed") from error
