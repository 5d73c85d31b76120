"""Exported files, sent to Hugging Face's hub. Nothing here is called unless a flag asks for it."""

from collections.abc import Sequence
from pathlib import Path

from senet_jax.errors import InputError, first_line


def check(repository: str) -> None:
    """Raises: InputError, asking nobody, for what is no ORG/NAME, or without a token."""
    from huggingface_hub import constants, get_token, utils

    try:
        utils.validate_repo_id(repository)
    except utils.HFValidationError as error:
        raise InputError(f"--push_to_hub={repository}: {first_line(error)}") from error
    if repository.count("/") != 1:
        raise InputError(f"--push_to_hub takes ORG/NAME, not {repository!r}")
    if constants.HF_HUB_OFFLINE:
        raise InputError("--push_to_hub needs the hub, and HF_HUB_OFFLINE is set")
    if not get_token():
        raise InputError("--push_to_hub needs a token of the hub: `hf auth login`, or HF_TOKEN")


def names_in(repository: str) -> list[str]:
    """The files of a repository; none of one that is not there.

    Raises: InputError if the hub cannot be asked.
    """
    from huggingface_hub import HfApi, errors

    try:
        return HfApi().list_repo_files(repository)
    except errors.RepositoryNotFoundError:
        return []
    except Exception as error:  # whatever library its client speaks HTTP with
        raise InputError(f"{repository} cannot be read: {first_line(error)}") from error


def fetch(repository: str, name: str) -> Path:
    """A local copy of a file of a repository. Raises: InputError if it cannot be had."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repository, name))
    except Exception as error:
        raise InputError(f"{repository}/{name} cannot be read: {first_line(error)}") from error


def push(folder: Path, names: Sequence[str], repository: str) -> str:
    """Send files of a folder to a repository, which is created if it is not there.

    Returns: the address of the commit.

    Raises: InputError if the hub refuses them or cannot be reached; the folder stays.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        api.create_repo(repository, exist_ok=True)
        return api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            allow_patterns=[*names],
            commit_message="Export from senet_jax",
        ).commit_url
    except Exception as error:  # whatever library its client speaks HTTP with
        raise InputError(
            f"{repository} could not be sent to the hub, and all is in {folder}: "
            f"{first_line(error)}"
        ) from error
