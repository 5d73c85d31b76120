"""What a process does once, before it trains."""

from senet_jax.layers.cpu import onednn
from senet_jax.system import compilation_cache, host_memory, processors


def begin() -> None:
    """Take oneDNN, keep compiled programs, give back the memory that compiling them took.

    Call before JAX is asked for its devices. Raises: InputError if there are none.
    """
    onednn.enable(len(processors.usable()))
    compilation_cache.enable()
    host_memory.release_after_compilation()
