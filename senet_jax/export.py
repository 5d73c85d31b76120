"""Write a network so that it runs without this package: a program, weights, and what it takes.

    python -m senet_jax.export --model=seresnet50.ra2_in1k --output=exported
    python -m senet_jax.export --model=runs/x --weights=ema --output=exported

Writes into the folder

    model.stablehlo    the network, its weights and the normalisation of images: from uint8
                       [batch, H, W, C], for any batch, to logits, on a CPU, GPU or TPU
    model.json         by which size, crop and interpolation files become such images, and what the
                       classes are called
    model.safetensors, config.json
                       the weights in timm's form, if timm has the network

The program needs nothing but JAX:

    program = jax.export.deserialize(bytearray(open("exported/model.stablehlo", "rb").read()))
    logits = program.call(images)

`--model`, `--weights`, `--checkpoint`, `--image_size` and `--eval_crop` are as in
senet_jax.predict.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from senet_jax.errors import InputError
from senet_jax.inference.flags import check_network_flags, define_network_flags, load_network
from senet_jax.system import cli, files, host_memory

if TYPE_CHECKING:  # these import JAX, which is slow: flags come first
    from senet_jax.inference.classifier import Classifier

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
PROGRAM, CARD = "model.stablehlo", "model.json"


def main(argv: list[str]) -> None:
    values = define_flags()
    if left_over := cli.parse_flags(argv, values):
        raise InputError(f"unexpected argument {left_over[0]!r}; flags look like --output=folder")
    check_network_flags(values)
    if not values.output:
        raise InputError("give a folder to write to, e.g. --output=exported")
    folder = Path(values.output)
    files.check_folder(folder, "--output")

    from senet_jax.weights import saving

    network = load_network(values)
    with files.refused(folder):
        folder.mkdir(parents=True, exist_ok=True)
    files.write(folder / PROGRAM, program(network))
    files.write_json(folder / CARD, card(network))
    try:
        saving.architecture_of(network.model)
    except InputError as error:
        print(f"{error}, so there is no model.safetensors")
        print(f"-> {folder}/{PROGRAM}, {CARD}")
        return
    saving.save(
        folder,
        network.model,
        network.variables,
        network.shown.as_config(),
        network.class_names,
    )
    print(f"-> {folder}/{PROGRAM}, {CARD}, model.safetensors, config.json")


def define_flags() -> flags.FlagValues:
    values = flags.FlagValues()
    define_network_flags(values)
    flags.DEFINE_string("output", None, "Folder to write to.", flag_values=values)
    return values


def program(network: "Classifier") -> bytes:
    """The network as StableHLO for all PLATFORMS, uint8 [batch, H, W, C] to logits."""
    import jax

    # Plain layers: what is fast on one platform would only make the program of all longer.
    model = network.model.clone(implementation="xla")

    def logits(images: jax.Array) -> Any:
        return model.apply(network.variables, network.shown.normalize(images), train=False)

    (batch,) = jax.export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *network.shown.image_shape), "uint8")
    return bytes(jax.export.export(jax.jit(logits), platforms=PLATFORMS)(images).serialize())


def card(network: "Classifier") -> dict[str, Any]:
    """What images the program takes, and what its outputs are called."""
    height, width, channels = network.shown.image_shape
    return {
        "model": network.name,
        "height": height,
        "width": width,
        "channels": channels,
        "crop_pct": network.shown.eval_crop,
        "interpolation": network.shown.interpolation,
        "mean": network.shown.mean,
        "std": network.shown.std,
        "class_names": network.class_names,
    }


if __name__ == "__main__":
    host_memory.use_huge_pages()
    cli.run(main, __doc__)
