"""Squeeze-and-Excitation networks in JAX: `create_model("seresnet50", se=dict(ratio=8))`."""

from senet_jax.models import create_model, list_models

__all__ = ["create_model", "list_models"]
