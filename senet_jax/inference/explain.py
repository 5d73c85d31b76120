"""Why a network says what it says of an image: where it looked, and which channels it opened."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from senet_jax.inference.gate_statistics import HIGH, LOW
from senet_jax.layers.network import Network

LEGIBLE = 224  # pixels, to which an overlay of a smaller image is enlarged
BRIGHTEST = 0.85  # of the colours, of which the last are dark
OPACITY = 0.6  # of the colour where the map is highest


def grad_cam(model: Network, variables: Any, images: jax.Array, classes: jax.Array) -> jax.Array:
    """Grad-CAM (Selvaraju et al., arXiv 1610.02391) on the last map before the classifier.

    Each channel is weighted by the mean gradient of a class's logit over the map; where the
    weighted sum is positive, the map speaks for the class.

    Args:
      images: [B, H, W, C], normalised.
      classes: [B], of each image the class to explain.

    Returns: [B, H', W'], at least 0, in the units of the logit.
    """

    def logits_of(shift: jax.Array | float) -> tuple[jax.Array, jax.Array]:
        """The sum of the logits in question with the last map shifted, and that map."""
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
        return jnp.take_along_axis(logits, classes[:, None], axis=-1).sum(), seen[0]

    _, like = jax.eval_shape(logits_of, 0.0)
    gradient, last = jax.grad(logits_of, has_aux=True)(jnp.zeros(like.shape, like.dtype))
    weights = jnp.mean(gradient, axis=(1, 2), dtype=jnp.float32)
    return nn.relu(jnp.einsum("bhwc,bc->bhw", last.astype(jnp.float32), weights))


def overlay(image: np.ndarray, heat: np.ndarray) -> Image.Image:
    """An image [H, W, C] uint8 under a map [H', W'], which is scaled to its highest value.

    A small image is enlarged to what can be looked at. Where the map is 0 the image is as it was.
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


def summary(gates: np.ndarray, most: int = 3) -> dict[str, Any]:
    """Of a block's gates [C] for one image: mean, shares nearly open and shut, extreme channels.

    Args:
      most: how many of the channels that are most open, and most shut, are named.
    """
    order = np.argsort(-gates, kind="stable")
    return {
        "channels": len(gates),
        "mean": float(gates.mean()),
        "high": float((gates > HIGH).mean()),
        "low": float((gates < LOW).mean()),
        "most_open": [(int(channel), float(gates[channel])) for channel in order[:most]],
        "most_shut": [(int(channel), float(gates[channel])) for channel in order[::-1][:most]],
    }
