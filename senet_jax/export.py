"""Write a network so that it runs without this package: a program, weights, and what it takes.

    python -m senet_jax.export --model=seresnet50.ra2_in1k --output=exported
    python -m senet_jax.export --model=runs/x --weights=ema --output=exported

Writes into the folder

    model.stablehlo    the network with its weights and the normalisation of images: uint8
                       [batch, H, W, C], with any batch, to logits, on a CPU, GPU or TPU
    model.json         the size, crop, crop mode and interpolation that turn image files into such
                       images, and the names of the classes
    model.safetensors, config.json
                       the weights in timm's form, if timm has the network

The program needs nothing but JAX:

    program = jax.export.deserialize(bytearray(open("exported/model.stablehlo", "rb").read()))
    logits = program.call(images)

    --output  folder to write to; created if needed

--model, --weights, --checkpoint, --image_size and --eval_crop are as in senet_jax.predict.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from senet_jax.errors import InputError
from senet_jax.inference.network_flags import (
    check_network_flags,
    define_network_flags,
    load_network,
)
from senet_jax.system import cli, files, host_memory

if TYPE_CHECKING:  # this imports JAX, which is slow: flags come first
    from senet_jax.inference.classifier import Classifier

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
PROGRAM, CARD = "model.stablehlo", "model.json"


def main(argv: list[str]) -> None:
    values = define_flags()
    if extra := cli.parse_flags(argv, values):
        raise InputError(f"unexpected argument {extra[0]!r}; flags look like --output=folder")
    check_network_flags(values)
    if not values.output:
        raise InputError("give a folder to write to, e.g. --output=exported")
    folder = Path(values.output)
    files.check_folder(folder, "--output")

    from senet_jax.weights import saving
    from senet_jax.weights.files import TENSORS

    saving.check_folder(folder)
    network = load_network(values)
    lacking = None  # the reason for no weights in timm's form
    try:
        saving.architecture_of(network.model)
    except InputError as error:
        if (folder / TENSORS).exists():
            raise InputError(
                f"{folder / TENSORS} is of another network, and this one has none; choose another "
                f"--output ({error})"
            ) from error
        lacking = f"{error}, so there is no {TENSORS}"
    with files.refused(folder):
        folder.mkdir(parents=True, exist_ok=True)
    files.write(folder / PROGRAM, program(network))
    files.write_json(folder / CARD, card(network))
    if lacking:
        print(lacking)
        print(f"-> {folder}/{PROGRAM}, {CARD}")
        return
    saving.save(
        folder,
        network.model,
        network.variables,
        network.preprocessing.as_image_spec(),
        network.class_names,
    )
    print(f"-> {folder}/{PROGRAM}, {CARD}, model.safetensors, config.json")


def define_flags() -> flags.FlagValues:
    values = flags.FlagValues()
    define_network_flags(values)
    cli.define_path("output", None, "Folder to write to.", flag_values=values)
    return values


def program(network: "Classifier") -> bytes:
    """Lower the network for all PLATFORMS to StableHLO, uint8 [batch, H, W, C] to logits."""
    import jax

    # Plain layers: what is fast on one platform would only make the program for all longer.
    model = network.model.clone(implementation="xla")
    preprocessing = network.preprocessing

    def logits(images: jax.Array) -> Any:
        return model.apply(network.variables, preprocessing.normalize(images), train=False)

    (batch,) = jax.export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *preprocessing.image_shape), "uint8")
    return bytes(jax.export.export(jax.jit(logits), platforms=PLATFORMS)(images).serialize())


def card(network: "Classifier") -> dict[str, Any]:
    """Describe the images that the program takes, and name its outputs."""
    preprocessing = network.preprocessing
    height, width, channels = preprocessing.image_shape
    return {
        "model": network.name,
        "height": height,
        "width": width,
        "channels": channels,
        "crop_pct": preprocessing.eval_crop,
        "crop_mode": preprocessing.as_image_spec().crop_mode,
        "interpolation": preprocessing.interpolation,
        "mean": preprocessing.mean,
        "std": preprocessing.std,
        "class_names": network.class_names,
    }


if __name__ == "__main__":
    host_memory.use_huge_pages()
    cli.run(main, __doc__)
