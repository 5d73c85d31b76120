"""One network or several on one split: probabilities averaged over views of an image and networks.

A network is shown the middle of an image, or its ten crops (Krizhevsky et al. 2012), at one size or
at several, with mirror images or without. The mean of its probabilities over all these views is
what it says; the mean of what all networks say is what the ensemble says.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.errors
import jax
import numpy as np

from senet_jax import data
from senet_jax.data.augment import normalize
from senet_jax.data.views import CropSpec
from senet_jax.errors import InputError
from senet_jax.evaluation.loop import outputs
from senet_jax.evaluation.scores import Predicted, log_mean, log_probabilities
from senet_jax.evaluation.steps import make_logits_step
from senet_jax.inference import trained
from senet_jax.layers.network import Network
from senet_jax.runs import workdir
from senet_jax.system.devices import AXIS, pmap_step, replicate

# Keys of the "data" section that say how streamed images are seen.
OF_STREAMS = {field.name for field in dataclasses.fields(CropSpec)} - {"image_size"}
Statistics = tuple[tuple[float, ...], tuple[float, ...]]  # mean and std of each channel


@dataclasses.dataclass(frozen=True)
class Member:
    """A trained network.

    Attributes:
      name: of its run's directory.
      config: of its run, nested.
      statistics: what it normalises images with.
      variables: on all local devices.
      step: of its run, to which the variables belong.
      image_shape: [H, W, C] of the images it was trained on.
    """

    name: str
    config: Mapping[str, Any]
    model: Network
    statistics: Statistics
    class_names: tuple[str, ...]
    variables: Any
    step: int
    image_shape: tuple[int, int, int]

    @property
    def streamed(self) -> bool:
        """Whether its images are streamed and cropped, not taken whole from memory."""
        return self.config["data"]["image_size"] > 0


@dataclasses.dataclass(frozen=True)
class TestViews:
    """What a network is shown of each image.

    Attributes:
      image_sizes: in pixels; none are each network's own. Of streamed images only, as the next two.
      crops: 1, the middle; or 10, the middle, the four corners and all their mirror images.
      eval_crop: side of a crop against the image's shorter side; None is each network's own.
      flip: mirror images as well.

    Raises:
      ValueError: for values outside these.
    """

    image_sizes: tuple[int, ...] = ()
    crops: int = 1
    eval_crop: float | None = None
    flip: bool = False

    def __post_init__(self) -> None:
        if self.crops not in (1, 10):
            raise ValueError(f"--crops must be 1 or 10, not {self.crops}")
        if self.eval_crop is not None and not 0 < self.eval_crop <= 1:
            raise ValueError(f"--eval_crop must be above 0 and at most 1, not {self.eval_crop}")
        for size in self.image_sizes:
            if size < 1:
                raise ValueError(f"--image_size must be at least 1 pixel, not {size}")

    @property
    def mirrored(self) -> bool:
        """Whether there are mirror images; ten crops have them anyway."""
        return self.flip or self.crops == 10

    @property
    def count(self) -> int:
        """Of the views of one image at one size."""
        return self.crops if self.crops > 1 else 1 + self.flip

    def sizes(self, member: Member) -> tuple[int, ...]:
        """Those at which a network sees each image, 0 where it takes it from memory as it is.

        Raises: InputError for a network of whose images there are no other views.
        """
        if member.streamed:
            return self.image_sizes or (member.config["data"]["image_size"],)
        for flag, given in (
            ("image_size", self.image_sizes),
            ("crops=10", self.crops > 1),
            ("eval_crop", self.eval_crop is not None),
        ):
            if given:
                raise InputError(
                    f"--{flag} is of images that are streamed and cropped, but {member.name} was "
                    f"trained on whole images of {member.image_shape[0]} pixels, as they are "
                    "stored; it can be evaluated with --flip"
                )
        return (0,)


@dataclasses.dataclass(frozen=True)
class Feed:
    """A split as some of the members see it; `members` are their places in the ensemble."""

    split: data.Split
    class_names: tuple[str, ...]
    members: tuple[int, ...]


def load_members(directories: Sequence[Path], weights: str, *, unfinished: bool) -> list[Member]:
    """The networks of runs, see finished.load. Raises: InputError if their classes differ."""
    members = []
    for directory in directories:
        with trained.offering_latest():
            done = trained.load_run(directory, weights, unfinished=unfinished)
        dataset = done.run.dataset
        member = Member(
            name=str(directory),
            config=workdir.load_config(directory).to_dict(),
            model=done.run.model,
            statistics=(dataset.mean, dataset.std),
            class_names=dataset.class_names,
            variables=replicate(done.state.variables, jax.local_devices()),
            step=int(done.state.step),
            image_shape=done.image_shape,
        )
        if members and member.class_names != members[0].class_names:
            raise InputError(
                f"{member.name} was trained on the classes of {member.config['data']['name']!r}, "
                f"{members[0].name} on those of {members[0].config['data']['name']!r}; the "
                "networks of an ensemble must have the same classes"
            )
        members.append(member)
    return members


def feeds(members: Sequence[Member], dataset: str, split: str, views: TestViews) -> list[Feed]:
    """The split, once for each way of seeing it; members with the same views share one.

    Raises: InputError for a dataset or split that is not there or has another number of classes,
      or images that a network cannot take.
    """
    wanted: dict[tuple[Any, ...], list[int]] = {}
    for index, member in enumerate(members):
        own = member.config["data"]
        eval_crop = own["eval_crop"] if views.eval_crop is None else views.eval_crop
        for size in views.sizes(member):
            seen = (size, eval_crop, own["interpolation"]) if size else (0,)
            wanted.setdefault(seen, []).append(index)
    if dataset == "fake" and views.crops > 1:
        raise InputError("dataset 'fake' has no crops; leave out --crops=10")
    found = []
    for (size, *cut), indices in wanted.items():
        own = members[indices[0]].config["data"]
        fields = {key: value for key, value in own.items() if key in OF_STREAMS}
        fields |= dict(zip(("eval_crop", "interpolation"), cut, strict=False))
        fields["corners"] = views.crops > 1
        fields["classes"] = own.get("classes", ()) if dataset == own["name"] else ()
        loaded, class_names = data.load_split(dataset, split, image_size=size, **fields)
        for index in indices:
            _check_takes(members[index], loaded.image_shape, dataset, class_names)
        found.append(Feed(loaded, class_names, tuple(indices)))
    return found


def _check_takes(
    member: Member, shape: tuple[int, int, int], dataset: str, class_names: Sequence[str]
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
            f"the images of {dataset!r} have {channels} channels, but {member.name} was trained on "
            f"images of {member.image_shape[2]}"
        )
    image = jax.ShapeDtypeStruct((1, *shape), np.float32)
    try:
        jax.eval_shape(member.model.apply, member.variables, image)
    except (flax.errors.FlaxError, TypeError, ValueError, ZeroDivisionError) as error:
        raise InputError(
            f"the {member.config['model']['name']} of {member.name} cannot take images of "
            f"{height} x {width} pixels: it is tied to about the {member.image_shape[0]} x "
            f"{member.image_shape[1]} that it was trained on"
        ) from error


def predictions(
    members: Sequence[Member],
    seen: Sequence[Feed],
    views: TestViews,
    batch_size: int,
    between: Callable[[], None] = lambda: None,
) -> Iterator[Predicted]:
    """What is said of each batch of the split, in order, on all local devices.

    Args:
      batch_size: examples a step, rounded up to a multiple of the devices.
      between: called before each batch; what it raises ends the evaluation.
    """
    devices = jax.local_devices()

    @functools.cache  # networks that differ in their weights only share one program
    def compiled(model: Network, statistics: Statistics) -> Callable[..., Any]:
        mean, std = statistics
        scale = functools.partial(normalize, mean=mean, std=std)
        step = make_logits_step(model, scale, AXIS, flip=views.mirrored)
        return pmap_step(step, devices, donate_state=False)

    def all_of(feed: Feed) -> Callable[..., Any]:
        ours: list[Any] = [members[index] for index in feed.members]
        ready = [(compiled(one.model, one.statistics), one.variables) for one in ours]
        return lambda _, batch: [step(variables, batch) for step, variables in ready]

    passes = [
        outputs(all_of(feed), None, feed.split, batch_size, devices, between) for feed in seen
    ]
    queued = zip(*passes, strict=True)
    # The devices work on the next batch while the host looks at this one.
    for together, _ in itertools.pairwise(itertools.chain(queued, (None,))):
        assert together is not None
        said: list[list[np.ndarray]] = [[] for _ in members]
        for feed, (_, logits) in zip(seen, together, strict=True):
            for index, of_views in zip(feed.members, logits, strict=True):
                said[index].append(np.asarray(of_views))
        batches = [batch for batch, _ in together]
        mask = np.prod([batch["mask"] for batch in batches], axis=0)
        for batch in batches:
            assert np.array_equal(batch["label"] * mask, batches[0]["label"] * mask)
        each = np.stack([log_probabilities(np.concatenate(found, axis=1)) for found in said])
        yield Predicted(batches[0]["label"], mask, log_mean(each, axis=0), each)
