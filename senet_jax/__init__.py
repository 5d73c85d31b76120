"""Squeeze-and-Excitation networks in JAX: `create_model("seresnet50", se=dict(ratio=8))`."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from senet_jax.inference.classifier import load_classifier
    from senet_jax.inference.explain import grad_cam
    from senet_jax.inference.gate_statistics import gates_of
    from senet_jax.inference.images import open_image
    from senet_jax.inference.trained import load_run
    from senet_jax.models import list_models
    from senet_jax.models.counts import summarize
    from senet_jax.training.loop import train_and_evaluate
    from senet_jax.weights.loading import create_model, list_pretrained

__all__ = [
    "create_model",
    "gates_of",
    "grad_cam",
    "list_models",
    "list_pretrained",
    "load_classifier",
    "load_run",
    "open_image",
    "summarize",
    "train_and_evaluate",
]

_ROOMS = {
    "create_model": "weights.loading",
    "gates_of": "inference.gate_statistics",
    "grad_cam": "inference.explain",
    "list_models": "models",
    "list_pretrained": "weights.loading",
    "load_classifier": "inference.classifier",
    "load_run": "inference.trained",
    "open_image": "inference.images",
    "summarize": "models.counts",
    "train_and_evaluate": "training.loop",
}


def __getattr__(name: str) -> Any:
    # On first use: a command that only has to refuse a flag should not wait for JAX.
    if name in _ROOMS:
        return getattr(importlib.import_module(f"senet_jax.{_ROOMS[name]}"), name)
    raise AttributeError(f"module 'senet_jax' has no attribute {name!r}")
