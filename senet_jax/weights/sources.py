"""Where weights come from: timm, a hub, a file, or a run of ours."""

from pathlib import Path
from typing import Any, Literal

from senet_jax.errors import InputError, did_you_mean
from senet_jax.runs import workdir
from senet_jax.runs.stored import EARLIER, FINAL
from senet_jax.system import files
from senet_jax.weights import files as weight_files
from senet_jax.weights import timm
from senet_jax.weights.files import Source


def locate(name: str, source: Literal[True] | Source) -> tuple[str, Path]:
    """The network's name, with a tag where timm's own weights are meant, and where these are.

    Raises: InputError for weights that timm lacks, and as files.locate does.
    """
    if source is not True:
        return name, weight_files.locate(source)
    timm.constructor_of(name)
    name = name if "." in name else timm.default_weights(name)
    return name, weight_files.locate(f"hf-hub:timm/{name}")


def by_word(word: str) -> tuple[str, Literal[True] | Source]:
    """The network's name and the source of its weights that one word stands for.

    Args:
      word: a name of timm's, with or without the tag of weights; a hub id; a safetensors file whose
        name, or a folder whose config.json, says the network; or a work directory of ours.

    Raises: InputError for a word that is none of these.
    """
    path = Path(word).expanduser()
    if is_run(path):
        return str(workdir.load_config(path).to_dict()["model"].get("name")), path
    if word.partition(".")[0] in timm.NETWORKS and not path.exists():
        return word, True
    if "/" not in word and not path.exists() and not word.endswith(".safetensors"):
        near = did_you_mean(word, [*timm.NETWORKS, *timm.weights()])
        raise InputError(
            f"{word!r} is no network of timm's that is here, no file or folder, and no hub id, "
            f"which looks like timm/seresnet50.ra2_in1k{near}"
        )
    path = weight_files.locate(word)
    file = weight_files.find(path)
    if architecture := timm.architecture_in(weight_files.read_config_json(file)):
        return architecture, path
    name = path.name if path.is_dir() else path.stem
    if name.partition(".")[0] not in timm.NETWORKS:
        raise InputError(
            f"nothing says which network {path} has weights of: give it a config.json that names "
            "the `architecture`, or a name such as seresnet50.safetensors"
        )
    return (name if name in timm.weights() else name.partition(".")[0]), path


def is_run(path: Path) -> bool:
    """Whether a path is a work directory of ours, not weights in timm's form."""
    content = files.read_json(path / weight_files.CONFIG_JSON) if path.is_dir() else None
    return isinstance(content, dict) and {"model", "data"} <= content.keys()


def check_only_runs(weights: str, source: str) -> None:
    """Raises: InputError if a choice among a run's weights is asked of a source that is none."""
    if weights not in (FINAL, EARLIER):
        raise InputError(
            f"only runs have other weights than their final ones, and {source} is none"
        )


def run_sections(name: str, directory: Path) -> dict[str, Any]:
    """The configuration, as nested dicts, of a run of the network `name`.

    It lacks the keys that say where the run started from.

    Raises: InputError if it is a run of a different network.
    """
    sections: dict[str, Any] = workdir.load_config(directory).to_dict()
    for key in workdir.ORIGIN:
        sections["model"].pop(key, None)
    if sections["model"].get("name") != name:
        ours = sections["model"].get("name", "a network without a name")
        raise InputError(f"{directory} is a run of {ours}, not of {name}")
    return sections
