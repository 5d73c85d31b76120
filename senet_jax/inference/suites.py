"""The test sets of a suite: which there are, whether they are here, and how a network is shown one.

    imagenet     ImageNet-V2, -A, -R, -Sketch (TFDS, or folders of these names) and ReaL (TFDS)
    cifar10c     CIFAR-10-C: TFDS's cifar10_corrupted, or a folder
    cifar100c    the same of CIFAR-100, in a folder

A folder of corruptions has `labels.npy` and a file of images for each kind, as the published ones
and those of `senet_jax.corrupt`. A folder of ImageNet's has classes by their WordNet ids, or by
their numbers as in ImageNet-V2.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from senet_jax import data
from senet_jax.data import corruptions, in_memory
from senet_jax.data.sources import lookup, tfds_source
from senet_jax.errors import InputError, did_you_mean
from senet_jax.inference.ensemble_views import STREAM_KEYS, TestViews, load_feeds
from senet_jax.inference.trained_run import TrainedNetwork
from senet_jax.system import files
from senet_jax.weights.class_names import first_difference, imagenet, readable

SUITES = ("imagenet", "cifar10c", "cifar100c")
# TFDS calls two corruptions by other names than the published files.
IN_TFDS = {"elastic_transform": "elastic", "glass_blur": "frosted_glass_blur"}
# The sets of the suite "imagenet" in TFDS: the split, and `few_classes` as in TestSet.
OF_IMAGENET = {
    "imagenet_v2": ("test", 0),
    "imagenet_a": ("test", 200),
    "imagenet_r": ("test", 200),
    "imagenet_sketch": ("test", 0),
}
REAL = "imagenet2012_real"


@dataclasses.dataclass(frozen=True)
class Shown:
    """Images as a network is shown them.

    Attributes:
      splits: the images with their labels, once for each size at which they are shown.
      numbers: the network's class for each label of the split; None if they are the same.
      several: the right classes of each image, where there may be none or several; else None.
    """

    splits: tuple[data.Split, ...]
    numbers: np.ndarray | None = None
    several: Sequence[np.ndarray] | None = None


@dataclasses.dataclass(frozen=True)
class TestSet:
    """A test set, or all severities of a kind of corruption, one after another.

    Attributes:
      name: its name.
      show: what a network is shown of it. It raises InputError if the set is not here, or is not
        for this network.
      severities: the severities of a corruption, (0,) for other sets.
      few_classes: number of classes that it has, where the network chooses among them: 200 of
        ImageNet's in -A and -R, as their authors evaluate them; 0 where among all.
    """

    name: str
    show: Callable[[TrainedNetwork, TestViews], Shown]
    severities: tuple[int, ...] = (0,)
    few_classes: int = 0

    __test__ = False  # for pytest, which takes classes called Test... for tests


def find(suite: str) -> list[TestSet]:
    """The sets of a suite, "NAME" or "NAME:FOLDER", whether they are here or not.

    Raises: InputError for another name, or a folder that is none.
    """
    name, _, place = suite.partition(":")
    if name not in SUITES:
        raise InputError(
            f"--suite takes {', '.join(SUITES)}, or one of these with a folder as in "
            f"cifar100c:PATH, not {suite!r}{did_you_mean(name, SUITES)}"
        )
    folder = Path(place).expanduser() if place else None
    if folder and not folder.is_dir():
        raise InputError(f"--suite={suite}: {folder} is no folder")
    if name == "imagenet":
        return _of_imagenet(folder)
    if folder:
        return [_corrupted(folder, kind) for kind in corruptions.KINDS]
    if name == "cifar100c":
        raise InputError(
            "--suite=cifar100c needs a folder, as in cifar100c:PATH: TFDS has none of CIFAR-100, "
            "and `python -m senet_jax.corrupt --dataset=cifar100 --output=PATH` makes one"
        )
    return [_corrupted_in_tfds(kind) for kind in corruptions.KINDS]


def doubt(suite: str, member: TrainedNetwork) -> str:
    """Why the classes of a suite, which it has by number, may be others than a network's; or ""."""
    name, _, place = suite.partition(":")
    dataset, ours = str(member.config["data"]["name"]), member.class_names
    if name == "imagenet":
        names = tuple(imagenet().values())
        difference = len(names) == len(ours) and first_difference(names, ours)
        return f"those of ImageNet and of {dataset} differ: {difference}" if difference else ""
    known = place and _about(Path(place).expanduser(), "classes")
    of_suite = name.removesuffix("c")
    same = known or data.is_same(dataset, of_suite)
    return "" if same else f"{member.name} was trained on {dataset}, not on {of_suite}"


def originals(suite: str) -> dict[str, str]:
    """What `senet_jax.corrupt` made a suite of, as a `data` section; {} for those of others."""
    _, _, place = suite.partition(":")
    keys = {"dataset": "name", "split": "eval_split"}
    known = {key: place and _about(Path(place).expanduser(), key) for key in keys}
    return {keys[key]: value for key, value in known.items()} if all(known.values()) else {}


# --- Corruptions ----------------------------------------------------------------------------------


def _corrupted(folder: Path, kind: str) -> TestSet:
    """A kind in a folder of arrays."""

    def show(member: TrainedNetwork, views: TestViews) -> Shown:
        arrays = []
        for name in (kind, "labels"):
            path = folder / f"{name}.npy"
            try:
                arrays.append(np.load(path, mmap_mode="r"))
            except (OSError, ValueError, EOFError) as error:
                raise InputError(f"{path} cannot be read: {error}") from error
            _check_whole(path)
        image, label = arrays
        views.sizes(member)  # refuses other views of whole images
        if member.streamed or image.shape[1:] != member.image_shape:
            raise InputError(
                f"the images of {folder} are for networks of images in memory of "
                f"{list(image.shape[1:])}, and {member.name} takes {list(member.image_shape)}"
                f"{', streamed' if member.streamed else ''}"
            )
        if len(image) != len(label) or len(image) % len(corruptions.SEVERITIES):
            raise InputError(f"{folder} has {len(image)} images of {kind} and {len(label)} labels")
        _check_severities(folder, label)
        _check_classes(folder, label, member)
        return Shown((in_memory.Images(image, label.astype(np.int32)),))

    return TestSet(kind, show, corruptions.SEVERITIES)


def _about(folder: Path, key: str) -> Any:
    """What `senet_jax.corrupt` says of its suite; of the published ones, empty."""
    return (files.read_table(folder / "suite.json") or {}).get(key) or {}


def _check_whole(path: Path) -> None:
    """Raises: InputError for a file that is not the one that `senet_jax.corrupt` has written."""
    signed = _about(path.parent, "sha256")
    if signed and path.name not in signed:
        raise InputError(
            f"{path} is not of the suite that `senet_jax.corrupt` wrote there, by its suite.json: "
            "move it away"
        )
    if signed and files.sha256(path) != signed[path.name]:
        raise InputError(
            f"{path} has changed since `senet_jax.corrupt` wrote it, by its SHA-256 in suite.json; "
            "make the suite again"
        )


def _check_severities(folder: Path, label: np.ndarray) -> None:
    """Raises: InputError for labels that are not those of the same images at each severity."""
    by_severity = np.reshape(label, (len(corruptions.SEVERITIES), -1))
    if len(differing := np.argwhere(by_severity != by_severity[0])):
        place, number = differing[0]
        first, other = by_severity[[0, place], number]
        raise InputError(
            f"{folder} has arrays of {len(label)} images, a fifth of them for each severity, but "
            f"image {number} has label {first} at severity {corruptions.SEVERITIES[0]} and {other} "
            f"at severity {corruptions.SEVERITIES[place]}: give the same images at all of "
            f"{', '.join(map(str, corruptions.SEVERITIES))}, one severity after another"
        )


def _check_classes(folder: Path, label: np.ndarray, member: TrainedNetwork) -> None:
    """Raises: InputError for labels of other classes than the network's."""
    names, ours = readable([*_about(folder, "classes")]), member.class_names
    if label.max() >= len(ours) or (names and len(names) != len(ours)):
        count = len(names) or label.max() + 1
        raise InputError(f"{folder} has {count} classes, and {member.name} {len(ours)}")
    if names and (difference := first_difference(names, ours)):
        raise InputError(f"{folder} has other classes than {member.name}: {difference}")


def _corrupted_in_tfds(kind: str) -> TestSet:
    def show(member: TrainedNetwork, views: TestViews) -> Shown:
        splits = []
        for severity in corruptions.SEVERITIES:
            name = f"cifar10_corrupted/{IN_TFDS.get(kind, kind)}_{severity}"
            _check_here(name)
            splits.append(load_feeds([member], name, "test", views)[0].split)
        if not all(isinstance(split, in_memory.Images) for split in splits):
            raise InputError(f"{member.name} streams its images, and cifar10c is kept in memory")
        image, label = (
            np.concatenate([np.asarray(getattr(split, key)) for split in splits])
            for key in ("image", "label")
        )
        return Shown((in_memory.Images(image, label),))

    return TestSet(kind, show, corruptions.SEVERITIES)


# --- ImageNet's -----------------------------------------------------------------------------------


def _of_imagenet(folder: Path | None) -> list[TestSet]:
    sets = []
    for name, (split, few) in OF_IMAGENET.items():
        place = folder and folder / name
        show = _folder_shown(place) if place else _tfds_shown(name, split)
        sets.append(TestSet(name, show, few_classes=few))
    return [*sets, TestSet(REAL, _real_shown)]


def _folder_shown(folder: Path) -> Callable[[TrainedNetwork, TestViews], Shown]:
    def show(member: TrainedNetwork, views: TestViews) -> Shown:
        _check_of_imagenet(member)
        name = f"folder:{folder}"
        whole = "+".join(lookup.find(name).splits)
        splits, names = _seen(name, whole, member, views)
        return Shown(splits, class_numbers(names))

    return show


def _seen(
    name: str, split: str, member: TrainedNetwork, views: TestViews, **fields: Any
) -> tuple[tuple[data.Split, ...], Sequence[str]]:
    """A split as a network sees it, once for each size, and the names of its classes."""
    fields |= {k: v for k, v in member.config["data"].items() if k in STREAM_KEYS}
    if views.eval_crop is not None:
        fields["eval_crop"] = views.eval_crop
    fields["corners"] = views.crops > 1
    sizes = views.sizes(member)
    loaded = [data.load_split(name, split, image_size=size, **fields) for size in sizes]
    return tuple(one for one, _ in loaded), loaded[0][1]


def _tfds_shown(name: str, split: str) -> Callable[[TrainedNetwork, TestViews], Shown]:
    def show(member: TrainedNetwork, views: TestViews) -> Shown:
        _check_of_imagenet(member)
        _check_here(name)
        return Shown(tuple(feed.split for feed in load_feeds([member], name, split, views)))

    return show


def _real_shown(member: TrainedNetwork, views: TestViews) -> Shown:
    """ImageNet's validation images with the labels of Beyer et al. 2020 (arXiv 2006.07159)."""
    _check_of_imagenet(member)
    _check_here(REAL)
    splits, _ = _seen(REAL, "validation", member, views, label="original_label")
    return Shown(splits, several=tfds_source.sequences(REAL, "validation", "real_label"))


def class_numbers(names: Sequence[str]) -> np.ndarray:
    """ImageNet's classes by their WordNet ids, "n01440764", or their numbers, "0": [len(names)].

    Raises: InputError for any other name.
    """
    order = {synset: number for number, synset in enumerate(imagenet())}
    order |= {str(number): number for number in range(len(order))}
    for name in names:
        if name not in order:
            raise InputError(f"the class {name!r} is neither a WordNet id of ImageNet's nor from 0")
    return np.array([order[name] for name in names])


def _check_of_imagenet(member: TrainedNetwork) -> None:
    if len(member.class_names) != len(imagenet()):
        raise InputError(
            f"the suite is for ImageNet's 1,000 classes, and {member.name} has "
            f"{len(member.class_names)}"
        )


def _check_here(name: str) -> None:
    if not tfds_source.is_here(name):
        dataset = name.partition("/")[0]
        raise InputError(f"{dataset} of TFDS is not prepared; `tfds build {dataset}` does that")
