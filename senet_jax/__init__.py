"""Squeeze-and-Excitation networks in JAX: `create_model("seresnet50", se=dict(ratio=8))`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from senet_jax.models import create_model, list_models

__all__ = ["create_model", "list_models"]


def __getattr__(name: str) -> Any:
    # On first use: a command that only has to refuse a flag should not wait for JAX.
    if name in __all__:
        from senet_jax import models

        return getattr(models, name)
    raise AttributeError(f"module 'senet_jax' has no attribute {name!r}")
