"""Accuracies on a folder of images, of weights in a folder: no hub, no ImageNet."""

import csv

import jax
import numpy as np
import pytest
from helpers.weights import state_dict
from PIL import Image
from safetensors.numpy import save_file

from experiments import timm_accuracy
from senet_jax.errors import InputError
from senet_jax.inference.preprocessing import Preprocessing
from senet_jax.weights import loading
from senet_jax.weights.timm import weights

TAG = "resnet18.tv_in1k"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder of weights and one of five images."""
    root = tmp_path_factory.mktemp("published")
    (root / "weights").mkdir()
    state = state_dict("resnet18", num_classes=7)
    save_file(state, root / "weights" / f"{TAG}.safetensors")
    random = np.random.default_rng(0)
    (root / "images").mkdir()
    for number in range(5):
        pixels = random.integers(0, 256, (60 + number, 70, 3), np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{number}.png")
    return root


def run(folders, *flags):
    timm_accuracy.main(["", TAG, f"--weights={folders / 'weights'}", "--batch=5", *flags])


def test_published_rows_are_of_weights_that_are_here():
    rows = timm_accuracy.timm_accuracies()
    assert {row.weights for row in rows} <= weights().keys()
    by_pixels = {row.pixels: row for row in rows if row.weights == "seresnet50.a1_in1k"}
    # timm's results/results-imagenet.csv
    assert by_pixels[224] == timm_accuracy.TimmAccuracy(
        "seresnet50.a1_in1k", 224, 0.95, "bicubic", 80.012, 94.704
    )
    assert by_pixels[288].crop_pct == 1


def test_accuracies_are_those_of_the_logits(folders, tmp_path, capsys):
    loaded = loading.load_pretrained(TAG, folders / "weights" / f"{TAG}.safetensors")
    (row,) = (row for row in timm_accuracy.timm_accuracies() if row.weights == TAG)
    shown = Preprocessing.of_weights(row.images(loaded.image_spec))
    files = [folders / "images" / f"{number}.png" for number in range(5)]
    images = shown.normalize(np.stack([timm_accuracy.read(file, shown) for file in files]))
    ranks = np.argsort(-np.asarray(jax.jit(loaded.model.apply)(loaded.variables, images)), axis=-1)
    # The first three are labelled with their best class, then one with its second, one its last.
    labels = [*ranks[:3, 0], ranks[3, 1], ranks[4, 6]]
    lines = [f"{number}.png {label}\n" for number, label in enumerate(labels)]
    (tmp_path / "labels").write_text("".join(lines))
    run(
        folders,
        f"--images={folders / 'images'}",
        f"--labels={tmp_path / 'labels'}",
        f"--csv={tmp_path / 'rows.csv'}",
    )
    with (tmp_path / "rows.csv").open() as file:
        (line,) = csv.DictReader(file)
    assert (line["pixels"], line["images"]) == ("224", "5")
    assert (float(line["top1"]), float(line["top5"])) == (60.0, 80.0)
    assert float(line["timm_top1"]) == 69.752
    assert "top-1 60.000 %, timm's 69.752 %" in capsys.readouterr().out


def test_folders_of_classes_are_numbered_in_order(tmp_path):
    for name in ("n02", "n01", "n03"):
        (tmp_path / name).mkdir()
        Image.new("L", (8, 8)).save(tmp_path / name / "x.JPEG")
    (tmp_path / "n03" / "notes.txt").write_text("")
    examples, classes = timm_accuracy.find_images(tmp_path, None)
    assert classes == 3
    assert [(path.parent.name, label) for path, label in examples] == [
        ("n01", 0),
        ("n02", 1),
        ("n03", 2),
    ]


def test_no_photograph_of_a_class_is_left_out(tmp_path):
    """Whatever its suffix, in folders within the class, too; hidden folders are no classes."""
    places = ("n1/a.png", "n1/b.JPE", "n1/c.gif", "n1/d", "n1/images/e.png", "n2/f.tif")
    for place in (*places, ".cache/g.png"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8)).save(tmp_path / place, "PNG")
    (tmp_path / "n3").mkdir()
    examples, classes = timm_accuracy.find_images(tmp_path, None)
    assert classes == 3
    assert [str(path.relative_to(tmp_path)) for path, _ in examples] == [*places]
    assert [label for _, label in examples] == [0] * 5 + [1]


@pytest.mark.parametrize("limit", [1, 3, 4, 5, 9])
def test_a_limit_is_the_number_of_images(limit, folders, tmp_path, monkeypatch):
    (tmp_path / "labels").write_text("".join(f"{number}.png 0\n" for number in range(5)))
    taken = []

    def spy(row, source, examples, classes, batch):
        taken.extend(path.stem for path, _ in examples)
        raise InputError("that is all")

    monkeypatch.setattr(timm_accuracy, "evaluate", spy)
    images = (f"--images={folders / 'images'}", f"--labels={tmp_path / 'labels'}")
    with pytest.raises(InputError):
        run(folders, *images, f"--limit={limit}")
    assert len(taken) == len({*taken}) == min(limit, 5)


def test_folders_with_numbers_are_in_their_order(tmp_path):
    for name in ("10", "2", "1"):
        (tmp_path / name).mkdir()
        Image.new("L", (8, 8)).save(tmp_path / name / "x.png")
    examples, _ = timm_accuracy.find_images(tmp_path, None)
    assert [path.parent.name for path, _ in examples] == ["1", "2", "10"]


def test_what_cannot_be_evaluated_is_said_in_a_sentence(folders, tmp_path, capsys):
    images = f"--images={folders / 'images'}"
    with pytest.raises(InputError, match="give a folder of images"):
        run(folders)
    with pytest.raises(InputError, match="there is no folder of images /nope"):
        run(folders, "--images=/nope")
    with pytest.raises(InputError, match="has no folders of images, one per class"):
        run(folders, images)
    with pytest.raises(InputError, match=r"has no accuracy of 'seresnet5x'; did you mean"):
        timm_accuracy.main(["", "seresnet5x", images])
    (tmp_path / "labels").write_text("0.png 1\n9.png 1\n")
    with pytest.raises(InputError, match=r"line 2 of .*labels is no file of .*: '9.png 1'"):
        run(folders, images, f"--labels={tmp_path / 'labels'}")
    for again in ("0.png 2", "./0.png 1"):  # it would count twice
        (tmp_path / "labels").write_text(f"0.png 1\n{again}\n")
        with pytest.raises(InputError, match=r"line 2 of .*labels names 0.png again"):
            run(folders, images, f"--labels={tmp_path / 'labels'}")
    (tmp_path / "only").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "only" / "x.png")
    with pytest.raises(InputError, match="1 of 1 were not evaluated"):
        run(folders, f"--images={tmp_path}")
    assert "it knows 7 classes and the images are in 1 folders" in capsys.readouterr().err
    with pytest.raises(InputError, match="1 of 1 were not evaluated"):
        timm_accuracy.main(["", TAG, f"--images={tmp_path}"])
    assert "not in the hub's cache, and HF_HUB_OFFLINE is set" in capsys.readouterr().err
