"""The narrowest member of each family whose training step is compiled."""

from helpers.quick import some_quick

from experiments.grid.narrow import NARROW

# Of the deepest, one block or module of each kind: what trains is compiled.
SHALLOW = {
    "sebninception": {"modules": tuple(f"inception_{which}" for which in ("3a", "3c", "4e", "5b"))},
    "seinception_resnet_v2": {"blocks": (1, 1, 1)},
}


def fields_of(name):
    """Fields of the member of a family that is trained."""
    return NARROW[name] | SHALLOW.get(name, {})


# Networks that together have every kind of layer: full, depthwise and grouped convolutions, pooling
# by the maximum and by the mean.
FEW = ("seresnet50", "seshufflenet_g3")


def few_quick(reason):
    """Every narrow network as a parameter of a test; only those of FEW are quick."""
    return some_quick(NARROW, FEW, reason)
