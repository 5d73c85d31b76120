"""Write a network so that it runs without this package: programs, weights, and what they take.

    python -m senet_jax.export --model=seresnet50.ra2_in1k --output=exported
    python -m senet_jax.export --model=runs/x --weights=ema --output=exported
    python -m senet_jax.export --model=runs/x --output=exported --formats=onnx --fold_batch_norm

Writes into the folder

    model.stablehlo    the network with its weights and the normalisation of images: uint8
                       [batch, H, W, C], with any batch, to logits, on a CPU, GPU or TPU
    model.onnx         the same for ONNX's runtimes, in float32
    model.json         the size, crop, crop mode and interpolation that turn image files into such
                       images, and the names of the classes
    model.safetensors, config.json
                       the weights in timm's form, if timm has the network
    README.md          a model card in the form of Hugging Face's hub

The program needs nothing but JAX:

    program = jax.export.deserialize(bytearray(open("exported/model.stablehlo", "rb").read()))
    logits = program.call(images)

    --output           folder to write to; created if needed
    --formats          any of stablehlo, onnx and safetensors; by default stablehlo, and safetensors
                       if timm has the network
    --fold_batch_norm  batch norm becomes part of the convolutions before it, in the programs: fewer
                       operations, and the same logits up to rounding
    --push_to_hub      ORG/NAME: send what was written to Hugging Face's hub

--model, --weights, --checkpoint, --image_size and --eval_crop are as in senet_jax.predict.
"""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from senet_jax.errors import InputError, did_you_mean
from senet_jax.inference.network_flags import (
    check_network_flags,
    define_network_flags,
    load_network,
)
from senet_jax.system import cli, files, host_memory

if TYPE_CHECKING:  # this imports JAX, which is slow: flags come first
    from senet_jax.inference.classifier import Classifier

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
STABLEHLO, ONNX, SAFETENSORS = FORMATS = ("stablehlo", "onnx", "safetensors")
PROGRAM, ONNX_PROGRAM, CARD = "model.stablehlo", "model.onnx", "model.json"


def main(argv: list[str]) -> None:
    values = define_flags()
    if extra := cli.parse_flags(argv, values):
        raise InputError(f"unexpected argument {extra[0]!r}; flags look like --output=folder")
    check_network_flags(values)
    if not values.output:
        raise InputError("give a folder to write to, e.g. --output=exported")
    formats = check_formats(values.formats)
    if values.fold_batch_norm and not {STABLEHLO, ONNX} & {*formats}:
        raise InputError("--fold_batch_norm is for programs: add stablehlo or onnx to --formats")
    folder, repository = Path(values.output), values.push_to_hub or ""
    files.check_folder(folder, "--output")

    from senet_jax.inference import hub, model_card
    from senet_jax.weights import saving
    from senet_jax.weights.files import CONFIG_JSON, TENSORS

    saving.check_folder(folder)
    check_card(folder / model_card.README, "--output")
    if repository:
        hub.check(repository)
    network = load_network(values)
    lacking = check_weights(folder, network, asked=SAFETENSORS in (values.formats or ()))
    function = network_function(network, fold=values.fold_batch_norm)
    written = {PROGRAM: lambda: program(network, function)} if STABLEHLO in formats else {}
    if ONNX in formats:
        written[ONNX_PROGRAM] = lambda: onnx_program(network, fold=values.fold_batch_norm)
    saves, about = SAFETENSORS in formats and not lacking, card(network)
    replaced = [*written, *([TENSORS] if saves else [])]
    check_left(folder, about, replaced, values.model)
    if repository:
        check_repository(repository, about, replaced)
    contents = {name: make() for name, make in written.items()}
    with files.refused(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CARD).unlink(missing_ok=True)  # which says what is there: it comes back last
    for name, content in contents.items():
        files.write(folder / name, content)
    names = [*contents, CARD]
    if saves:
        spec = network.preprocessing.as_image_spec()
        saving.save(folder, network.model, network.variables, spec, network.class_names)
        names += [TENSORS, CONFIG_JSON]
    origin = model_card.origin_of(values.model, values.weights)
    readme = model_card.readme(network, origin, names, repository)
    files.write(folder / model_card.README, readme)
    files.write_json(folder / CARD, about)
    names.append(model_card.README)
    if lacking and SAFETENSORS in formats:
        print(lacking)
    print(f"-> {folder}/{', '.join(names)}")
    if repository:
        print(f"-> {hub.push(folder, names, repository)}")


def define_flags() -> flags.FlagValues:
    values = flags.FlagValues()
    define_network_flags(values)
    cli.define_path("output", None, "Folder to write to.", flag_values=values)
    flags.DEFINE_list("formats", None, "stablehlo, onnx, safetensors.", flag_values=values)
    flags.DEFINE_bool(
        "fold_batch_norm", False, "Fold batch norm into convolutions.", flag_values=values
    )
    flags.DEFINE_string("push_to_hub", None, "ORG/NAME on the hub.", flag_values=values)
    return values


def check_formats(given: list[str] | None) -> list[str]:
    """The formats to write. Raises: InputError for one that is not known, or none."""
    if given is None:
        return [STABLEHLO, SAFETENSORS]
    for name in given:
        if name not in FORMATS:
            raise InputError(
                f"--formats takes any of {', '.join(FORMATS)}, not {name!r}"
                f"{did_you_mean(name, FORMATS)}"
            )
    if not given:
        raise InputError(f"--formats needs at least one of {', '.join(FORMATS)}")
    return given


def check_card(path: Path, flag: str) -> None:
    """Raises: InputError for a README.md of others, which would be replaced."""
    from senet_jax.inference.model_card import MARK

    if path.exists() and MARK.encode() not in path.read_bytes():
        raise InputError(f"{path} was not written by this command; choose another {flag}")


def check_left(folder: Path, about: dict[str, Any], written: Sequence[str], model: str) -> None:
    """Check that what stays in the folder is of the network that is written beside it.

    Args:
      about: the content of its model.json.
      written: names of the files that are replaced, or made.
      model: where the network comes from; its own weights may stay.

    Raises: InputError for the program or the weights of another export.
    """
    from senet_jax.weights.files import TENSORS

    own = [TENSORS] if os.path.realpath(model) == os.path.realpath(folder) else []
    left = [
        name
        for name in (PROGRAM, ONNX_PROGRAM, TENSORS)
        if name not in (*written, *own) and (folder / name).exists()
    ]
    if left:
        _check_same(folder / left[0], files.read_table(folder / CARD), about, "--output")


def check_repository(repository: str, about: dict[str, Any], written: Sequence[str]) -> None:
    """Check a repository of the hub, if there is one, as a folder: what stays, and its card.

    Raises: InputError for a program, weights or a card of others.
    """
    from senet_jax.inference import hub
    from senet_jax.inference.model_card import README
    from senet_jax.weights.files import TENSORS

    there, flag = {*hub.names_in(repository)}, "--push_to_hub"
    if README in there:
        check_card(hub.fetch(repository, README), flag)
    left = [name for name in (PROGRAM, ONNX_PROGRAM, TENSORS) if name in there - {*written}]
    if left:
        before = files.read_table(hub.fetch(repository, CARD)) if CARD in there else None
        _check_same(f"{repository}/{left[0]}", before, about, flag)


def _check_same(
    left: Path | str, before: dict[str, Any] | None, about: dict[str, Any], flag: str
) -> None:
    """Raises: InputError unless what stays has the card of what is written beside it."""
    now: dict[str, Any] = json.loads(json.dumps(about))
    if (before or {}) | {"model": ""} != now | {"model": ""}:
        raise InputError(
            f"{left} is of another network, or for other images, and would stay beside what is "
            f"written now; choose another {flag}, or write all again with --formats"
        )


def check_weights(folder: Path, network: "Classifier", *, asked: bool) -> str:
    """The reason why a network has no weights in timm's form, or "".

    Raises: InputError if they were asked for, or if the folder has such weights of another network.
    """
    from senet_jax.weights import saving
    from senet_jax.weights.files import TENSORS

    try:
        saving.architecture_of(network.model)
    except InputError as error:
        if (folder / TENSORS).exists():
            raise InputError(
                f"{folder / TENSORS} is of another network, and this one has none; choose another "
                f"--output ({error})"
            ) from error
        if asked:
            raise InputError(f"--formats={SAFETENSORS}: {error}") from error
        return f"{error}, so there is no {TENSORS}"
    return ""


def network_function(
    network: "Classifier", *, fold: bool = False, dtype: Any = None
) -> Callable[[Any], Any]:
    """The function from uint8 [batch, H, W, C] to logits that programs are made of.

    Args:
      fold: whether batch norm becomes part of the convolutions.
      dtype: dtype of activations, if not the network's.
    """
    from senet_jax.inference.fold_batch_norm import folded

    # Plain layers: what is fast on one platform would only make the program for all longer.
    model = network.model.clone(implementation="xla", dtype=dtype or network.model.dtype)
    variables, preprocessing = network.variables, network.preprocessing
    apply = lambda images: model.apply(variables, images, train=False)  # noqa: E731
    if fold:
        apply = folded(model, variables, preprocessing.image_shape)
    return lambda images: apply(preprocessing.normalize(images))


def program(network: "Classifier", function: Callable[[Any], Any] | None = None) -> bytes:
    """Lower the network for all PLATFORMS to StableHLO, uint8 [batch, H, W, C] to logits.

    Args:
      function: what `network_function` gives, if not the network as it is.
    """
    import jax

    (batch,) = jax.export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *network.preprocessing.image_shape), "uint8")
    function = jax.jit(function or network_function(network))
    return bytes(jax.export.export(function, platforms=PLATFORMS)(images).serialize())


def onnx_program(network: "Classifier", *, fold: bool = False) -> bytes:
    """Write the network as an ONNX model, uint8 [batch, H, W, C] to logits.

    It is in float32, whatever the network computes in: few runtimes have bfloat16.
    """
    from senet_jax.inference.onnx_program import onnx_model

    function = network_function(network, fold=fold, dtype="float32")
    return onnx_model(function, network.preprocessing.image_shape)


def card(network: "Classifier") -> dict[str, Any]:
    """Describe the images that the program takes, and name its outputs."""
    from senet_jax.inference.model_card import public
    from senet_jax.runs import provenance

    preprocessing = network.preprocessing
    height, width, channels = preprocessing.image_shape
    return {
        "model": public(network.name),
        "height": height,
        "width": width,
        "channels": channels,
        "crop_pct": preprocessing.eval_crop,
        "crop_mode": preprocessing.as_image_spec().crop_mode,
        "interpolation": preprocessing.interpolation,
        "mean": preprocessing.mean,
        "std": preprocessing.std,
        "class_names": network.class_names,
        "params_sha256": provenance.fingerprint(network.variables),
    }


if __name__ == "__main__":
    host_memory.use_huge_pages()
    cli.run(main, __doc__)
