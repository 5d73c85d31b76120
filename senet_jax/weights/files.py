"""Files of weights as timm's hub has them: `model.safetensors` with `config.json` beside it.

Only safetensors is read, which can hold nothing but arrays. A pickle, PyTorch's own format, can run
any code when it is read, and is refused.
"""

import dataclasses
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from senet_jax.errors import InputError
from senet_jax.system import files

TENSORS, CONFIG_JSON = "model.safetensors", "config.json"
PICKLES = (".pth", ".pt", ".bin", ".ckpt", ".pkl", ".pickle", ".tar", ".th")
HUB_ID = re.compile(r"(?P<prefix>hf[-_]hub:)?(?P<id>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")

Source = str | os.PathLike[str]


@dataclasses.dataclass(frozen=True)
class WeightFile:
    """A file of tensors and what the config.json beside it says.

    Attributes:
      path: where the file is on this disk.
      tensors: arrays by their names in PyTorch; half precision has become float32.
      config_json: what the config.json says; {} where there is none.
    """

    path: Path
    tensors: dict[str, np.ndarray]
    config_json: dict[str, Any]


class Unreachable(InputError):
    """A hub that does not answer."""


def locate(source: Source) -> Path:
    """Find the file or folder of a source on this disk; for a hub id its copy in the cache.

    Args:
      source: a path, or a hub id: "timm/seresnet50.ra2_in1k", "hf-hub:organisation/name", either
        with "@revision" if need be. A name that exists on this disk is a path.

    Raises: InputError if there is no such file, or it is neither here nor to be had from the hub.
    """
    text = os.fspath(source)
    path = Path(text).expanduser()
    if path.exists():
        return path
    hub_id = HUB_ID.fullmatch(text) if isinstance(source, str) else None
    if not hub_id or (path.suffix in (*PICKLES, ".safetensors") and not hub_id["prefix"]):
        raise InputError(
            f"there are no weights at {text}: it is no file or folder here, and no hub id, which "
            "looks like timm/seresnet50.ra2_in1k"
        )
    return _download(hub_id["id"], hub_id["revision"])


def read(path: Path) -> WeightFile:
    """Read the weights of a file, or of a folder with a `model.safetensors`.

    Raises: InputError for anything but safetensors, and for a file that is not whole.
    """
    file = find(path)
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        tensors = load_file(file)
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(f"{file} is not a whole safetensors file: {error}") from error
    widened = {name: _widened(value) for name, value in tensors.items()}
    return WeightFile(file, widened, read_config_json(path))


def read_config_json(path: Path) -> dict[str, Any]:
    """Read the config.json beside a file, or in a folder; {} where there is none.

    Raises: InputError if it is not a table.
    """
    file = (path if path.is_dir() else path.parent) / CONFIG_JSON
    content = files.read_json(file) or {}
    if not isinstance(content, dict):
        raise InputError(f"{file} must be a table of settings as timm's are")
    return content


def write(folder: Path, tensors: Mapping[str, np.ndarray], config_json: Mapping[str, Any]) -> None:
    """Write both files into a folder, which is created.

    Whenever this ends early, the folder never has the tensors of one network beside the
    config.json of another.

    Raises: InputError if that fails.
    """
    from safetensors.numpy import save

    # What is not contiguous would be written in the order of its memory, without complaint.
    contiguous = {name: np.asarray(value, order="C") for name, value in tensors.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        new = folder / f".{TENSORS}.new"  # a full disk refuses it while nothing is replaced yet
        try:
            files.write(new, save(contiguous, {"format": "pt"}))
            (folder / TENSORS).unlink(missing_ok=True)
            files.write(folder / CONFIG_JSON, (json.dumps(config_json, indent=2) + "\n").encode())
            new.replace(folder / TENSORS)
        finally:
            new.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error.strerror or error}") from error


def _widened(value: np.ndarray) -> np.ndarray:
    """Turn half precision into float32, which loses nothing; others stay."""
    return value.astype(np.float32) if value.dtype.name in ("float16", "bfloat16") else value


def find(path: Path) -> Path:
    """Find the safetensors file at a path or in a folder. Raises: InputError if there is none."""
    file = _file_in(path) if path.is_dir() else path
    if file.suffix != ".safetensors":
        raise _refusal(file)
    return file


def _file_in(folder: Path) -> Path:
    candidates = files.children(folder, "*.safetensors")
    if folder / TENSORS in candidates:
        return folder / TENSORS
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise InputError(f"{folder} has {len(candidates)} files of tensors; give the one to read")
    for path in files.children(folder):
        if path.suffix in PICKLES:
            raise _refusal(path)
    raise InputError(f"{folder} has no {TENSORS}, and is no work directory of ours")


def _refusal(file: Path) -> InputError:
    if file.suffix not in PICKLES:
        return InputError(f"weights are read from .safetensors files, not from {file.name}")
    code = (
        f"import torch, safetensors.torch as s; s.save_file(torch.load('{file}', "
        f"weights_only=True), '{file.with_suffix('.safetensors')}')"
    )
    return InputError(
        f"{file} is a pickle, which can run any code when it is read; convert it where PyTorch is, "
        f'with python -c "{code}"'
    )


def _download(repository: str, revision: str | None) -> Path:
    """Download both files of a repository and return their folder in the hub's cache."""
    from huggingface_hub import constants, errors, hf_hub_download

    try:
        hf_hub_download(repository, CONFIG_JSON, revision=revision)
        return Path(hf_hub_download(repository, TENSORS, revision=revision)).parent
    except errors.LocalEntryNotFoundError as error:
        problem = f"{repository} is no folder here and not in the hub's cache"
        if constants.HF_HUB_OFFLINE:
            raise InputError(f"{problem}, and HF_HUB_OFFLINE is set") from error
        raise Unreachable(f"{problem}, and the hub cannot be reached") from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        at = f" at revision {revision}" if revision else ""
        # Some weights that timm lists, the legacy ones, have no place on the hub.
        name = repository.removeprefix("timm/")
        way_out = (
            f"; timm can write what it has: timm.models.save_for_hf(timm.create_model('{name}', "
            f"pretrained=True), 'FOLDER', safe_serialization=True), and FOLDER is read here"
            if name != repository
            else ""
        )
        raise InputError(
            f"the hub has no {repository}{at}, or it needs an account (`hf auth login`){way_out}"
        ) from error
    except errors.EntryNotFoundError as error:
        raise InputError(
            f"{repository} on the hub has no {TENSORS} or no {CONFIG_JSON}; only safetensors are "
            "read"
        ) from error
    except (errors.HFValidationError, errors.HfHubHTTPError, OSError) as error:
        raise InputError(
            f"{repository} cannot be read from the hub: {error}".splitlines()[0]
        ) from error
