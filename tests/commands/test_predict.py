"""The command that says what is in image files: with runs, with weights, and with neither."""

import functools
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers.runs import finish_untrained, tiny_config
from helpers.weights import fill, state_dict
from PIL import Image
from safetensors.numpy import save_file
from scipy.special import softmax

from senet_jax import data, evaluate, predict
from senet_jax.errors import InputError, Terminated
from senet_jax.inference import classifier, image_answers
from senet_jax.inference.explain import grad_cam
from senet_jax.inference.gated_blocks import gates_of
from senet_jax.inference.image_files import open_image
from senet_jax.inference.image_search import find_images
from senet_jax.inference.preprocessing import Preprocessing
from senet_jax.models import create_model
from senet_jax.system import readers
from senet_jax.weights import loading

SMALL = "mobilenetv1_100"


@pytest.fixture(autouse=True)
def _leave_the_process_as_it_is(monkeypatch):
    monkeypatch.setattr("senet_jax.system.compilation_cache.enable", lambda: None)
    monkeypatch.setattr("senet_jax.system.host_memory.release_after_compilation", lambda: None)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on digits."""
    directory = tmp_path_factory.mktemp("run")
    finish_untrained(directory, tiny_config())
    return directory


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The first images of the test split, as files."""
    folder = tmp_path_factory.mktemp("digits")
    for index, image in enumerate(data.load_dataset("digits", "train", "test").eval.image[:11]):
        Image.fromarray(image[..., 0]).save(folder / f"{index:02}.png")
    return folder


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


@pytest.fixture
def call(capsys):
    """Call the command: what it prints as JSON, and its exit status."""

    def called(*arguments):
        capsys.readouterr()
        status = 0
        try:
            predict.main(["predict", *map(str, arguments), "--json"])
        except SystemExit as ended:
            status = ended.code
        return json.loads(capsys.readouterr().out), status

    return called


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


@pytest.fixture(scope="module")
def photograph(tmp_path_factory):
    path = tmp_path_factory.mktemp("photograph") / "cat.png"
    coarse = np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8)
    Image.fromarray(coarse).resize((90, 70), Image.Resampling.BICUBIC).save(path)
    return path


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
    assert "1 of 1 images have no answer" in capsys.readouterr().err


def test_what_is_missing_or_no_file_is_named_and_the_rest_goes_on(run, digits, call, tmp_path):
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    inputs = [tmp_path / "nope.png", digits / "00.png", tmp_path / "empty", tmp_path / "pipe.png"]
    printed, status = call(f"--model={run}", "--top=1", *inputs)
    assert status == 1
    assert [one["image"] for one in printed["images"]] == [str(path) for path in inputs]
    missing, answer, empty, pipe = printed["images"]
    assert "No such file" in missing["error"]
    assert "it is a folder without images" in empty["error"]
    assert "it is a named pipe" in pipe["error"]
    assert len(answer["classes"]) == 1


@pytest.fixture
def silent(digits, tmp_path, monkeypatch):
    """A folder of five images, of which the fourth never answers; who has come so far is told."""
    folder = tmp_path / "silent"
    shutil.copytree(digits, folder, ignore=lambda _, names: sorted(names)[5:])
    never, reached = threading.Event(), threading.Event()

    def opened(path):
        if path.name == "03.png":
            reached.set()
            never.wait()
        return open_image(path)

    monkeypatch.setattr(image_answers, "open_image", opened)
    yield folder, reached
    never.set()


def test_a_file_that_never_answers_is_named_and_the_rest_goes_on(run, silent, call, monkeypatch):
    monkeypatch.setattr(readers, "PATIENCE", 0.3)
    printed, status = call(f"--model={run}", "--top=1", silent[0])
    assert status == 1
    errors = [one.get("error", "") for one in printed["images"]]
    assert errors[3].endswith("03.png cannot be read: no answer came within 0.3 seconds")
    assert errors[:3] + errors[4:] == [""] * 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_while_a_file_is_awaited_with_what_was_answered(
    run, silent, capsys, monkeypatch, number
):
    """The patience is an hour."""
    monkeypatch.setattr(readers, "PATIENCE", 3600.0)
    monkeypatch.setattr(image_answers.jax, "local_devices", lambda: jax.devices()[:1])
    folder, reached = silent

    def press():
        reached.wait()
        time.sleep(0.3)
        os.kill(os.getpid(), number)

    threading.Thread(target=press, daemon=True).start()
    with pytest.raises(KeyboardInterrupt) as ended:
        predict.main(["predict", f"--model={run}", "--batch_size=1", "--json", str(folder)])
    assert isinstance(ended.value, Terminated) == (number == signal.SIGTERM)
    printed = json.loads(capsys.readouterr().out)
    assert [one["image"][-6:] for one in printed["images"]] == ["00.png", "01.png", "02.png"]


@pytest.mark.slow(reason="starts the command three times")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, None])
def test_the_command_ends_while_a_file_is_awaited(run, digits, number):
    """In a process of its own, whose threads hang for good."""
    code = (
        "import sys, time\n"
        "from senet_jax.system import cli, readers, startup\n"
        "startup.begin(continues=False)\n"
        "from senet_jax import predict\n"
        "from senet_jax.inference import image_answers\n"
        "opened, scored, batches = image_answers.open_image, image_answers.best, []\n"
        "def best(*arguments):\n"
        "    batches.append(1)\n"
        "    return scored(*arguments)\n"
        "def silent(path):\n"
        "    if path.name == '03.png':\n"
        "        while len(batches) < 3:\n"
        "            time.sleep(0.1)\n"
        "        time.sleep(1)\n"
        "        print('silent', file=sys.stderr, flush=True)\n"
        "        time.sleep(3600)\n"
        "    return opened(path)\n"
        "image_answers.open_image, image_answers.best = silent, best\n"
        f"readers.PATIENCE = {5 if number is None else 3600}\n"
        "cli.run(predict.main, '')\n"
    )
    started = subprocess.Popen(
        [sys.executable, "-c", code, f"--model={run}", "--batch_size=1", "--json", digits],
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while started.stderr.readline() != "silent\n":
        assert started.poll() is None
    if number is not None:
        started.send_signal(number)
    out, _ = started.communicate(timeout=120)
    assert started.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143, None: 1}[number]
    answered = json.loads(out)["images"]
    assert len(answered) == (11 if number is None else 3)


def test_a_network_of_four_channels_is_asked_like_any_other(photograph, tmp_path):
    """Its answers, gates and maps, from files with transparency and without."""
    model = create_model("seresnet20_cifar", num_classes=3, stage_sizes=(1, 1, 1), width=4)
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 16, 16, 4), np.float32))
    preprocessing = Preprocessing((16, 16, 4), 1.0, "bilinear", (128.0,) * 4, (64.0,) * 4)
    network = classifier.Classifier("rgba", model, fill(shapes), preprocessing, ("a", "b", "c"))
    clear = Image.open(photograph).convert("RGBA")
    clear.putalpha(7)
    clear.save(tmp_path / "clear.png")
    clear.putalpha(255)
    clear.save(tmp_path / "opaque.png")
    paths = [photograph, tmp_path / "clear.png", tmp_path / "opaque.png"]
    question = image_answers.Question(3, gates=True, maps=tmp_path / "maps")
    solid, see_through, opaque = image_answers.answer_files(network, paths, 4, question)
    assert solid.probabilities == opaque.probabilities != see_through.probabilities
    expected = network.most_probable(preprocessed(network, paths[1:2]), 3)[0]
    named = [network.class_names[number] for number in see_through.classes]
    assert named == [name for name, _ in expected]
    np.testing.assert_allclose(see_through.probabilities, [p for _, p in expected], rtol=1e-4)
    assert see_through.gates
    with Image.open(see_through.map) as picture:
        assert (picture.mode, picture.size) == ("RGB", (224, 224))


def test_maps_are_no_input_the_next_time_and_take_no_other_file_s_place(
    run, digits, call, tmp_path
):
    folder, name = tmp_path / "photos", "n" * 251 + ".png"
    for path in ("a.png", "sub/a.png", "a_cam.png", name):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(digits / "00.png", folder / path)
    before = (folder / "a_cam.png").read_bytes()
    printed, status = call(f"--model={run}", "--top=1", folder, f"--cam={folder}")
    assert status == 0
    assert (folder / "a_cam.png").read_bytes() == before
    maps = [one["cam"] for one in printed["images"]]
    assert len({*maps}) == 4
    assert all(os.path.exists(path) for path in maps)
    images = [Path(one["image"]) for one in printed["images"]]
    assert find_images([str(folder)]) == images
    assert [*map(str, image_answers.map_files(images, folder).values())] == maps


def test_names_that_break_lines_or_have_no_letters_here_stay_on_theirs(monkeypatch):
    assert predict.legible(Path("a\nb\x1b[31m\u043a.png")) == "a?b?[31m\u043a.png"
    assert predict.legible(os.fsdecode(b"\xff.png")) == "?.png"
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "ascii"))
    assert predict.legible("\u043a.png") == "?.png"


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
        (("--model=WEIGHTS", "--gates", "IMAGE"), "has no SE blocks, so there are no --gates"),
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
