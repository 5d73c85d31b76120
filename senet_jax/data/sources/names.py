"""Names of datasets: of TFDS, or a kind and a place, such as "folder:photos"."""

import glob
import os
import re

# Kinds of datasets that are named so, and what is after the colon.
KINDS = {
    "folder": "a folder with a folder of images per class",
    "csv": "a table of files and labels: .csv, .tsv or .parquet",
    "hf": "a dataset of Hugging Face, ORG/NAME[:CONFIG] or a folder",
    "tfds": "the folder of a prepared TFDS dataset",
}
NAME = re.compile(f"({'|'.join(KINDS)}):(.*)", re.DOTALL)


def parted(name: str) -> tuple[str, str]:
    """The kind of a dataset, "" for names in TFDS spelling, and the rest of its name."""
    match = NAME.fullmatch(name.strip())
    return (match[1], match[2].strip()) if match else ("", name)


def absolute(name: str) -> str:
    """The same dataset, found from any directory: its path is made absolute and `~` expanded.

    Names in TFDS spelling stay as they are, and paths of TFDS datasets without a kind, too.
    """
    kind, place = parted(name)
    if not kind or not place or "://" in place or (kind == "hf" and not is_local(place)):
        return name
    return f"{kind}:{os.path.abspath(os.path.expanduser(place))}"


def meant(name: str) -> str:
    """The name of files that is meant by one that TFDS does not know; "" for none."""
    kind, colon, place = name.strip().partition(":")
    if colon and kind.lower() in KINDS:
        return f"{kind.lower()}:{place}"
    path = os.path.expanduser(name.strip())
    if os.path.isfile(path) and path.lower().endswith((".csv", ".tsv", ".parquet")):
        return f"csv:{name.strip()}"
    return f"folder:{name.strip()}" if glob.glob(os.path.join(glob.escape(path), "*", "")) else ""


def is_local(place: str) -> bool:
    """Whether what is after "hf:" is a path, not a name on the hub."""
    path = os.path.expanduser(place)
    return place.startswith(("/", "~", "./", "../")) or os.path.exists(path)
