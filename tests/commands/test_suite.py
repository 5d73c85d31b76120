"""Suites of test sets: made, evaluated, and compared between two networks."""

import json
import shutil
import types

import numpy as np
import pytest
from helpers.runs import finish_untrained, tiny_config
from PIL import Image

from senet_jax import corrupt, evaluate
from senet_jax.data import corruptions
from senet_jax.data.corruptions import KINDS, MAIN
from senet_jax.errors import InputError
from senet_jax.inference import ensemble, robustness, suites
from senet_jax.inference.robustness import evaluate_suite
from senet_jax.system import files
from senet_jax.weights.class_names import imagenet

pytestmark = pytest.mark.usefixtures("_leave_the_process_as_it_is")
SOME = ("contrast", "gaussian_noise", "saturate")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Images of three colours as files, 32 pixels each."""
    root = tmp_path_factory.mktemp("colours")
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 6)):
        for place, name in enumerate(("blue", "green", "red")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 120, (32, 32, 3), np.uint8)
                pixels[..., 2 - place] += 120
                Image.fromarray(pixels).save(folder / f"{number}.png")
    return f"folder:{root}"


@pytest.fixture(scope="module")
def runs(dataset, tmp_path_factory):
    """Two networks that were never trained."""
    directory = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        config = tiny_config()
        config.seed = seed
        config.data.update(name=dataset, train_split="train", eval_split="test")
        if seed:
            config.model.se.ratio = 2
        finish_untrained(directory / f"run{seed}", config)
    return directory / "run0", directory / "run1"


@pytest.fixture(scope="module")
def suite(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("suite")
    flags = [f"--dataset={dataset}", f"--output={folder}", f"--kinds={','.join(SOME)}"]
    corrupt.main(["corrupt", *flags])
    return folder


def call(*arguments):
    evaluate.main(["evaluate", *map(str, arguments)])


def test_the_same_command_writes_the_same_suite(suite, dataset, tmp_path):
    corrupt.write(tmp_path, dataset, "test", ["contrast"])
    assert (tmp_path / "contrast.npy").read_bytes() == (suite / "contrast.npy").read_bytes()
    images, labels = (np.load(suite / f"{name}.npy") for name in ("contrast", "labels"))
    assert images.shape == (5 * 18, 32, 32, 3)
    np.testing.assert_array_equal(labels.reshape(5, 18), np.tile(labels[:18], (5, 1)))
    about = json.loads((suite / "suite.json").read_text())
    assert about["classes"] == ["blue", "green", "red"]
    assert about["sha256"].keys() == {*(f"{kind}.npy" for kind in SOME), "labels.npy"}


def test_two_networks_are_compared_and_what_is_not_here_is_named(suite, runs, capsys):
    with pytest.raises(InputError, match=r"sets left out; .*gaussian_blur\.npy cannot be read"):
        call(f"--suite=cifar100c:{suite}", f"--workdir={runs[0]}", f"--against={runs[1]}", "--json")
    result = json.loads(capsys.readouterr().out)
    assert len(result["missing"]) == len(KINDS) - len(SOME)
    assert [(row["set"], row["severity"]) for row in result["sets"]] == [
        (kind, severity) for kind in KINDS if kind in SOME for severity in range(1, 6)
    ]
    # Over those that the paper averages over.
    main = [row for row in result["sets"] if row["set"] in MAIN]
    mean = np.mean([row["errors"] for row in main], axis=0)
    np.testing.assert_allclose(result["mean_corruption_error"], mean)
    low, high = result["difference"]["interval"]
    assert result["difference"]["mean"] == pytest.approx(mean[0] - mean[1])
    assert low <= result["difference"]["mean"] <= high


def test_a_network_is_traced_once_for_all_sets(suite, runs, monkeypatch):
    make, traced = ensemble.make_logits_step, []

    def counting(*arguments, **fields):
        step = make(*arguments, **fields)
        return lambda *values: traced.append(1) or step(*values)

    monkeypatch.setattr(ensemble, "make_logits_step", counting)
    ensemble._program.cache_clear()
    assert len(evaluate_suite(f"cifar100c:{suite}", [runs[0]])["sets"]) == 5 * len(SOME)
    assert traced == [1]


def test_errors_are_those_of_the_images_alone(suite, runs, tmp_path, dataset):
    """A suite whose corruptions do nothing has the errors of the dataset."""
    from senet_jax import data, evaluate_runs

    split, _ = data.load_split(dataset, "test")
    np.save(tmp_path / "fog.npy", np.concatenate([np.asarray(split.image)] * 5))
    np.save(tmp_path / "labels.npy", np.tile(split.label, 5))
    result = evaluate_suite(f"cifar10c:{tmp_path}", [runs[0]])
    error = evaluate_runs(runs[0])["top1_error"]
    assert [row["errors"] for row in result["sets"]] == [[pytest.approx(error)]] * 5
    assert "difference" not in result
    words = robustness.in_words(result)
    assert f"mean corruption error over 1 kinds: {error:.2f}" in words


@pytest.mark.parametrize("cut", [slice(20, None), slice(10), slice(1, 21)])
def test_images_that_are_not_the_same_at_each_severity_are_refused(cut, suite, runs, tmp_path):
    """A part of the files would be taken for images of all severities."""
    for path in suite.glob("*.npy"):
        np.save(tmp_path / path.name, np.load(path)[cut])
    with pytest.raises(InputError, match=r"image \d+ has label \d+ at severity 1 and \d+ at sev"):
        evaluate_suite(f"cifar100c:{tmp_path}", [runs[0]])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--suite=cifar100d",), "--suite takes imagenet, cifar10c, cifar100c.* not 'cifar100d'"),
        (("--suite=cifar100c",), r"needs a folder.*senet_jax\.corrupt"),
        (("--suite=cifar10c:/nowhere",), "/nowhere is no folder"),
        (("--suite=imagenet",), "imagenet_v2, imagenet_a.*: the suite is for ImageNet's 1,000"),
        (("--suite=cifar10c", "--split=test"), "--split has no effect with --suite"),
        (("--suite=cifar10c", "--workdir=y"), "--suite takes one --workdir, and another run as"),
        (("--against=y",), "--against is for --suite"),
    ],
)
def test_what_cannot_be_is_a_sentence(runs, arguments, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        call(f"--workdir={runs[0]}", *arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("classes", "sentence"),
    [
        (["red", "green", "blue"], "has other classes than .*run0"),
        (["blue", "green", "red", "white"], "has 4 classes, and .*run0 3"),
        (["blue", "green"], "has 2 classes, and .*run0 3"),
    ],
)
def test_a_suite_of_other_classes_is_refused(suite, runs, tmp_path, classes, sentence):
    shutil.copytree(suite, tmp_path / "copy")
    about = json.loads((suite / "suite.json").read_text()) | {"classes": classes}
    (tmp_path / "copy" / "suite.json").write_text(json.dumps(about))
    with pytest.raises(InputError, match=sentence):
        evaluate_suite(f"cifar100c:{tmp_path / 'copy'}", [runs[0]])


def test_a_suite_of_images_that_a_network_was_trained_on_is_said_to_be(
    suite, runs, dataset, tmp_path, capsys
):
    evaluate_suite(f"cifar100c:{suite}", [runs[0]])
    assert "too good" not in capsys.readouterr().err
    corrupt.write(tmp_path, dataset, "train[:10]+test", ["contrast"])
    evaluate_suite(f"cifar100c:{tmp_path}", [runs[0]])
    said = capsys.readouterr().err
    assert "warning: 10 of the images that cifar100c:" in said
    assert f"that {runs[0]} was trained on: its errors are too good" in said


@pytest.mark.parametrize("name", ["labels", "contrast"])
def test_a_file_of_a_suite_that_has_changed_is_named(suite, runs, tmp_path, name):
    shutil.copytree(suite, tmp_path / "copy")
    path = tmp_path / "copy" / f"{name}.npy"
    np.save(path, np.roll(np.load(path), 1, axis=0))
    with pytest.raises(InputError, match=rf"{name}\.npy has changed since") as caught:
        call(f"--suite=cifar100c:{path.parent}", f"--workdir={runs[0]}")
    assert ("no set of the suite" in str(caught.value)) == (name == "labels")


def test_a_kind_that_was_put_beside_a_suite_is_named(suite, runs, tmp_path, capsys):
    """Its labels may be others."""
    shutil.copytree(suite, tmp_path / "copy")
    shutil.copy(suite / "contrast.npy", tmp_path / "copy" / "fog.npy")
    with pytest.raises(InputError, match=r"fog\.npy is not of the suite that"):
        call(f"--suite=cifar100c:{tmp_path / 'copy'}", f"--workdir={runs[0]}", "--json")
    assert "fog" not in {row["set"] for row in json.loads(capsys.readouterr().out)["sets"]}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "give --dataset"),
        (("--dataset=digits",), "give --output"),
        (("--dataset=digits", "--output={}"), "images of 32 x 32 x 3, and digits's are 8 x 8 x 1"),
        (("--dataset=x", "--output={}", "--kinds=foog"), "'foog' is no corruption; .*'fog'"),
    ],
)
def test_what_cannot_be_corrupted_is_a_sentence(tmp_path, arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        corrupt.main(["corrupt", *(argument.format(tmp_path / "x") for argument in arguments)])
    assert not (tmp_path / "x").exists()


def test_a_suite_of_another_dataset_stays(suite, dataset):
    with pytest.raises(InputError, match=r"has a suite of folder:.*another --output"):
        corrupt.write(suite, dataset, "train")


def test_kinds_of_images_that_have_changed_are_not_added(dataset, tmp_path):
    """Each kind has the same labels, in the same order."""
    root = tmp_path / "images"
    shutil.copytree(dataset.removeprefix("folder:"), root)
    corrupt.write(tmp_path / "suite", f"folder:{root}", "test", ["contrast"])
    labels = (tmp_path / "suite" / "labels.npy").read_bytes()
    one, other = (root / "test" / name / "0.png" for name in ("blue", "red"))
    one.rename(root / "x"), other.rename(one), (root / "x").rename(other)
    with pytest.raises(InputError, match="other originals: choose another --output"):
        corrupt.write(tmp_path / "suite", f"folder:{root}", "test", ["saturate"])
    assert (tmp_path / "suite" / "labels.npy").read_bytes() == labels


def test_arrays_of_which_nothing_says_what_they_are_of_are_not_signed(suite, dataset, tmp_path):
    """Such as a suite that somebody else has published, whose labels are in another order."""
    folder = tmp_path / "published"
    shutil.copytree(suite, folder)
    (folder / "suite.json").unlink()
    labels = (folder / "labels.npy").read_bytes()
    with pytest.raises(InputError, match=r"has .*\.npy, and no suite\.json.*another --output"):
        corrupt.write(folder, dataset, "train", ["fog"])
    assert (folder / "labels.npy").read_bytes() == labels


def test_a_suite_that_was_interrupted_says_what_it_is_of(dataset, tmp_path, monkeypatch):
    whole = corruptions.corrupt

    def interrupted(image, kind, severity, place):
        if kind == "brightness":
            raise KeyboardInterrupt
        return whole(image, kind, severity, place)

    monkeypatch.setattr(corruptions, "corrupt", interrupted)
    with pytest.raises(KeyboardInterrupt):
        corrupt.write(tmp_path, dataset, "test", ["contrast", "brightness"])
    monkeypatch.undo()
    with pytest.raises(InputError, match=r"has a suite of folder:.* with other split"):
        corrupt.write(tmp_path, dataset, "train", ["brightness"])
    corrupt.write(tmp_path, dataset, "test", ["brightness"])
    signed = json.loads((tmp_path / "suite.json").read_text())["sha256"]
    assert signed == {path.name: files.sha256(path) for path in sorted(tmp_path.glob("*.npy"))}


def test_a_damaged_kind_is_not_signed_with_another_one(suite, dataset, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(suite, folder)
    np.save(folder / "contrast.npy", np.roll(np.load(folder / "contrast.npy"), 1, axis=0))
    corrupt.write(folder, dataset, "test", ["saturate"])
    signed = json.loads((folder / "suite.json").read_text())["sha256"]
    assert signed["contrast.npy"] == files.sha256(suite / "contrast.npy")
    assert signed["saturate.npy"] == files.sha256(folder / "saturate.npy")


@pytest.mark.parametrize(
    ("suite", "dataset", "names", "doubt"),
    [
        ("cifar10c", "cifar10:3.0.2", range(10), ""),
        ("cifar10c", "folder:mine", range(10), "was trained on folder:mine, not on cifar10"),
        ("cifar100c:PATH", "folder:mine", range(100), "not on cifar100"),
        ("imagenet", "imagenet2012", imagenet().values(), ""),
        ("imagenet", "folder:mine", sorted(imagenet().values()), "differ: class 0 is 'tench' and"),
    ],
)
def test_classes_that_may_be_others_are_said(suite, dataset, names, doubt, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    suite = suite.replace("PATH", str(tmp_path))
    member = types.SimpleNamespace(
        name="run", class_names=tuple(map(str, names)), config={"data": {"name": dataset}}
    )
    found = suites.doubt(suite, member)
    assert doubt in found
    assert bool(found) == bool(doubt)
