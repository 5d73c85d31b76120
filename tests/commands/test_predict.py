"""The command that says what is in image files: with runs, with weights, and with neither."""

import functools
import json
import shutil

import jax
import numpy as np
import pytest
from helpers.weights import state_dict
from PIL import Image
from safetensors.numpy import save_file
from scipy.special import softmax

from senet_jax import evaluate, predict
from senet_jax.data.image_files import open_image
from senet_jax.errors import InputError
from senet_jax.inference import classifier
from senet_jax.inference.explain import grad_cam
from senet_jax.inference.gated_blocks import gates_of
from senet_jax.weights import loading

SMALL = "mobilenetv1_100"
pytestmark = pytest.mark.usefixtures("_leave_the_process_as_it_is")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """MobileNet with three classes that have names, as on the hub."""
    folder = tmp_path_factory.mktemp("weights")
    save_file(state_dict(SMALL, num_classes=3), folder / "model.safetensors")
    config = {
        "architecture": SMALL,
        "num_classes": 3,
        "label_names": ["n1", "n2", "n3"],
        "label_descriptions": {"n1": "cat", "n3": "sea"},
        "pretrained_cfg": {"input_size": [3, 40, 40], "crop_pct": 0.8, "mean": [0.5, 0.4, 0.3]},
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def probabilities(printed):
    """The printed probabilities [images, classes] in the order of the class numbers."""
    rows = [sorted(one["classes"], key=lambda c: c["class"]) for one in printed["images"]]
    return np.array([[c["probability"] for c in row] for row in rows])


def test_a_run_says_of_files_what_it_says_of_its_dataset(run, digits, call, tmp_path):
    """Batches do not divide by the four devices, and --top is more than there are classes."""
    evaluate.main(["evaluate", f"--workdir={run}", f"--predictions={tmp_path / 'predictions.csv'}"])
    lines = (tmp_path / "predictions.csv").read_text().splitlines()[1:12]
    printed, status = call(f"--model={run}", "--batch_size=3", digits)
    assert (status, printed["model"], printed["image_size"]) == (0, str(run), 8)
    assert [one["image"] for one in printed["images"]] == sorted(map(str, digits.iterdir()))
    for one, line in zip(printed["images"], lines, strict=True):
        best = line.split(",")[4:]
        assert [(c["class"], c["name"]) for c in one["classes"]] == [
            (int(number), name) for number, name in zip(best[::3], best[1::3], strict=True)
        ]
        predicted = [c["probability"] for c in one["classes"]]
        np.testing.assert_allclose(predicted, np.array(best[2::3], float), rtol=1e-4)
    everything, _ = call(f"--model={run}", "--batch_size=4", "--top=99", digits)
    np.testing.assert_allclose(probabilities(everything).sum(1), 1, rtol=1e-9)


def preprocessed(network, paths):
    """Files as the network sees them, [images, H, W, C] uint8."""
    return np.stack([network.preprocessing(open_image(path)) for path in paths])


def test_from_python_images_get_the_answers_of_the_command(run, digits, call):
    network = classifier.load_classifier(str(run))
    images = preprocessed(network, sorted(digits.iterdir()))
    printed, _ = call(f"--model={run}", "--top=3", digits)
    for one, classes in zip(printed["images"], network.most_probable(images, 3), strict=True):
        names, probabilities = zip(*classes, strict=True)
        assert list(names) == [c["name"] for c in one["classes"]]
        expected = [c["probability"] for c in one["classes"]]
        np.testing.assert_allclose(probabilities, expected, rtol=1e-4)
    assert len(network.most_probable(images[:1], 99)[0]) == 10


def test_weights_are_shown_an_image_as_they_say_and_name_the_classes(weights, photograph, call):
    printed, status = call(f"--model={weights}", photograph)
    assert status == 0
    assert {c["class"]: c["name"] for c in printed["images"][0]["classes"]} == dict(
        enumerate(("cat", "n2", "sea"))
    )
    image = Image.open(photograph).resize((64, 50), Image.Resampling.BICUBIC)
    image = np.asarray(image.crop((12, 5, 52, 45))) / 255
    image = (image - (0.5, 0.4, 0.3)) / (0.229, 0.224, 0.225)
    loaded = loading.load_pretrained(SMALL, weights)
    logits = jax.jit(loaded.model.apply)(loaded.variables, image[None].astype(np.float32))
    np.testing.assert_allclose(probabilities(printed), softmax(np.asarray(logits)), rtol=1e-4)


def test_with_mirror_images_their_mean_counts(run, digits, call, tmp_path):
    image = Image.open(digits / "00.png")
    image.save(tmp_path / "0.png")
    image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "1.png")
    alone, _ = call(f"--model={run}", "--top=10", tmp_path)
    both, _ = call(f"--model={run}", "--top=10", tmp_path, "--flip")
    mean = probabilities(alone).mean(0)
    np.testing.assert_allclose(probabilities(both), np.stack([mean, mean]), rtol=1e-4)


def test_another_size_and_crop_can_be_asked_for(weights, photograph):
    network = classifier.load_classifier(str(weights)).seen_at(50, 1.0)
    image = Image.open(photograph).resize((64, 50), Image.Resampling.BICUBIC)
    (seen,) = preprocessed(network, [photograph])
    np.testing.assert_array_equal(seen, image.crop((7, 0, 57, 50)))


def test_a_file_is_known_by_its_name(weights, tmp_path):
    tensors = weights / "model.safetensors"
    shutil.copy(tensors, tmp_path / "mobilenetv1_100.ra4_e3600_r224_in1k.safetensors")
    (file,) = tmp_path.iterdir()
    of_tag = classifier.load_classifier(str(file)).preprocessing
    assert (of_tag.image_shape, of_tag.mean) == ((224, 224, 3), (127.5,) * 3)
    shutil.copy(tensors, tmp_path / "mine.safetensors")
    with pytest.raises(InputError, match=r"nothing says which network .*mine.safetensors has"):
        classifier.load_classifier(str(tmp_path / "mine.safetensors"))


def test_what_cannot_be_read_is_named_and_the_rest_goes_on(run, digits, call, capsys, tmp_path):
    for path in sorted(digits.iterdir())[:3]:
        shutil.copy(path, tmp_path)
    whole, _ = call(f"--model={run}", tmp_path)
    (tmp_path / "01.png").write_bytes(b"no image")
    for batch in (1, 32):
        printed, status = call(f"--model={run}", tmp_path, f"--batch_size={batch}")
        assert status == 1
        (error,) = (one for one in printed["images"] if "error" in one)
        assert error["image"] == str(tmp_path / "01.png")
        assert "is no image of a format that can be read" in error["error"]
        whole["images"][1] = error
        for one, before in zip(printed["images"], whole["images"], strict=True):
            assert [c["class"] for c in one.get("classes", ())] == [
                c["class"] for c in before.get("classes", ())
            ]
    with pytest.raises(SystemExit):
        predict.main(["predict", f"--model={run}", str(tmp_path / "01.png")])
    assert "no answer for 1 of 1 image" in capsys.readouterr().err


def test_gates_and_maps_are_those_of_the_network(run, digits, call, tmp_path):
    """Two images in different folders have the same name."""
    (tmp_path / "more").mkdir()
    shutil.copy(digits / "03.png", tmp_path / "more" / "02.png")
    files = [digits / "02.png", tmp_path / "more" / "02.png"]
    printed, status = call(f"--model={run}", *files, "--gates", f"--cam={tmp_path / 'maps'}")
    assert status == 0
    network = classifier.load_classifier(str(run))
    images = network.preprocessing.normalize(preprocessed(network, files))
    once = functools.partial(jax.jit, static_argnums=0)
    expected = once(gates_of)(network.model, network.variables, images)
    for place, one in enumerate(printed["images"]):
        assert list(one["gates"]) == list(expected)
        for name, gates in one["gates"].items():
            np.testing.assert_allclose(gates, expected[name][place], rtol=1e-5)
    first = np.array([one["classes"][0]["class"] for one in printed["images"]])
    heat = np.asarray(once(grad_cam)(network.model, network.variables, images, first))
    names = [one["cam"] for one in printed["images"]]
    assert names == [str(tmp_path / "maps" / f"02_cam{n}.png") for n in ("", "-2")]
    for file, name, hot in zip(files, names, heat, strict=True):
        picture = np.asarray(Image.open(name)).astype(int)
        below = np.asarray(Image.open(file))[..., None].repeat(28, 0).repeat(28, 1)
        coloured = np.abs(picture - below).sum(-1)
        top, left = np.unravel_index(hot.argmax(), hot.shape)
        middle = [int((place + 0.5) * 224 / hot.shape[0]) for place in (top, left)]
        assert coloured[middle[0], middle[1]] > 50
        assert (picture.shape, coloured.shape) == ((224, 224, 3), (224, 224))


def test_tables_are_for_people(run, digits, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    predict.main(["predict", f"--model={run}", str(digits / "00.png"), "--top=2", "--gates"])
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 80 for line in lines)
    text = "\n".join(lines)
    assert text.count("%") >= 2 + 2 * 2  # two classes; of two blocks what is open and shut
    for block in ("stage2/block1", "stage3/block1"):
        assert block in text


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("x.png",), "give a network, e.g. --model=seresnet50.ra2_in1k"),
        (("--model=x",), "give images or folders of images"),
        (("--model=x", "--top=0", "x"), "--top must be at least 1, not 0"),
        (("--model=x", "--batch_size=-1", "x"), "--batch_size must be at least 1, not -1"),
        (("--model=x", "--eval_crop=2", "x"), "--eval_crop must be above 0 and at most 1, not 2"),
        (("--model=x", "--cam=/dev/null/x", "x"), "--cam /dev/null/x cannot be written"),
        (("--model=x", "/nope.png"), "there is no image /nope.png"),
        (("--model=x", "--tpo=3", "x"), "Unknown command line flag 'tpo'"),
        (("--model=seresnet5O", "IMAGE"), "'seresnet5O' is no network of timm's that is here"),
        (("--model=/dev/null", "IMAGE"), "weights are read from .safetensors files, not from null"),
        (("--model=seresnet50.nope", "IMAGE"), "timm publishes no weights 'seresnet50.nope'"),
        (("--model=timm/seresnet50.ra2_in1k", "IMAGE"), "HF_HUB_OFFLINE is set"),
        (("--model=seresnet50.ra2_in1k", "--weights=ema", "IMAGE"), "only runs have other weights"),
        (("--model=WEIGHTS", "--gates", "IMAGE"), "as SE blocks have, so there are no --gates"),
        (("--model=RUN", "--weights=ema", "IMAGE"), "has no moving averages"),
    ],
)
def test_bad_input_is_a_sentence(arguments, sentence, run, weights, photograph):
    paths = {"RUN": run, "WEIGHTS": weights, "IMAGE": photograph}
    filled_in = []
    for argument in arguments:
        for word, value in paths.items():
            argument = argument.replace(word, str(value))
        filled_in.append(argument)
    with pytest.raises(InputError, match=sentence) as caught:
        predict.main(["predict", *filled_in])
    assert "\n" not in str(caught.value)


def test_the_classes_of_imagenet_have_names():
    from senet_jax.weights import class_names

    names = class_names.names_of_classes({}, 1000)
    # Russakovsky et al. 2015; the order is that of the sorted synsets.
    assert list(class_names.imagenet()) == sorted(class_names.imagenet())
    assert (names[0], names[281], names[999]) == ("tench", "tabby", "toilet tissue")
    assert len(set(names)) == 1000
    assert class_names.readable(["n02123045", "other"]) == ("tabby", "other")
    assert class_names.names_of_classes({}, 3) == ("0", "1", "2")
