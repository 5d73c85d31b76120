"""What an ensemble is shown: views of each image, and a split once for each way of seeing it."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from senet_jax import data
from senet_jax.data.crops import CropSpec
from senet_jax.errors import InputError, counted
from senet_jax.inference.trained_run import TrainedNetwork
from senet_jax.models.shapes import takes
from senet_jax.weights.class_names import readable

# Keys of the "data" section that say how streamed images are seen.
STREAM_KEYS = {field.name for field in dataclasses.fields(CropSpec)} - {"image_size"}
OF_DATASET = ("image", "label", "classes")  # keys that say what is taken of a dataset


@dataclasses.dataclass(frozen=True)
class TestViews:
    """What a network is shown of each image.

        TestViews(image_sizes=(224, 320), crops=10)

    Attributes:
      image_sizes: heights and widths in pixels to average over; () takes those of each network.
        It, `crops` and `eval_crop` apply to streamed images only.
      crops: 1, the middle; or 10, the middle, the four corners and all their mirror images
        (Krizhevsky et al. 2012).
      eval_crop: side of a crop against the image's shorter side; None takes that of each network.
      flip: whether mirror images are shown as well.

    Raises:
      InputError: for other values, which it names as `senet_jax.evaluate` calls them.
    """

    image_sizes: tuple[int, ...] = ()
    crops: int = 1
    eval_crop: float | None = None
    flip: bool = False

    __test__ = False  # for pytest, which takes classes called Test... for tests

    def __post_init__(self) -> None:
        if self.crops not in (1, 10):
            raise InputError(f"--crops must be 1 or 10, not {self.crops}")
        if self.eval_crop is not None and not 0 < self.eval_crop <= 1:
            raise InputError(f"--eval_crop must be above 0 and at most 1, not {self.eval_crop}")
        for size in self.image_sizes:
            if size < 1:
                raise InputError(f"--image_size must be at least 1 pixel, not {size}")

    @property
    def mirrored(self) -> bool:
        """Whether mirror images are shown; ten crops have them anyway."""
        return self.flip or self.crops == 10

    @property
    def count(self) -> int:
        """The number of views of one image at one size."""
        return self.crops if self.crops > 1 else 1 + self.flip

    def sizes(self, member: TrainedNetwork) -> tuple[int, ...]:
        """The sizes at which a network sees each image; 0 is as it is stored in memory.

        Raises: InputError if the network's images have only one view and others are asked for.
        """
        if member.streamed:
            section = member.config["data"]
            return self.image_sizes or (section.get("eval_size") or section["image_size"],)
        for flag, chosen in (
            ("image_size", bool(self.image_sizes)),
            ("crops=10", self.crops > 1),
            ("eval_crop", self.eval_crop is not None),
        ):
            if chosen:
                height, width, _ = member.image_shape
                raise InputError(
                    f"--{flag} is for images that are streamed and cropped, but {member.name} was "
                    f"trained on whole images of {height} x {width} pixels, as they are "
                    "stored; it can be evaluated with --flip"
                )
        return (0,)


@dataclasses.dataclass(frozen=True)
class Feed:
    """A split as some of the members see it; `members` are their places in the ensemble."""

    split: data.Split
    class_names: tuple[str, ...]
    members: tuple[int, ...]


def split_of(members: Sequence[TrainedNetwork], asked: str | None) -> tuple[str, tuple[int, ...]]:
    """The split to evaluate on, and its fold, if it is one: by default the first run's.

    Raises: InputError for runs of several folds, which were trained on each other's images.
    """
    section = members[0].config["data"]
    folds = {tuple(member.config["data"].get("fold", ())) for member in members}
    if asked or folds == {()}:
        return asked or str(section["eval_split"]), ()
    if len(folds) > 1:
        raise InputError(
            "the runs are of different folds (data.fold), and each was trained on images of the "
            "others; give the images to evaluate on with --split"
        )
    return str(section["train_split"]), folds.pop()


def section_of(
    member: TrainedNetwork, dataset: str, split: str, fold: tuple[int, ...] = ()
) -> dict[str, Any]:
    """What a network is evaluated on, as a `data` section; arguments are those of `load_feeds`."""
    section = member.config["data"]
    part = {"fold": fold, "train_split": split} if fold else {"fold": (), "eval_split": split}
    kept = section if data.is_same(section["name"], dataset) else {}
    taken = {key: kept[key] for key in OF_DATASET if key in kept}
    return {"name": dataset, "image_size": section["image_size"], **taken, **part}


def load_feeds(
    members: Sequence[TrainedNetwork],
    dataset: str,
    split: str,
    views: TestViews,
    fold: tuple[int, ...] = (),
) -> list[Feed]:
    """Load the split, once for each way of seeing it; members with the same views share one.

    Args:
      fold: part of the split that is taken, as `data.fold` has it; () for all.

    Raises: InputError if the dataset or split does not exist or has a different number of classes,
      or a network cannot take the images.
    """
    sharers: dict[tuple[Any, ...], list[int]] = {}
    for index, member in enumerate(members):
        section = member.config["data"]
        eval_crop = section["eval_crop"] if views.eval_crop is None else views.eval_crop
        for size in views.sizes(member):
            way_of_seeing = (size, eval_crop, section["interpolation"]) if size else (0, None, None)
            taken = tuple(section.get(key) for key in OF_DATASET)
            sharers.setdefault((*way_of_seeing, taken), []).append(index)
    if dataset == "fake" and views.crops > 1:
        raise InputError("dataset 'fake' has no crops; leave out --crops=10")
    feeds = []
    for (size, *crop, _), indices in sharers.items():
        section = members[indices[0]].config["data"]
        fields = {key: value for key, value in section.items() if key in STREAM_KEYS}
        if size:
            fields |= dict(zip(("eval_crop", "interpolation"), crop, strict=True))
        fields["corners"] = views.crops > 1
        if data.is_same(section["name"], dataset):  # what is taken of it
            fields |= {key: section[key] for key in OF_DATASET if key in section}
        loaded, class_names = data.load_split(dataset, split, fold=fold, image_size=size, **fields)
        for index in indices:
            _check_takes(members[index], loaded.image_shape, dataset, class_names)
        feeds.append(Feed(loaded, readable(class_names), tuple(indices)))
    return feeds


def _check_takes(
    member: TrainedNetwork, shape: tuple[int, int, int], dataset: str, class_names: Sequence[str]
) -> None:
    """Raises: InputError if the network cannot be evaluated on these images [H, W, C]."""
    if len(class_names) != len(member.class_names):
        raise InputError(
            f"dataset {dataset!r} has {len(class_names)} classes, but {member.name} was trained on "
            f"the {len(member.class_names)} of {member.config['data']['name']!r}"
        )
    height, width, channels = shape
    if channels != member.image_shape[2]:
        raise InputError(
            f"the images of {dataset!r} have "
            f"{counted(channels, 'channel')}, but {member.name} was trained on "
            f"images of {member.image_shape[2]}"
        )
    if not takes(member.model, member.variables, shape):
        raise InputError(
            f"the {member.config['model']['name']} of {member.name} cannot take images of "
            f"{height} x {width} pixels: it is tied to about the {member.image_shape[0]} x "
            f"{member.image_shape[1]} that it was trained on"
        )
