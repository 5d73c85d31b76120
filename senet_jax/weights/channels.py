"""Weights for RGB images, adapted to images of another number of channels."""

from collections.abc import Mapping

import numpy as np

from senet_jax.errors import InputError
from senet_jax.layers.network import Network
from senet_jax.weights.torch_names import Path, shapes_of

RGB = 3


def check_channels(channels: int | None) -> None:
    """Raises: InputError for what is no number of channels; None leaves that of the weights."""
    if channels is not None and (type(channels) is not int or channels < 1):
        raise InputError(f"in_channels must be a whole number from 1 on, not {channels!r}")


def adapt(
    arrays: Mapping[Path, np.ndarray],
    model: Network,
    channels: int | None,
    origin: str,
    image_size: tuple[int, ...] = (),
) -> tuple[dict[Path, np.ndarray], int]:
    """Adapt the kernels that see the images to images of so many channels.

    Sums over their channels for one, so that grey images give what they give as RGB ones. For any
    other number C, channel c gets the kernel of c modulo 3, times 3 / C, which keeps the size of
    the sum. That is the rule of timm's `adapt_input_conv`.

    Args:
      arrays: variables by their paths, which fit the model but for the channels of images.
      channels: number of channels; None leaves all as it is.
      origin: what errors call the weights.
      image_size: height and width of the images; those that the network is made for by default.

    Returns: the variables, and the number of channels they were for, 0 if that is `channels`.

    Raises: InputError for weights that are not for RGB images.
    """
    arrays = dict(arrays)
    if channels is None:
        return arrays, 0
    size = image_size or (model.image_size, model.image_size)
    wanted = shapes_of(model.clone(features=False), (*size, channels))
    seeing = [path for path, value in arrays.items() if value.shape != wanted[path]]
    for path in seeing:
        assert arrays[path].ndim == 4, path  # nothing but convolutions sees images
        if (theirs := arrays[path].shape[2]) != RGB:
            raise InputError(
                f"{origin} has weights for images of {_of(theirs)}; only those for {RGB} can be "
                f"adapted to others, such as {channels}"
            )
        arrays[path] = adapted(arrays[path], channels)
    return arrays, RGB if seeing else 0


def adapted(kernel: np.ndarray, channels: int) -> np.ndarray:
    """A kernel [h, w, 3, O] for images of so many channels, [h, w, channels, O]; see `adapt`."""
    if channels == 1:
        return kernel.sum(axis=2, keepdims=True)
    return kernel[:, :, np.arange(channels) % RGB] * np.float32(RGB / channels)


def in_words(theirs: int, channels: int) -> str:
    """What `adapt` does to weights for `theirs` channels."""
    how = "summed" if channels == 1 else "repeated and scaled"
    return f"weights for images of {_of(theirs)}, their first kernel {how} for {_of(channels)}"


def _of(channels: int) -> str:
    return f"{channels} channel{'s' if channels > 1 else ''}"
