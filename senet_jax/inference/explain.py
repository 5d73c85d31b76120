"""Where a network looked: class-activation maps, and drawing them over the image."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from senet_jax.layers.network import Network

LEGIBLE = 224  # pixels, to which an overlay of a smaller image is enlarged
BRIGHTEST = 0.85  # the part of the colour map that is used; its last colours are dark
OPACITY = 0.6  # what covers the image where the map is highest


def grad_cam(model: Network, variables: Any, images: jax.Array, classes: Any) -> jax.Array:
    """Compute Grad-CAM (Selvaraju et al., arXiv 1610.02391) on the last map before the classifier.

    Each channel is weighted by the mean gradient of a class's logit over the map; where the
    weighted sum is positive, the map speaks for the class.

        heat = grad_cam(model, variables, images, logits.argmax(-1))  # [B, 7, 7]

    Args:
      variables: `params` and `batch_stats`, as `model.apply` takes them.
      images: [B, H, W, C], normalised.
      classes: the class to explain for each image [B], whole numbers.

    Returns: maps [B, H', W'], at least 0, in the units of the logit; NaN for a class that the
      network lacks.

    Raises: ValueError if there is not one class, a whole number, for each image, or the module is
      no network of ours (`Network`), or one that returns features.
    """
    if not isinstance(model, Network):
        raise ValueError(f"grad_cam takes a network of senet_jax, not a {type(model).__name__}")
    if model.features:
        raise ValueError("a network with features=True has no logits; take one without it")
    classes = jnp.asarray(classes)
    if not jnp.issubdtype(classes.dtype, jnp.integer):
        raise ValueError(f"classes must be whole numbers, not of {classes.dtype}")
    if jnp.shape(classes) != images.shape[:1]:
        raise ValueError(
            f"classes must be one for each of {len(images)} images, not {list(jnp.shape(classes))}"
        )

    def logits_of(shift: jax.Array | float) -> tuple[jax.Array, tuple[jax.Array, int]]:
        """The sum of the logits in question with the last map shifted; that map; their number."""
        seen = []

        def shifted(
            next_fun: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext
        ) -> Any:
            if context.method_name != "logits" or context.module.path:
                return next_fun(*args, **kwargs)
            seen.append(args[0])
            return next_fun(args[0] + shift, *args[1:], **kwargs)

        with nn.intercept_methods(shifted):
            logits: Any = model.apply(variables, images, train=False)
        asked = jnp.take_along_axis(logits, classes[:, None], axis=-1)
        return asked.sum(), (seen[0], logits.shape[-1])

    _, (like, _) = jax.eval_shape(logits_of, 0.0)
    gradient, (last, number) = jax.grad(logits_of, has_aux=True)(jnp.zeros(like.shape, like.dtype))
    weights = jnp.mean(gradient, axis=(1, 2), dtype=jnp.float32)
    maps = nn.relu(jnp.einsum("bhwc,bc->bhw", last.astype(jnp.float32), weights))
    return jnp.where(((classes >= 0) & (classes < number))[:, None, None], maps, jnp.nan)


def overlay(image: np.ndarray, heat: np.ndarray) -> Image.Image:
    """Draw a map [H', W'], scaled to its highest value, over an image [H, W, C] uint8.

    A small image is enlarged until it can be looked at. Where the map is 0 the image is as it was.
    """
    import matplotlib

    factor = -(-LEGIBLE // min(image.shape[:2]))
    size = (image.shape[1] * factor, image.shape[0] * factor)
    below = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image[..., :3]).convert("RGB")
    below = below.resize(size, Image.Resampling.NEAREST)
    heat = heat / max(float(heat.max()), np.finfo(np.float32).tiny)
    above = Image.fromarray(heat.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    share = np.asarray(above)[..., None]
    colour = 255 * matplotlib.colormaps["turbo"](BRIGHTEST * share[..., 0])[..., :3]
    mixed = np.asarray(below) * (1 - OPACITY * share) + colour * OPACITY * share
    return Image.fromarray(np.clip(np.round(mixed), 0, 255).astype(np.uint8))
