"""The successors of the SE block, each in the form that its own paper gives it.

    kind            gate or update of a map u of C channels             parameters per block
    eca             sigmoid(conv1d_k(GAP u)) over the channel axis      k
    ese             sigmoid(W GAP u + b), one full layer                C^2 + C
    cbam_channel    sigmoid(MLP(GAP u) + MLP(GMP u)), one MLP           2 C^2 / r
    cbam            the same, then sigmoid(BN(conv7x7([mean, max])))    2 C^2 / r + 98 + 2
    bam             1 + sigmoid(channels(GAP u) + positions(u))         see BAM
    ge_theta        sigmoid(BN(depthwise convolution of the whole map)) H W C + 2 C
    ge_theta_plus   sigmoid(MLP(BN(...)))                               H W C + 2 C + 2 C^2 / r
    gc              u + W2 relu(LN(W1 attention pool u))                2 C^2 / r + C + 2 C / r
    srm             sigmoid(BN(a mean u + b std u)) by channel          2 C + 2 C
    gct             1 + tanh(gamma |alpha u| / norm + beta)             3 C
    simam           sigmoid of each position's squared distance         0
    fca             SE block with 16 DCT frequencies for the mean       2 C^2 / r
    conv            BN(conv3x3(u)) instead of u: no SE block at all     9 C^2 / groups + 2 C

GAP and GMP are the mean and maximum over positions. GE-theta-minus is an SE block with
`excitation="none"` and needs no class here. As in the SE block, all but the maps themselves is
float32.

Each block also works alone: `ECA()(u)` in any Linen module, `BAM(ratio=8)(u, train)` where it has
batch normalisation. `SqueezeExcite` says what the fields mean; `layers` are settings of batch
normalisation. `KINDS`, at the end, has the name under which `se.kind` chooses a block.

The file is long because blocks are compared by reading one after another.
"""

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from senet_jax.layers.initial import he_normal
from senet_jax.layers.network import ConvNorm, Layers
from senet_jax.layers.normalize import beside
from senet_jax.layers.pool import largest
from senet_jax.layers.squeeze_excite import (
    GATES,
    SlotBlock,
    SqueezeExcite,
    check_map,
    dense,
    excitation,
    hidden_width,
    scale,
    squeeze,
)


def in_float32(layers: Layers) -> Layers:
    """The same settings for layers that compute a gate, in float32 whatever the maps are in."""
    return dataclasses.replace(layers, dtype=jnp.float32)


class ECA(SlotBlock):
    """Efficient channel attention (Wang et al. 2020): neighbouring channels share a kernel."""

    gate: str = "sigmoid"

    @nn.compact
    def __call__(self, u: jax.Array, train: bool = False) -> jax.Array:
        z = squeeze(u, "avg")
        row = z[..., None]
        conv = nn.Conv(
            1,
            (eca_kernel_size(u.shape[-1]),),
            use_bias=False,
            kernel_init=he_normal,
            dtype=jnp.float32,
            name="conv",
        )
        return scale(self, u, GATES[self.gate](conv(row).reshape(z.shape)))


def eca_kernel_size(channels: int) -> int:
    """The odd number next to (log2 C + 1) / 2: 3 for 64 channels, 5 for 128 to 1024, 7 for 2048.

    The authors' function computes the same. Their paper counts 80 parameters in ResNet-50, those of
    the released kernels 3, 5, 5, 7; the formula gives 86.
    """
    size = int((math.log2(channels) + 1) / 2)
    return size if size % 2 else size + 1


class ESE(SlotBlock):
    """Effective SE (Lee and Park 2020): one full layer with a bias, without a bottleneck.

    The gate is a sigmoid in the paper, `gate="hard_sigmoid"` in its code.
    """

    gate: str = "sigmoid"

    @nn.compact
    def __call__(self, u: jax.Array, train: bool = False) -> jax.Array:
        z = dense(u.shape[-1], True, name="fc")(squeeze(u, "avg"))
        return scale(self, u, GATES[self.gate](z))


class CBAMChannel(SlotBlock):
    """Channel half of CBAM (Woo et al. 2018): mean and maximum through one shared MLP."""

    ratio: int = 16
    gate: str = "sigmoid"
    bias: bool = False

    @nn.compact
    def __call__(self, u: jax.Array, train: bool = False) -> jax.Array:
        mlp = excitation(u.shape[-1], self.ratio, self.bias)
        z = mlp(squeeze(u, "avg")) + mlp(squeeze(u, "max"))
        return scale(self, u, GATES[self.gate](z))


class CBAM(CBAMChannel):
    """CBAM (Woo et al. 2018): CBAMChannel, then a gate for positions.

    The second gate comes from the mean and the maximum over channels.
    """

    layers: Layers = Layers()

    @nn.compact
    def __call__(self, u: jax.Array, train: bool = False) -> jax.Array:
        u = super().__call__(u, train)
        wide = u.astype(jnp.float32)
        pooled = jnp.concatenate([wide.mean(-1, keepdims=True), largest(wide, -1)], axis=-1)
        gate = ConvNorm(1, 7, 1, in_float32(self.layers), name="spatial")(pooled, train)
        return u * GATES[self.gate](gate).astype(u.dtype)


class BAM(SlotBlock):
    """Bottleneck attention module (Park et al. 2018), made for the places between stages.

    u (1 + sigmoid(c + p)): c [B, 1, 1, C] is an MLP on the mean, p [B, H, W, 1] a 1x1 reduction,
    two 3x3 of dilation 4 and a 1x1. The paper adds c and p, as here; its code multiplies them.
    With h = C / r: 2 C h + C + 2 h + (C + 18 h + 1) h + 6 h parameters.
    """

    ratio: int = 16
    layers: Layers = Layers()

    @nn.compact
    def __call__(self, u: jax.Array, train: bool = False) -> jax.Array:
        channels = u.shape[-1]
        hidden = hidden_width(channels, self.ratio)
        z = dense(hidden, False, name="reduce")(squeeze(u, "avg"))
        z = nn.relu(in_float32(self.layers).norm(train, name="bn")(z))
        z = dense(channels, True, name="expand")(z)
        x = ConvNorm(hidden, 1, 1, self.layers, relu=True, name="spatial_reduce")(u, train)
        for index in (1, 2):
            conv = self.layers.conv(hidden, 3, dilation=4, name=f"spatial_conv{index}")
            x = nn.relu(self.layers.norm(train, name=f"spatial_bn{index}")(conv(x)))
        x = self.layers.conv(1, 1, name="spatial_expand")(x)
        return u * (1 + nn.sigmoid(z + x.astype(jnp.float32))).astype(u.dtype)


class GETheta(SlotBlock):
    """GE-theta of global extent (Hu et al. 2018): a learnt squeeze, one weight per position.

    The kernel has the size of the map, so the network is tied to the image size it began with.
    """

    gate: str = "sigmoid"
    layers: Layers = Layers()

    @nn.compact
    def __call__(self, u: jax.Array, train: bool = False) -> jax.Array:
        z = in_float32(self.layers).norm(train, name="bn")(
            Gather(name="gather")(u.astype(jnp.float32))
        )
        return scale(self, u, GATES[self.gate](self.interact(z)))

    def interact(self, z: jax.Array) -> jax.Array:
        return z


class GEThetaPlus(GETheta):
    """GE-theta-plus (Hu et al. 2018): GE-theta, then the two layers of the SE block."""

    ratio: int = 16
    bias: bool = False

    def interact(self, z: jax.Array) -> jax.Array:
        return excitation(z.shape[-1], self.ratio, self.bias)(z)


class Gather(nn.Module):
    """A depthwise convolution as large as the map: [..., H, W, C] to [..., 1, 1, C]."""

    @nn.compact
    def __call__(self, u: jax.Array) -> jax.Array:
        check_map(u)
        height, width, channels = u.shape[-3:]
        kernel = self.param("kernel", he_normal, (height, width, 1, channels))
        kernel = beside(kernel[:, :, 0], u.ndim)
        return (u.astype(kernel.dtype) * kernel).sum((-3, -2), keepdims=True)


class GC(SlotBlock):
    """Global context (Cao et al. 2019): attention over positions, and an addition, not a gate.

    `expand` starts at zero, so that a fresh block changes nothing. The hidden width is at least 4:
    layer norm takes two numbers' worth away, so that of one nothing is left, and of two only which
    is larger, without a gradient. The authors' blocks, for 512 channels and more, are wider.
    """

    ratio: int = 16
    bias: bool = False

    is_gate = False

    @nn.compact
    def __call__(self, u: jax.Array, train: bool = False) -> jax.Array:
        check_map(u)
        wide, channels = u.astype(jnp.float32), u.shape[-1]
        # Without a bias, which softmax would cancel.
        logits = dense(1, False, name="attention")(wide)
        context = (wide * nn.softmax(logits, axis=(-3, -2))).sum((-3, -2), keepdims=True)
        hidden = max(4, hidden_width(channels, self.ratio))
        z = dense(hidden, self.bias, name="reduce")(context)
        z = nn.relu(nn.LayerNorm(epsilon=1e-5, dtype=jnp.float32, name="ln")(z))
        zeros = nn.initializers.zeros
        expand = nn.Dense(channels, self.bias, jnp.float32, kernel_init=zeros, name="expand")
        return u + expand(z).astype(u.dtype)


class SRM(SlotBlock):
    """Style-based recalibration (Lee et al. 2019): each channel by its own mean and deviation.

    `mean` and `std` [C] start at zero and batch norm follows, so every gate starts at one half.
    """

    gate: str = "sigmoid"
    layers: Layers = Layers()

    @nn.compact
    def __call__(self, u: jax.Array, train: bool = False) -> jax.Array:
        mean, variance = _moments(u)
        names, zeros = ("mean", "std"), nn.initializers.zeros
        a, b = (beside(self.param(name, zeros, u.shape[-1:]), u.ndim) for name in names)
        # The root of zero has no gradient; a channel may be constant.
        z = a * mean + b * jnp.sqrt(variance + 1e-5)
        return scale(self, u, GATES[self.gate](in_float32(self.layers).norm(train, name="bn")(z)))


class GCT(SlotBlock):
    """Gated channel transformation (Yang et al. 2020): channels compete or help by their norms.

    alpha starts at one, gamma and beta at zero: a fresh block changes nothing. Made for the places
    before convolutions.
    """

    epsilon = 1e-5

    @nn.compact
    def __call__(self, u: jax.Array, train: bool = False) -> jax.Array:
        check_map(u)
        start = {"alpha": nn.initializers.ones} | dict.fromkeys(
            ("gamma", "beta"), nn.initializers.zeros
        )
        alpha, gamma, beta = (
            beside(self.param(n, init, u.shape[-1:]), u.ndim) for n, init in start.items()
        )
        squares = jnp.square(u.astype(jnp.float32)).sum((-3, -2), keepdims=True)
        s = alpha * jnp.sqrt(squares + self.epsilon)
        s = s / jnp.sqrt(jnp.square(s).mean(-1, keepdims=True) + self.epsilon)
        return scale(self, u, 1 + jnp.tanh(gamma * s + beta))


class SimAM(SlotBlock):
    """SimAM (Yang et al. 2021): positions far from the mean of their channel pass."""

    regularizer = 1e-4  # lambda

    @nn.compact
    def __call__(self, u: jax.Array, train: bool = False) -> jax.Array:
        mean, variance = _moments(u)
        positions = u.shape[-3] * u.shape[-2]
        variance = variance * positions / max(positions - 1, 1)
        distance = jnp.square(u.astype(jnp.float32) - mean)
        gate = nn.sigmoid(distance / (4 * (variance + self.regularizer)) + 0.5)
        return u * gate.astype(u.dtype)


def _moments(u: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and (biased) variance of each channel of each image, [..., 1, 1, C] in float32."""
    check_map(u)
    u = u.astype(jnp.float32)
    mean = u.mean((-3, -2), keepdims=True)
    return mean, jnp.square(u - mean).mean((-3, -2), keepdims=True)


# FcaNet's best 16 of the 49 frequencies of a 7x7 map, best first (its "TS" networks, top16).
ROWS = (0, 0, 6, 0, 0, 1, 1, 4, 5, 1, 3, 0, 0, 0, 3, 2)
COLUMNS = (0, 1, 0, 5, 2, 0, 2, 0, 0, 6, 0, 4, 6, 3, 5, 2)


class FCA(SlotBlock):
    """Frequency channel attention (Qin et al. 2021): an SE block with 16 cosines for the mean.

    Channel c of C has frequency 16 c // C. The cosines are orthonormal: the lowest alone would be
    the mean times the root of the number of positions.
    """

    ratio: int = 16
    gate: str = "sigmoid"
    bias: bool = False

    @nn.compact
    def __call__(self, u: jax.Array, train: bool = False) -> jax.Array:
        check_map(u)
        height, width, channels = u.shape[-3:]
        rows, columns = dct(height, ROWS, channels), dct(width, COLUMNS, channels)
        # One pass: with an axis after the other XLA's loops for a CPU took 5 times as long.
        cosines = beside(jnp.asarray(rows)[:, None] * columns[None], u.ndim)
        z = (u.astype(jnp.float32) * cosines).sum((-3, -2), keepdims=True)
        return scale(self, u, GATES[self.gate](excitation(channels, self.ratio, self.bias)(z)))


def dct(size: int, frequencies: tuple[int, ...], channels: int) -> np.ndarray:
    """The cosine of each channel's frequency at each position: [size, channels].

    Frequencies are those on a map of 7 positions and grow with the map. The authors average maps of
    other sizes to a multiple of 7; here the nearest frequency below is taken, which is the authors'
    for multiples of 7.
    """
    groups = np.arange(channels) * len(frequencies) // channels
    frequency = (np.asarray(frequencies) * size // 7)[groups]
    phase = (np.arange(size)[:, None] + 0.5) * frequency / size
    norm = np.where(frequency > 0, 2, 1) / size
    return (np.cos(np.pi * phase) * np.sqrt(norm)).astype(np.float32)


class ConvInstead(SlotBlock):
    """3x3 convolution and batch norm in the block's place: no SE block, but weights of its own.

    "Wrong variant 2" of the well-known article.

    Attributes:
      groups: groups of the convolution; where they do not divide the channels, their greatest
        common divisor.
      layers: settings of the convolution and of batch normalisation.
    """

    groups: int = 1
    layers: Layers = Layers()

    is_gate = False

    @nn.compact
    def __call__(self, u: jax.Array, train: bool = False) -> jax.Array:
        check_map(u)
        channels = u.shape[-1]
        groups = math.gcd(channels, self.groups)
        u = self.layers.conv(channels, 3, groups=groups, name="conv")(u)
        return self.layers.norm(train, name="bn")(u)


# Every kind of block by its name in `SEConfig.kind`. A new kind is a class above, which declares
# the fields that can be chosen about it, and a line here.
KINDS: dict[str, type[SlotBlock]] = {
    "se": SqueezeExcite,
    "conv": ConvInstead,
    "eca": ECA,
    "ese": ESE,
    "cbam_channel": CBAMChannel,
    "cbam": CBAM,
    "bam": BAM,
    "ge_theta": GETheta,
    "ge_theta_plus": GEThetaPlus,
    "gc": GC,
    "srm": SRM,
    "gct": GCT,
    "simam": SimAM,
    "fca": FCA,
}
