"""Names of folders: of values and of datasets, never two of one name, and none too long."""

import hashlib
import re
from typing import Any

from senet_jax.data.sources import names

# Text that stands whole in a file's name, alone and as an item of a tuple.
PLAIN = re.compile(r"[a-z0-9_.,=+%\[\]:-]*")
PLAIN_ITEM = re.compile(r"[a-z0-9_.+%:-]+")
LONGEST = 200  # bytes of a file's name; disks take 255, and names get endings
TFDS_NAME = re.compile(r"\w[\w.:+-]*(/\w[\w.:+-]*)*")


def in_a_path(value: Any) -> str:
    """Write a value as part of a file's name; different values of a key give different names.

    What cannot stand there is dropped. Text of which that, or a disk that does not tell small
    letters from capitals, would leave too little to know it by ends in a digest after "~".
    """
    name = re.sub(r"[^\w.,=+%()\[\]:-]+", "", str(value).replace("/", "_"))
    texts, plain = (value, PLAIN_ITEM) if isinstance(value, tuple) else ((value,), PLAIN)
    is_whole = all(plain.fullmatch(text) for text in texts if isinstance(text, str))
    return not_too_long(name) if is_whole else _with_digest(name, value)


def not_too_long(name: str) -> str:
    """The name of a file, or its beginning and a digest where disks would not take it."""
    return name if len(name.encode()) <= LONGEST else _with_digest(name, name)


def _with_digest(name: str, value: Any) -> str:
    digest = hashlib.sha256(repr(value).encode()).hexdigest()[:12]
    kept = name.encode()[: LONGEST - len(digest) - 1].decode(errors="ignore")
    return f"{kept}~{digest}"


def folder_of(dataset: str) -> str:
    """The folder of a dataset's runs: its name in TFDS, or one name for all that has a path.

    That of files has the end of their path alone: results that are published do not say where they
    lay, and a colon in a name is a host's to some programs.
    """
    kind, place = names.parted(dataset)
    if kind:
        title = re.sub(r"[^\w.-]+", "", place.rstrip("/").rpartition("/")[2])
        return _with_digest(f"{kind}-{title}", dataset)
    return dataset if TFDS_NAME.fullmatch(dataset) else in_a_path(dataset)
