"""The same images as a folder, a table, a dataset of Hugging Face and one of TFDS."""

import csv
import hashlib
import io

import numpy as np
from PIL import Image

CLASSES, COUNT, SIDE = ("cat", "dog", "élan"), 40, 8


def picture(label, number):
    """A noisy square of the colour of its class, [8, 8, 3] uint8."""
    rng = np.random.default_rng([label, number])
    colour = np.roll([200, 90, 30], label)
    return np.clip(colour + rng.normal(0, 40, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)


def examples():
    """Key, label and PNG of each image, class by class."""
    for label, title in enumerate(CLASSES):
        for number in range(COUNT):
            file = io.BytesIO()
            Image.fromarray(picture(label, number)).save(file, "PNG")
            yield f"{title}/{number}.png", label, file.getvalue()


def write_folder(root):
    for key, _, content in examples():
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def write_table(root, suffix=".csv"):
    """A table beside the folders of `write_folder`, in an order of its own."""
    path = root / f"images{suffix}"
    rows = sorted(((key, CLASSES[label]) for key, label, _ in examples()), reverse=True)
    if suffix == ".parquet":
        import pyarrow
        from pyarrow import parquet

        files, labels = zip(*rows, strict=True)
        parquet.write_table(pyarrow.table({"file": files, "label": labels}), path)
        return path
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t" if suffix == ".tsv" else ",")
        writer.writerows([("file", "label"), *rows])
    return path


def by_key():
    """The examples of each split in the order of the MD5 of its name and their keys, as in TFDS."""
    splits = {"train": [], "test": []}
    for example in examples():
        digest = hashlib.md5(example[0].encode()).digest()
        split = "train" if int.from_bytes(digest[:8], "big") % 5 else "test"
        splits[split].append(example)
    return {
        split: sorted(found, key=lambda one: hashlib.md5(f"{split}{one[0]}".encode()).digest())
        for split, found in splits.items()
    }


def by_row():
    """The same as rows of a dataset whose keys are the numbers of its rows."""
    rows = {}
    for split, found in by_key().items():
        places = sorted(
            range(len(found)), key=lambda row: hashlib.md5(f"{split}{row}".encode()).digest()
        )
        rows[split] = [one for _, one in sorted(zip(places, found, strict=True))]
    return rows
