"""Corrupt a dataset's images in 19 ways at 5 severities each, as CIFAR-10-C.

    python -m senet_jax.corrupt --dataset=cifar100 --output=cifar100c
    python -m senet_jax.evaluate --suite=cifar100c:cifar100c --workdir=runs/x

Writes into the folder, in the form of the published CIFAR-10-C,

    gaussian_noise.npy, ...   uint8 [5 N, 32, 32, 3], severity 1 first
    labels.npy                [5 N]
    suite.json                the dataset, its classes, the SHA-256 of its images and of each file

The same command writes the same bytes. senet_jax/data/corruptions.py says which kinds there are,
and which of them are not the published ones to the last bit.

    --dataset  a dataset with images of 32 x 32 pixels and three channels
    --split    a TFDS split expression; by default test
    --kinds    some of the kinds; by default all
    --output   folder to write to; created if needed
"""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import flags

from senet_jax.errors import InputError, did_you_mean
from senet_jax.system import cli, files


def main(argv: list[str]) -> None:
    values = define_flags()
    if extra := cli.parse_flags(argv, values):
        raise InputError(f"unexpected argument {extra[0]!r}; flags look like --output=folder")
    for name in ("dataset", "output"):
        if not values[name].value:
            raise InputError(f"give --{name}, e.g. --dataset=cifar100 --output=cifar100c")
    folder = Path(values.output)
    files.check_folder(folder, "--output")
    write(folder, values.dataset, values.split, values.kinds)
    print(f"-> {folder}")


def define_flags() -> flags.FlagValues:
    values = flags.FlagValues()
    flags.DEFINE_string("dataset", None, "A dataset.", flag_values=values)
    flags.DEFINE_string("split", "test", "A TFDS split expression.", flag_values=values)
    flags.DEFINE_list("kinds", None, "Some of the corruptions.", flag_values=values)
    cli.define_path("output", None, "Folder to write to.", flag_values=values)
    return values


def write(folder: Path, dataset: str, split: str, kinds: list[str] | None = None) -> None:
    """Write a suite of corrupted images; see the file's first lines.

    Raises: InputError for an unknown dataset, split or kind, other images, or a folder with a suite
      of others, or with arrays of which nothing says what they are of.
    """
    import numpy as np

    from senet_jax import data
    from senet_jax.data import corruptions
    from senet_jax.system.terminal import counting

    for kind in kinds or ():
        if kind not in corruptions.KINDS:
            known = did_you_mean(kind, corruptions.KINDS)
            raise InputError(f"--kinds: {kind!r} is no corruption{known}")
    kinds = kinds or [*corruptions.KINDS]
    loaded, class_names = data.load_split(dataset, split)
    if loaded.image_shape != (corruptions.SIDE, corruptions.SIDE, 3):
        shape = " x ".join(map(str, loaded.image_shape))
        raise InputError(f"corruptions are for images of 32 x 32 x 3, and {dataset}'s are {shape}")
    images = np.concatenate([batch["image"] for batch in loaded.eval_batches(1000)])[: len(loaded)]
    labels = np.tile(loaded.labels(), len(corruptions.SEVERITIES))
    about = {
        "dataset": dataset,
        "split": split,
        "examples": len(images),
        "classes": [*class_names],
        "originals": hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest(),
    }
    sums = _signed(folder, about)
    with files.refused(folder):
        folder.mkdir(parents=True, exist_ok=True)

    def save(name: str, array: np.ndarray) -> None:
        content = io.BytesIO()
        np.save(content, array)
        # Signed before it is written: a suite that was interrupted says what it is of.
        sums[f"{name}.npy"] = hashlib.sha256(content.getvalue()).hexdigest()
        files.write_json(folder / "suite.json", {**about, "sha256": dict(sorted(sums.items()))})
        files.write(folder / f"{name}.npy", content.getvalue())

    save("labels", labels)
    with counting(len(kinds) * len(corruptions.SEVERITIES) * len(images), "corrupting") as done:
        for kind in kinds:
            corrupted = []
            for severity in corruptions.SEVERITIES:
                for place, image in enumerate(images):
                    corrupted.append(corruptions.corrupt(image, kind, severity, place))
                done(len(images))
            save(kind, np.stack(corrupted))


def _signed(folder: Path, about: Mapping[str, Any]) -> dict[str, str]:
    """The SHA-256 of the files of the suite in a folder, as far as it says them.

    Raises: InputError for a suite of others, or arrays of which nothing says what they are of.
    """
    before = files.read_table(folder / "suite.json")
    if before is None and (there := sorted(folder.glob("*.npy"))):
        raise InputError(
            f"{folder} has {there[0].name}, and no suite.json that says of which images: choose "
            "another --output"
        )
    before = before or {}
    # Suites of earlier versions do not say all of it.
    if differing := [key for key, value in about.items() if before.get(key, value) != value]:
        raise InputError(
            f"{folder} has a suite of {before.get('dataset')} with other {differing[0]}: choose "
            "another --output"
        )
    return dict(before.get("sha256", {}))


if __name__ == "__main__":
    cli.run(main, __doc__)
