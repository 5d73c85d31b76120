"""What a config.json in timm's form says of weights: the network, its images, its classes.

timm writes the images into a table `pretrained_cfg`; in its older form, and in others', the same
keys stand beside `architecture`. What changes pixels or names of classes is taken as timm takes it,
or refused by its name; other keys are not looked at.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from senet_jax.data.crops import INTERPOLATIONS
from senet_jax.errors import InputError
from senet_jax.weights.image_spec import CROP_MODES, ImageSpec

NESTED = "pretrained_cfg"
# Arguments of timm's networks that change nothing about what trained weights compute.
HARMLESS = ("in_chans", "num_classes", "drop_rate", "drop_path_rate", "drop_block_rate")


def table(config_json: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The table of a key; empty if it is not there. Raises: InputError for another value."""
    value = config_json.get(key)
    if value is not None and not isinstance(value, Mapping):
        raise refusal(key, "a table", value)
    return value or {}


def architecture(config_json: Mapping[str, Any]) -> str | None:
    """The network's name in timm, without a tag. Raises: InputError if it is no text."""
    value = config_json.get("architecture")
    if value is not None and not (isinstance(value, str) and value):
        raise refusal("architecture", "the name of a network in timm", value)
    return value.partition(".")[0] if value else None


def classes(config_json: Mapping[str, Any]) -> int | None:
    """The declared width of the classifier, 0 for none. Raises: InputError for no whole number."""
    for place in (config_json, table(config_json, NESTED)):
        if (value := place.get("num_classes")) is not None:
            if not _is_whole(value, least=0):
                raise refusal("num_classes", "a whole number from 0 on", value)
            return value
    return None


def image_spec(config_json: Mapping[str, Any]) -> ImageSpec | None:
    """The images that the weights were made for; None if nothing is said of them.

    What is not said, or null, has timm's usual value.

    Raises: InputError for a value that timm could not use or that no network here can, for keys
      that say two things, and for what changes the network.
    """
    _check_network(config_json)
    beside = {key: value for key in FIELDS if (value := config_json.get(key)) is not None}
    inside = table(config_json, NESTED)
    channels = table(config_json, "model_args").get("in_chans")
    if config_json.get(NESTED) is None and not beside and channels is None:
        return None
    stated = {key: value for key in FIELDS if (value := inside.get(key)) is not None}
    for key, value in beside.items():
        if stated.setdefault(key, value) != value:
            raise InputError(
                f"config.json: {key} is {stated[key]!r} in {NESTED} and {value!r} beside it"
            )
    fields = {key: _checked(key, value) for key, value in stated.items()}
    size = fields.get("input_size", ImageSpec.input_size)
    if channels is not None:
        if not _is_whole(channels, least=1):
            raise refusal("in_chans", "a whole number above 0", channels)
        fields["input_size"] = size = (channels, *size[1:])
    for key in ("mean", "std"):
        values = fields.get(key, getattr(ImageSpec, key))
        # As PyTorch does, where one number meets all channels.
        fields[key] = values * size[0] if len(values) == 1 else values
        if len(fields[key]) != size[0]:
            right = f"a number per channel, which are {size[0]} (input_size)"
            raise refusal(key, right, list(values))
    if (declared := classes(config_json)) is not None:
        fields["num_classes"] = declared
    return ImageSpec(**fields)


def refusal(key: str, right: str, value: Any) -> InputError:
    """The error for a value of config.json."""
    text = repr(value)
    return InputError(
        f"config.json: {key} must be {right}, not {text[:80] + '...' * (len(text) > 80)}"
    )


def _check_network(config_json: Mapping[str, Any]) -> None:
    """Raises: InputError for what makes timm build another network than that of the name."""
    for key, value in table(config_json, "model_args").items():
        if key not in HARMLESS and value is not None:
            raise InputError(f"config.json: model_args has {key}, which no network here has")
    if (pooling := config_json.get("global_pool")) not in (None, "avg"):
        raise refusal("global_pool", "avg", pooling)
    for place in (config_json, table(config_json, NESTED)):
        if offset := place.get("label_offset"):
            raise refusal("label_offset", "0: a class is left out of no classifier here", offset)


def _checked(key: str, value: Any) -> Any:
    """The value of a field, lists as tuples. Raises: InputError if it cannot be used."""
    right, holds = FIELDS[key]
    if key in ("mean", "std") and _is_number(value):
        value = [value]
    if not holds(value):
        raise refusal(key, right, value)
    return tuple(value) if isinstance(value, list) else value


def _is_number(value: Any) -> bool:
    """Whether it is one in float32 as well."""
    return type(value) in (int, float) and abs(value) < 1e38


def _is_whole(value: Any, least: int) -> bool:
    return type(value) is int and value >= least


def _is_crop(value: Any) -> bool:
    return _is_number(value) and 0 < value <= 1


def _is_size(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(_is_whole(v, 1) for v in value)


def _are_shares(value: Any, above: float = -math.inf) -> bool:
    """Whether these are numbers of images from 0 to 1, as timm has them, and not to 255."""
    is_list = isinstance(value, list) and value != []
    return is_list and all(_is_number(v) and max(0, above) <= v <= 1 and v > above for v in value)


_SIZE = "three whole numbers above 0 (channels, height, width)", _is_size
_CROP = "a number above 0 and at most 1", _is_crop
# What each key of ImageSpec must be: in words, and whether a value is.
FIELDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "input_size": _SIZE,
    "crop_pct": _CROP,
    "interpolation": (" or ".join(INTERPOLATIONS), lambda value: value in INTERPOLATIONS),
    "mean": ("a number from 0 to 1 per channel", _are_shares),
    "std": (
        "a number above 0 and at most 1 per channel",
        lambda value: _are_shares(value, above=0),
    ),
    "test_input_size": _SIZE,
    "test_crop_pct": _CROP,
    "crop_mode": (" or ".join(CROP_MODES), lambda value: value in CROP_MODES),
}
