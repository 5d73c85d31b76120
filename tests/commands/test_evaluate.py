"""The command that evaluates runs is exact, whatever the views, the networks and the devices."""

import csv
import hashlib
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import scipy.special
from helpers.photos import BROKEN, COUNT
from helpers.runs import photos_config, tiny_config

from senet_jax import evaluate
from senet_jax.errors import InputError
from senet_jax.inference.ensemble_members import load_members
from senet_jax.inference.ensemble_views import TestViews, load_feeds
from senet_jax.inference.trained_run import load_run
from senet_jax.models.shapes import side
from senet_jax.training.loop import train_and_evaluate


@pytest.fixture(autouse=True)
def _leave_the_process_as_it_is(monkeypatch):
    monkeypatch.setattr("senet_jax.system.compilation_cache.enable", lambda: None)
    monkeypatch.setattr("senet_jax.system.host_memory.release_after_compilation", lambda: None)


def train(config, directory):
    return directory, train_and_evaluate(config, directory, jax.local_devices()[:1])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on digits, with moving averages and more than one checkpoint."""
    config = tiny_config()
    config.train.update(ema_decay=0.5, keep_best=True, checkpoint_every_steps=4, epochs=3.0)
    return train(config, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """A run of a different network on digits, without moving averages."""
    config = tiny_config()
    config.seed = 1
    config.model.se.ratio = 1
    config.train.epochs = 1.0
    return train(config, tmp_path_factory.mktemp("other"))


@pytest.fixture(scope="module")
def streamed(tmp_path_factory):
    return train(photos_config(), tmp_path_factory.mktemp("streamed"))


@pytest.fixture
def call(capsys):
    def called(*arguments):
        capsys.readouterr()
        evaluate.main(["evaluate", *arguments, "--json"])
        return json.loads(capsys.readouterr().out)

    return called


def agrees(evaluated, result, kind="eval"):
    for name in ("top1_error", "top5_error", "examples"):
        assert evaluated[name] == result[f"{kind}/{name}"], name
    # The run's step added up in float32.
    assert evaluated["loss"] == pytest.approx(result[f"{kind}/loss"], rel=1e-5)


@pytest.mark.parametrize("arguments", [(), ("--batch_size=7",)])
def test_one_network_as_it_was_trained_gives_its_own_evaluation(run, call, arguments):
    """It was trained on one device and is evaluated on four; batches do not divide by them."""
    directory, result = run
    evaluated = call(f"--workdir={directory}", *arguments)
    agrees(evaluated, result)
    (member,) = evaluated["members"]
    agrees(member, result)
    assert (member["step"], member["image_sizes"], evaluated["split"]) == (12, [8], "test[:50]")


def test_streamed_images_too_and_those_that_cannot_be_decoded_are_counted(streamed, call):
    directory, result = streamed
    evaluated = call(f"--workdir={directory}")
    agrees(evaluated, result)
    assert (evaluated["examples"], evaluated["unreadable"]) == (COUNT - len(BROKEN), len(BROKEN))


def test_moving_averages_are_evaluated_as_in_training(run, call):
    directory, result = run
    agrees(call(f"--workdir={directory}", "--weights=ema"), result, "eval_ema")


def test_the_best_weights_have_the_best_error(run, call):
    directory, result = run
    evaluated = call(f"--workdir={directory}", "--weights=best")
    assert evaluated["top1_error"] == result["best_top1_error"]
    assert evaluated["members"][0]["step"] == result["best_step"]


def test_a_network_with_itself_is_itself(run, call):
    directory, _ = run
    alone = call(f"--workdir={directory}", "--flip")
    twice = call(f"--workdir={directory}", f"--workdir={directory}", "--flip")
    for name in ("loss", "top1_error", "top5_error", "examples"):
        assert twice[name] == pytest.approx(alone[name], rel=1e-12)
        assert [member[name] for member in twice["members"]] == [alone[name]] * 2


def alone(directory):
    """The plain model of a run, images to probabilities, and the evaluation set of the run."""
    trained = load_run(directory)
    variables = jax.device_get(trained.state.variables)
    apply = jax.jit(
        lambda images: trained.run.model.apply(variables, trained.run.normalize(images))
    )
    softmax = scipy.special.softmax
    return lambda images: softmax(np.float64(apply(images)), axis=-1), trained.run.dataset.eval


def test_an_ensemble_averages_probabilities_of_networks_and_mirror_images(
    run, other, call, tmp_path
):
    file = tmp_path / "predictions.csv"
    directories = [run[0], other[0]]
    workdirs = [f"--workdir={directory}" for directory in directories]
    evaluated = call(*workdirs, "--flip", f"--predictions={file}")
    (one, split), (two, _) = map(alone, directories)
    both = (split.image, split.image[:, :, ::-1])
    each = [np.mean([of(images) for images in both], axis=0) for of in (one, two)]
    expected, rows = np.mean(each, axis=0), read(file)
    of_label = expected[np.arange(50), split.label]
    assert evaluated["top1_error"] == 100 * (expected.argmax(1) != split.label).mean()
    assert evaluated["loss"] == pytest.approx(-np.log(of_label).mean(), rel=1e-5)
    for member, of_member in zip(evaluated["members"], each, strict=True):
        assert member["top1_error"] == 100 * (of_member.argmax(1) != split.label).mean()
    assert [int(row["index"]) for row in rows] == list(range(50))
    assert [int(row["label"]) for row in rows] == split.label.tolist()
    np.testing.assert_allclose([float(r["label_probability"]) for r in rows], of_label, rtol=1e-4)
    for row, of_classes in zip(rows, expected, strict=True):
        top = [int(row[f"top{place}"]) for place in range(1, 6)]
        assert top == np.argsort(-of_classes, kind="stable")[:5].tolist()
        assert row["top1_name"] == str(top[0])
        of_top = [float(row[f"top{place}_probability"]) for place in range(1, 6)]
        np.testing.assert_allclose(of_top, of_classes[top], rtol=1e-4)


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow(reason="compiles four programs; crops of each size are tested where they are cut")
def test_crops_and_sizes_are_averaged(streamed, call, tmp_path):
    """The reference is the plain model, on the crops as the data gives them."""
    directory, _ = streamed
    file = tmp_path / "predictions.csv"
    evaluated = call(
        *(f"--workdir={directory}", "--image_size=32,48", "--crops=10", "--eval_crop=0.75"),
        *("--split=with_broken", f"--predictions={file}"),
    )
    views = TestViews((32, 48), crops=10, eval_crop=0.75)
    (member,) = load_members([directory], "final", unfinished=False)
    probabilities, _ = alone(directory)
    of_views, label, readable = [], None, None
    for feed in load_feeds([member], "photos", "with_broken", views):
        (batch,) = feed.split.eval_batches(COUNT)
        label, readable = batch["label"], np.flatnonzero(batch["mask"])
        for crop in range(5):
            for mirrored in (1, -1):
                images = batch["image"][:, crop, :, ::mirrored]
                of_views.append(probabilities(images))
    of_label = np.mean(of_views, axis=0)[np.arange(COUNT), label][readable]
    assert len(of_views) == 20
    assert evaluated["examples"] == len(readable) == COUNT - len(BROKEN)
    assert evaluated["loss"] == pytest.approx(-np.log(of_label).mean(), rel=1e-5)
    rows = read(file)
    assert [int(row["index"]) for row in rows] == readable.tolist()
    np.testing.assert_allclose([float(r["label_probability"]) for r in rows], of_label, rtol=1e-4)
    assert evaluated["members"][0]["image_sizes"] == [32, 48]
    one = np.log(of_views[8][np.arange(COUNT), label][readable])
    assert abs(-one.mean() - evaluated["loss"]) > 1e-4  # so the comparison above can fail


def test_an_unfinished_run_is_evaluated_when_asked_to(run, call, tmp_path):
    directory, result = run
    shutil.copytree(directory, tmp_path / "cut")
    (tmp_path / "cut" / "result.json").unlink()
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / "12")
    with pytest.raises(InputError, match=r"is not finished.*--checkpoint=latest"):
        call(f"--workdir={tmp_path}/cut")
    evaluated = call(f"--workdir={tmp_path}/cut", "--checkpoint=latest")
    assert evaluated["members"][0]["step"] == 8
    agrees(call(f"--workdir={directory}", "--checkpoint=latest"), result)


def test_the_answer_in_words(run, other, capsys):
    directory, result = run
    evaluate.main(["evaluate", f"--workdir={directory}", "--flip", "--split=train[:30]"])
    first, second, third = capsys.readouterr().out.splitlines()
    assert first.startswith(
        f"seresnet20_cifar of {directory} (step 12), 8 pixels and mirror images"
    )
    assert first.endswith("on digits, split 'train[:30]'")
    assert second.endswith(", on 30 examples")
    assert third.startswith(f"30 of these are among those that {directory} was trained on")
    evaluate.main(["evaluate", f"--workdir={directory}", f"--workdir={other[0]}"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "ensemble of 2, on digits, split 'test[:50]'"
    assert f"top-1 error {result['eval/top1_error']:.2f} %" in lines[2]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "give the work directory of a run"),
        (("--workdir=x", "y"), "unexpected argument 'y'"),
        (("--workdir=x",), r"x has no config\.json"),
        (("--workdir=x", "--crops=5"), "--crops must be 1 or 10, not 5"),
        (("--workdir=x", "--eval_crop=2"), "--eval_crop must be above 0 and at most 1"),
        (("--workdir=x", "--image_size=large"), "--image_size takes whole numbers.*not large"),
        (("--workdir=x", "--image_size=0"), "--image_size must be at least 1 pixel, not 0"),
        (("--workdir=x", "--batch_size=0"), "--batch_size must be at least 1, not 0"),
        (("--workdir=x", "--weights=bset"), "weights"),
        (("--workdir=x", "--predictions=/nowhere/x.csv"), "/nowhere is no writable directory"),
        (("--workdir=x", "--predictions=/"), "it is a directory"),
        (("--workdir={run}", "--split=tset"), "no examples in split 'tset'; its splits are"),
        (("--workdir={run}", "--dataset=digtis"), "did you mean 'digits'"),
        (("--workdir={run}", "--image_size=16"), "--image_size is for images that are streamed"),
        (
            ("--workdir={run}", "--crops=10"),
            "for images.*whole images of 8 x 8 pixels",
        ),
        (("--workdir={run}", "--dataset=fake"), "'fake' has 1000 classes, but .* on the 10 of"),
        (("--workdir={other}", "--weights=ema"), r"no moving averages: its train\.ema_decay is 0"),
        (("--workdir={streamed}", "--weights=best"), "kept with train.keep_best=True"),
        (
            ("--workdir={streamed}", "--dataset=digits", "--split=test"),
            "has 10 classes, but .* the 60 of 'photos'",
        ),
        (("--workdir={run}", "--workdir={streamed}"), "must have the same classes"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_evaluated_is_refused_with_a_sentence(
    request, arguments, sentence, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    names = [name for name in ("run", "other", "streamed") if f"{{{name}}}" in str(arguments)]
    directories = {name: request.getfixturevalue(name)[0] for name in names}
    if "best" in str(arguments):  # as if an earlier evaluation had been better
        directories["streamed"] = with_an_earlier_best(directories["streamed"], tmp_path)
    filled_in = [argument.format(**directories) for argument in arguments]
    with pytest.raises(InputError, match=sentence) as caught:
        evaluate.main(["evaluate", *filled_in])
    assert "\n" not in str(caught.value)


def test_a_batch_of_more_examples_than_there_are_is_one_of_all(run, call):
    directory, result = run
    agrees(call(f"--workdir={directory}", "--batch_size=1000000000000"), result)


def with_an_earlier_best(directory, tmp_path):
    copied = shutil.copytree(directory, tmp_path / "copy")
    (notes,) = Path(copied).glob("checkpoints/*/notes.json")
    content = json.loads(notes.read_text()) | {"best": [1.0, 1]}
    notes.write_text(json.dumps(content))
    listed = notes.with_name("SHA256SUMS")
    lines = [line for line in listed.read_text().splitlines(True) if "notes.json" not in line]
    lines.append(f"{hashlib.sha256(notes.read_bytes()).hexdigest()}  notes.json\n")
    listed.write_text("".join(lines))
    return copied


def test_images_that_are_not_square_have_height_and_width():
    sizes = [side(shape) for shape in ((24, 32, 3), (24, 24, 3))]
    assert sizes == [[24, 32], 24]
    member = {"model": "x", "workdir": "y", "step": 1, "image_sizes": sizes}
    words = evaluate.network(member, {"weights": "final", "crops": 1, "flip": False})
    assert words.endswith("24 x 32 and 24 pixels")
