"""Squeeze-and-Excitation networks in JAX: `create_model("seresnet50", se=dict(ratio=8))`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from senet_jax.models import list_models
    from senet_jax.weights.loading import create_model, list_pretrained

__all__ = ["create_model", "list_models", "list_pretrained"]


def __getattr__(name: str) -> Any:
    # On first use: a command that only has to refuse a flag should not wait for JAX.
    if name in __all__:
        from senet_jax import models
        from senet_jax.weights import loading

        return getattr(models if name == "list_models" else loading, name)
    raise AttributeError(f"module 'senet_jax' has no attribute {name!r}")
