"""Exported networks run with JAX alone, on any number of images, and say the same."""

import contextlib
import dataclasses
import json
import subprocess
import sys

import jax
import numpy as np
import pytest
import safetensors.numpy
from helpers.quick import one_in
from helpers.runs import contents, finish_untrained, tiny_config
from helpers.weights import fill

from experiments.grid.narrow import NARROW
from senet_jax import export
from senet_jax.errors import InputError, Terminated
from senet_jax.inference import classifier
from senet_jax.inference.classifier import Classifier
from senet_jax.inference.preprocessing import Preprocessing
from senet_jax.layers.attention import KINDS
from senet_jax.models import create_model
from senet_jax.system import files
from senet_jax.weights import files as weight_files
from senet_jax.weights import saving
from senet_jax.weights.image_spec import ImageSpec

ALONE = """
import sys
import jax, jax.export
import numpy as np
path, images, out = sys.argv[1:]
program = jax.export.deserialize(bytearray(open(path, "rb").read()))
images = np.load(images)
np.save(out, np.stack([program.call(images), [program.call(x[None])[0] for x in images]]))
sys.exit("flax" in sys.modules or any(name.startswith("senet_jax") for name in sys.modules))
"""


def made(name, side, **fields):
    model = create_model(name, **fields)
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, side, side, 3)))
    preprocessing = Preprocessing.of_weights(ImageSpec((3, side, side), 0.9, "bilinear"))
    names = tuple(map(str, range(model.num_classes)))
    return Classifier(name, model, fill(shapes), preprocessing, names)


def test_the_program_needs_only_jax(tmp_path):
    network = made("seresnet20_cifar", 16, stage_sizes=(1, 1, 1), width=4)
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    (tmp_path / "program").write_bytes(export.program(network))
    np.save(tmp_path / "images.npy", images)
    names = ("program", "images.npy", "logits.npy")
    command = [sys.executable, "-c", ALONE, *(str(tmp_path / name) for name in names)]
    assert subprocess.run(command, cwd=tmp_path, check=False).returncode == 0
    normalized = network.preprocessing.normalize(images)
    expected = jax.jit(network.model.apply)(network.variables, normalized)
    for logits in np.load(tmp_path / "logits.npy"):
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", sorted({name for name in NARROW if "cifar" not in name}))
def test_every_family_can_be_exported(name):
    model = create_model(name, **NARROW[name])
    side = max(32, model.least_image_size)
    program = jax.export.deserialize(bytearray(export.program(made(name, side, **NARROW[name]))))
    assert program.in_avals[0].dtype == np.uint8
    assert [str(aval.shape[0]) for aval in (*program.in_avals, *program.out_avals)] == ["batch"] * 2
    assert set(program.platforms) == set(export.PLATFORMS)


@pytest.mark.parametrize("kind", one_in(2, KINDS, "lowers one more program for four platforms"))
def test_every_kind_of_block_can_be_exported(kind):
    se = {"kind": kind} | ({"placement": "between_stages"} if kind == "bam" else {})
    network = made("seresnet20_cifar", 16, stage_sizes=(1, 1, 1), width=16, se=se)
    (logits,) = jax.export.deserialize(bytearray(export.program(network))).out_avals
    assert [str(size) for size in logits.shape] == ["batch", "10"]


def test_the_weights_come_back_with_what_they_were_made_for(tmp_path):
    network = made("resnet18", 40, num_classes=3)
    config, names = network.preprocessing.as_image_spec(), ("cat", "dog", "emu")
    saving.save(tmp_path / "one", network.model, network.variables, config, names)
    loaded = classifier.load_classifier(str(tmp_path / "one"))
    assert loaded.preprocessing.image_shape == (40, 40, 3)
    np.testing.assert_allclose(loaded.preprocessing.mean, network.preprocessing.mean, rtol=1e-12)
    export.main(["export", f"--model={tmp_path / 'one'}", f"--output={tmp_path / 'two'}"])
    again = classifier.load_classifier(str(tmp_path / "two"))
    assert jax.tree.all(jax.tree.map(np.array_equal, again.variables, network.variables))
    card = json.loads((tmp_path / "two" / "model.json").read_text())
    assert (card["height"], card["crop_pct"], card["class_names"]) == (40, 0.9, [*names])
    assert again.class_names == names


def test_all_that_makes_pixels_of_an_image_file_is_in_the_card():
    network = made("resnet18", 40, num_classes=3)
    others = {
        "image_shape": (48, 48, 3),
        "eval_crop": 0.5,
        "interpolation": "bicubic",
        "mean": (1.0, 2.0, 3.0),
        "std": (4.0, 5.0, 6.0),
        "crop_mode": "squash",
    }
    assert others.keys() == {field.name for field in dataclasses.fields(Preprocessing)}
    for field, value in others.items():
        assert getattr(network.preprocessing, field) != value
        shown = dataclasses.replace(network.preprocessing, **{field: value})
        other = dataclasses.replace(network, preprocessing=shown)
        assert export.card(other) != export.card(network), field


def of_timm():
    """A configuration whose network can be written in timm's form."""
    config = tiny_config()
    del config.model["width"], config.model["stage_sizes"]
    config.model.se.stages = (2, 3, 4)
    return config


def test_what_another_command_has_written_there_stays(tmp_path):
    """A run keeps its config.json, and no program lies beside the weights of another network."""
    for name, config in (("run", of_timm()), ("narrow", tiny_config())):
        finish_untrained(tmp_path / name, config)

    def call(model, output):
        export.main(["export", f"--model={tmp_path / model}", f"--output={tmp_path / output}"])

    call("run", "exported")
    before = contents(tmp_path)
    for model in ("run", "narrow"):
        with pytest.raises(InputError, match=r"work directory of a run, whose config\.json would"):
            call(model, "run")
    with pytest.raises(InputError, match=r"model\.safetensors is of another network.* --output"):
        call("narrow", "exported")
    loaded = classifier.load_classifier(str(tmp_path / "run"))
    with pytest.raises(InputError, match="work directory of a run"):
        saving.save(tmp_path / "narrow", loaded.model, loaded.variables)
    assert contents(tmp_path) == before


def ending(monkeypatch, count):
    """Have the process be asked to end when `count` more files are written."""
    original, written = files.write, []

    def write(path, content):
        if len(written) == count:
            raise Terminated
        written.append(path)
        original(path, content)

    monkeypatch.setattr(files, "write", write)


@pytest.mark.parametrize("count", range(3))
def test_weights_that_are_replaced_have_their_own_config_json_or_are_gone(
    tmp_path, monkeypatch, count
):
    for number in (1, 2):
        with monkeypatch.context() as patch, contextlib.suppress(Terminated):
            ending(patch, count if number == 2 else 9)
            weight_files.write(tmp_path, {"w": np.full(3, number)}, {"of": number})
    found = {path.name: path for path in tmp_path.iterdir()}
    if count == 1:  # between the two
        assert {*found} == {"config.json"}
    else:
        assert {*found} == {"config.json", "model.safetensors"}
        (tensor,) = safetensors.numpy.load_file(found["model.safetensors"]).values()
        assert {*tensor} == {files.read_json(found["config.json"])["of"]} == {1 + (count == 2)}


@pytest.mark.parametrize("count", range(4))
def test_an_export_that_ended_early_is_of_no_network(tmp_path, monkeypatch, count):
    """So that nothing is added to it, of whichever of the two that may be there."""
    folder = tmp_path / "exported"
    for name in ("one", "two"):
        finish_untrained(tmp_path / name, of_timm())
    call = ["export", f"--output={folder}", "--formats=safetensors"]
    export.main([*call, f"--model={tmp_path / 'one'}"])
    with monkeypatch.context() as patch, contextlib.suppress(Terminated):
        ending(patch, count)
        export.main([*call, f"--model={tmp_path / 'two'}"])
    assert not (folder / export.CARD).exists()
    about = export.card(classifier.load_classifier(str(tmp_path / "two")))
    if (folder / "model.safetensors").exists():
        with pytest.raises(InputError, match=r"model\.safetensors is of another network"):
            export.check_left(folder, about, (export.PROGRAM,), "runs/x")
    export.main([*call, f"--model={tmp_path / 'two'}"])
    assert (folder / export.CARD).exists()


def test_what_stays_in_a_folder_is_of_the_network_that_is_written_there(tmp_path):
    """Of the formats of an export some may be added later, of the same weights and images."""
    network = made("seresnet20_cifar", 16, stage_sizes=(1, 1, 1), width=4)
    about = export.card(network)
    (tmp_path / "model.safetensors").write_bytes(b"weights")

    def check(of, written=(export.PROGRAM,), model="runs/x"):
        export.check_left(tmp_path, export.card(of), written, str(model))

    with pytest.raises(InputError, match=r"model\.safetensors is of another network"):
        check(network)  # nothing says what is there
    check(network, model=tmp_path)  # a program beside the weights that it is made of
    files.write_json(tmp_path / export.CARD, about)
    check(network)
    check(dataclasses.replace(network, name="moved"))
    trained = jax.tree.map(lambda value: value + 1, network.variables)
    halved = dataclasses.replace(network.preprocessing, eval_crop=0.5)
    others = (
        dataclasses.replace(network, variables=trained),
        dataclasses.replace(network, class_names=tuple("abcdefghij")),
        dataclasses.replace(network, preprocessing=halved),
    )
    for other in others:
        check(other, (export.PROGRAM, "model.safetensors"))
        with pytest.raises(InputError, match=r"model\.safetensors is of another network"):
            check(other)
    (tmp_path / export.CARD).write_text("damaged")  # and replaced, where nothing stays
    check(network, (export.PROGRAM, "model.safetensors"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--output=x",), "give a network"),
        (("--model=x",), "give a folder to write to"),
        (("--model=x", "--output=/dev/null/x"), "--output /dev/null/x cannot be written"),
        (("--model=x", "--output=x", "y"), "unexpected argument 'y'"),
    ],
)
def test_bad_input_is_a_sentence(arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        export.main(["export", *arguments])
