"""What is computed in one way on a CPU and in another elsewhere.

Which it is, JAX finds out when a program is lowered: until then it traces both ways, a quarter of
the time that it takes to trace and lower a step. Where the devices are known, one is enough.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax import lax

CPU = "cpu"
# A part of the keys by which JAX keeps what it has traced.
_known = jax.make_user_context(default_value="")


def by_platform(*args: Any, cpu: Callable[..., Any], default: Callable[..., Any]) -> Any:
    """The result of `cpu(*args)` on a CPU and of `default(*args)` elsewhere."""
    if platform := _known.value:
        return cpu(*args) if platform == CPU else default(*args)
    return lax.platform_dependent(*args, cpu=cpu, default=default)


def on(platform: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, traced for one platform alone, by the name that its devices have for it."""

    @functools.wraps(function)
    def traced(*args: Any, **kwargs: Any) -> Any:
        with _known(platform):
            return function(*args, **kwargs)

    return traced
