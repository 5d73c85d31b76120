"""Whether a folder still holds what was written: `SHA256SUMS`, as sha256sum makes and checks it."""

from pathlib import Path

from senet_jax.errors import InputError
from senet_jax.system import files

SUMS = "SHA256SUMS"


class Damaged(InputError):
    """A folder does not hold what was written."""


def write(folder: Path) -> None:
    """Record the sums of all files. Raises: InputError if they cannot be written."""
    lines = [f"{digest}  {name}\n" for name, digest in compute(folder).items()]
    files.write(folder / SUMS, "".join(lines).encode())


def check(folder: Path, what: str) -> None:
    """Raises: Damaged, naming the file, if the folder, called `what`, differs from its sums."""
    present = compute(folder)
    lines = (line.partition("  ") for line in (folder / SUMS).read_text("utf-8").splitlines())
    listed = {name: digest for digest, _, name in lines}
    for name in sorted(present.keys() | listed.keys()):
        if present.get(name) != listed.get(name):
            damage = "is missing" if name not in present else "was changed"
            if name not in listed:
                damage = f"is not in {SUMS}"
            raise Damaged(f"{what} is damaged: {name} {damage}")


def compute(folder: Path) -> dict[str, str]:
    """SHA-256 of every file in the folder but the sums, by its path in there."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    sums = {path.relative_to(folder).as_posix(): files.sha256(path) for path in paths}
    sums.pop(SUMS, None)
    return sums
