"""ONNX Runtime says of exported networks what the networks say, with batch norm folded as well."""

import subprocess
import sys

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from helpers.onnx_models import at_ease, images_for, logits_of, made, run_onnx
from helpers.quick import one_in

from experiments.grid.narrow import NARROW, size_of
from senet_jax import export
from senet_jax.errors import InputError
from senet_jax.inference.fold_batch_norm import pairs
from senet_jax.inference.onnx_program import onnx_model
from senet_jax.layers.attention import KINDS
from senet_jax.layers.network import Network
from senet_jax.layers.slot import NO_BRANCH, PLACEMENTS
from senet_jax.layers.squeeze_excite import GATES, SQUEEZES
from senet_jax.models import list_models

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

# Narrow members whose batch norms do not all follow a convolution of their own.
NOT_ALL_FOLD = ("preresnet", "wrn", "shake")
SE = [
    *({"kind": kind} for kind in KINDS if kind != "bam"),
    {"kind": "bam", "placement": "between_stages"},
    *({"gate": gate} for gate in GATES),
    *({"squeeze": squeeze} for squeeze in SQUEEZES),
    *({"placement": place} for place in PLACEMENTS if place not in NO_BRANCH),
    {"excitation": "none"},
    {"bias": True},
]


def agree(one, other):
    """To 1e-5 of the largest logit; that the images differ is seen to first."""
    assert np.ptp(other, axis=0).max() > 1e-2 * np.abs(other).max()
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * np.abs(other).max())


def nodes(program):
    return len(onnx.load_from_string(program).graph.node)


@pytest.mark.parametrize("name", one_in(5, NARROW, "compiles one more family"))
def test_every_family_gives_its_logits(name):
    network = made(name, size_of(name), **NARROW[name])
    images = images_for(network)
    logits = logits_of(network, images)
    plain, fewer = (export.onnx_program(network, fold=fold) for fold in (False, True))
    agree(run_onnx(plain, images), logits)
    agree(run_onnx(fewer, images), logits)
    agree(np.concatenate([run_onnx(plain, image[None]) for image in images]), logits)
    norms = {path[:-1] for path in flatten_dict(network.variables["batch_stats"])}
    folded = pairs(network.model, network.variables, network.preprocessing.image_shape)
    # A subtraction, a product and a sum of each; of what is folded only the sum stays.
    assert nodes(plain) - nodes(fewer) == 2 * len(folded) > 0
    assert (norms == folded.keys()) == (not any(family in name for family in NOT_ALL_FOLD))


@pytest.mark.parametrize(
    "se", one_in(8, SE, "compiles one more kind"), ids=lambda se: "-".join(map(str, se.values()))
)
def test_every_kind_of_block_gives_its_logits(se):
    network = made("seresnet20_cifar", 16, stage_sizes=(1, 1, 1), width=16, se=se)
    images = images_for(network)
    logits = logits_of(network, images)
    for fold in (False, True):
        agree(run_onnx(export.onnx_program(network, fold=fold), images), logits)


@pytest.mark.parametrize("name", list_models())
@pytest.mark.slow(reason="every network at its full size, which compiles for up to a minute")
def test_every_network_gives_its_logits(name):
    network = at_ease(made(name, made_for(name)))
    images = images_for(network, 2)
    logits = logits_of(network, images)
    for fold in (False, True):
        agree(run_onnx(export.onnx_program(network, fold=fold), images), logits)


def made_for(name):
    """The side of the images that a network is made for, in pixels."""
    return 32 if "cifar" in name or "shake" in name else 224


def test_a_network_in_half_precision_is_written_in_single():
    fields = {"stage_sizes": (1, 1, 1), "width": 8}
    network = made("seresnet20_cifar", 16, **fields)
    half = made("seresnet20_cifar", 16, **fields, dtype="bfloat16")
    images = images_for(network)
    agree(run_onnx(export.onnx_program(half), images), logits_of(network, images))


def test_a_stablehlo_program_is_folded_as_well():
    network = made("sepreresnet164_cifar", 16, **NARROW["sepreresnet164_cifar"])
    images = images_for(network)
    function = export.network_function(network, fold=True)
    program = jax.export.deserialize(bytearray(export.program(network, function)))
    agree(np.asarray(program.call(images)), logits_of(network, images))


def test_what_is_not_known_is_refused_by_its_name():
    with pytest.raises(InputError, match=r"operation 'sort'.*--formats=stablehlo"):
        onnx_model(lambda x: jax.numpy.sort(x.astype("float32"), axis=1), (4, 4, 3))


def test_a_convolution_whose_output_goes_elsewhere_too_is_left_alone():
    """Folding it would scale what the other reader sees."""

    class Twice(Network):
        def maps(self, x, train):
            y = self.layers.conv(4, 3, name="conv")(x)
            return {"stage2": y + self.layers.norm(train, name="bn")(y)}

    model, images = Twice(num_classes=3), np.zeros((1, 8, 8, 3), np.float32)
    assert not pairs(model, model.init(jax.random.key(0), images), (8, 8, 3))


def test_without_the_package_it_is_a_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(InputError, match=r"pip install 'senet-jax\[onnx\]'"):
        onnx_model(lambda x: x, (4, 4, 3))


ALONE = """
import sys
import numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
images = numpy.load(sys.argv[2])
numpy.save(sys.argv[3], session.run(None, {"images": images})[0])
sys.exit(any(name.startswith(("jax", "flax", "senet_jax", "onnx.")) for name in sys.modules))
"""


def test_the_program_needs_only_the_runtime(tmp_path):
    network = made("seresnet20_cifar", 16, stage_sizes=(1, 1, 1), width=4)
    images = images_for(network, 5)
    (tmp_path / "model.onnx").write_bytes(export.onnx_program(network))
    np.save(tmp_path / "images.npy", images)
    names = ("model.onnx", "images.npy", "logits.npy")
    command = [sys.executable, "-c", ALONE, *(str(tmp_path / name) for name in names)]
    assert subprocess.run(command, cwd=tmp_path, check=False).returncode == 0
    agree(np.load(tmp_path / "logits.npy"), logits_of(network, images))
