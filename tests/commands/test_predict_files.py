"""The command, and files that are missing, silent or its own, and images of four channels."""

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
from helpers.weights import fill
from PIL import Image

from senet_jax import predict
from senet_jax.data.image_files import open_image
from senet_jax.data.image_search import find_images
from senet_jax.errors import Terminated
from senet_jax.inference import classifier, image_answers
from senet_jax.inference.preprocessing import Preprocessing
from senet_jax.models import create_model
from senet_jax.system import readers

pytestmark = pytest.mark.usefixtures("_leave_the_process_as_it_is")


def test_what_is_missing_or_no_file_is_named_and_the_rest_goes_on(run, digits, call, tmp_path):
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    inputs = [tmp_path / "nope.png", digits / "00.png", tmp_path / "empty", tmp_path / "pipe.png"]
    printed, status = call(f"--model={run}", "--top=1", *inputs)
    assert status == 1
    assert [one["image"] for one in printed["images"]] == [str(path) for path in inputs]
    missing, answer, empty, pipe = printed["images"]
    assert "No such file" in missing["error"]
    assert "it is a folder, from which no image was taken" in empty["error"]
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
    expected = network.most_probable(preprocessing(open_image(paths[1]))[None], 3)[0]
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
    other = folder / "sub" / "a.png"  # asked alone, it keeps its own; another of its name has none
    assert str(image_answers.map_files([other], folder)[other]) == maps[images.index(other)]
    elsewhere = tmp_path / "a.png"
    assert str(image_answers.map_files([elsewhere], folder)[elsewhere]) not in maps


def test_names_that_break_lines_or_have_no_letters_here_stay_on_theirs(monkeypatch):
    assert predict.legible(Path("a\nb\x1b[31m\u043a.png")) == "a?b?[31m\u043a.png"
    assert predict.legible(os.fsdecode(b"\xff.png")) == "?.png"
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "ascii"))
    assert predict.legible("\u043a.png") == "?.png"
