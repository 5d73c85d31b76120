"""Augmentation and normalisation of uint8 images on the device, inside the jitted step.

Random numbers are drawn for each example from its place in the global batch, so the images a step
trains on do not depend on how many devices share it.
"""

import dataclasses

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Pad, crop back at random, mirror at random (Hu et al., section 5.1, for CIFAR), cut out.

    Attributes:
      pad: black pixels added on each side before the crop; 0 for none.
      flip: mirror left and right with probability one half.
      cutout: side of a square around a random pixel that is blanked (DeVries and Taylor, arXiv
        1708.04552); 0 for none. It may reach over the edge.

    Raises:
      ValueError: for a negative number of pixels.
    """

    pad: int = 0
    flip: bool = False
    cutout: int = 0

    def __post_init__(self) -> None:
        for field in ("pad", "cutout"):
            if getattr(self, field) < 0:
                raise ValueError(f"{field} must be at least 0 pixels, not {getattr(self, field)}")

    def __call__(self, keys: jax.Array, images: jax.Array) -> jax.Array:
        """Args: keys [B], one for each example; images [B, H, W, C]. Returns the same shape."""
        crop_keys, flip_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
        if self.pad:
            images = jax.vmap(self._crop)(crop_keys, images)
        if self.flip:
            mirrored = jax.vmap(jax.random.bernoulli)(flip_keys)
            images = jnp.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
        return images

    def cut_out(self, keys: jax.Array, images: jax.Array) -> jax.Array:
        """The same, for images after normalisation: what is blanked becomes the mean."""
        if not self.cutout:
            return images
        _, height, width, _ = images.shape

        def kept(key: jax.Array) -> jax.Array:
            row_key, column_key = jax.random.split(jax.random.fold_in(key, 2))
            spans = []
            for one, side in ((row_key, height), (column_key, width)):
                first = jax.random.randint(one, (), 0, side) - self.cutout // 2
                places = jnp.arange(side)
                spans.append((places >= first) & (places < first + self.cutout))
            return ~(spans[0][:, None] & spans[1])

        return images * jax.vmap(kept)(keys)[..., None]

    def _crop(self, key: jax.Array, image: jax.Array) -> jax.Array:
        y, x = jax.random.randint(key, (2,), 0, 2 * self.pad + 1)
        padded = jnp.pad(image, ((self.pad, self.pad), (self.pad, self.pad), (0, 0)))
        return jax.lax.dynamic_slice(padded, (y, x, 0), image.shape)


def normalize(images: jax.Array, mean: tuple[float, ...], std: tuple[float, ...]) -> jax.Array:
    """uint8 [..., C] to float32 of zero mean and unit variance; mean, std in units of 0 to 255."""
    return (images.astype(jnp.float32) - jnp.array(mean)) / jnp.array(std)
