"""A residual unit with every place in which the paper puts an SE block (Figures 3 and 5)."""

from collections.abc import Iterator

import flax.linen as nn
import jax

from senet_jax.layers.cpu.fusion import computed_once  # saves time on a CPU
from senet_jax.layers.network import Layers
from senet_jax.layers.slot import SEConfig, attend


class ResidualUnit(nn.Module):
    """merge(shortcut(x), branch(x)) and an SE block: [B, H, W, C'] to [B, H', W', C].

    A plain network is the same code without `se`. A family defines `branch`, and replaces `enter`,
    `shortcut`, `activated` and `merge` where the usual ones do not fit.

    Attributes:
      se: which SE block and where; None for a plain unit.
      layers: settings of every convolution and batch normalisation.
      drop_path: probability of leaving out the branch of an example, in training.
    """

    se: SEConfig | None = None
    layers: Layers = Layers()
    drop_path: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        entry = self.enter(x, train)
        branch = self.branch(self.se_at("pre", entry, train), train)
        branch = self.se_at("standard", branch, train)
        branch = self.se_at("parallel", branch, train, source=entry)
        if self.drop_path:
            branch = self.layers.dropout(self.drop_path, whole=True, name="drop_path")(
                branch, train
            )
        shortcut = self.shortcut(x, entry, branch.shape[-1], train)
        x = self.merge(self.se_at("identity", shortcut, train), branch)
        if self.layers.implementation != "xla":
            x = computed_once(x)
        return self.se_at("post", x, train, activated=self.activated)

    def enter(self, x: jax.Array, train: bool) -> jax.Array:
        """The input of the branch: the unit's input, or its activation."""
        return x

    def branch(self, x: jax.Array, train: bool) -> jax.Array:
        raise NotImplementedError("a residual unit defines its branch")

    def shortcut(self, x: jax.Array, entry: jax.Array, channels: int, train: bool) -> jax.Array:
        """The map with which the branch of `channels` channels is merged."""
        return x

    @property
    def defers(self) -> bool:
        """Whether the last batch norm of the branch waits for the gate; see layers/deferred.py."""
        se = self.se
        return (
            se is not None
            and (se.kind, se.placement, se.squeeze) == ("se", "standard", "avg")
            and self.layers.implementation != "xla"
        )

    @property
    def activated(self) -> bool:
        """Whether the unit ends with a ReLU."""
        return True

    def merge(self, shortcut: jax.Array, branch: jax.Array) -> jax.Array:
        x = shortcut + branch
        return nn.relu(x) if self.activated else x

    def se_at(
        self,
        place: str,
        u: jax.Array,
        train: bool,
        *,
        source: jax.Array | None = None,
        activated: bool = False,
        name: str = "se",
    ) -> jax.Array:
        """Apply the SE block to `u` if the configuration puts it at `place`; see `attend`."""
        if self.se is None or self.se.placement != place:
            return u
        how = {"source": source, "activated": activated, "name": name}
        return attend(self.se, self.layers, u, train, **how)


def drop_paths(most: float, units: int) -> Iterator[float]:
    """The `drop_path` of each of so many units, from 0 in the first to `most`, as in timm."""
    return (most * number / max(units - 1, 1) for number in range(units))
