"""The command that evaluates runs: exact, whatever the views, the networks and the devices."""

import csv
import dataclasses
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
from senet_jax.evaluation.scores import Predicted, log_probabilities, sums
from senet_jax.evaluation.steps import classification_sums, make_logits_step
from senet_jax.inference import ensemble, trained
from senet_jax.inference.predictions import Predictions
from senet_jax.models import create_model
from senet_jax.training.loop import train_and_evaluate


@pytest.fixture(autouse=True)
def _leave_the_process_as_it_is(monkeypatch):
    monkeypatch.setattr("senet_jax.system.compilation_cache.enable", lambda: None)
    monkeypatch.setattr("senet_jax.system.host_memory.release_after_compilation", lambda: None)


def train(config, directory):
    return directory, train_and_evaluate(config, directory, jax.local_devices()[:1])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """On digits, with moving averages, and more than one checkpoint."""
    config = tiny_config()
    config.train.update(ema_decay=0.5, keep_best=True, checkpoint_every_steps=4, epochs=3.0)
    return train(config, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Another network on digits, without moving averages."""
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


def agrees(found, result, kind="eval"):
    for name in ("top1_error", "top5_error", "examples"):
        assert found[name] == result[f"{kind}/{name}"], name
    # The run's step added up in float32.
    assert found["loss"] == pytest.approx(result[f"{kind}/loss"], rel=1e-5)


@pytest.mark.parametrize("arguments", [(), ("--batch_size=7",)])
def test_one_network_as_it_was_trained_gives_its_own_evaluation(run, call, arguments):
    """On four devices, of which it was trained on one, and batches that do not fit."""
    directory, result = run
    found = call(f"--workdir={directory}", *arguments)
    agrees(found, result)
    (member,) = found["members"]
    agrees(member, result)
    assert (member["step"], member["image_sizes"], found["split"]) == (12, [8], "test[:50]")


def test_streamed_images_too_and_those_that_cannot_be_decoded_are_counted(streamed, call):
    directory, result = streamed
    found = call(f"--workdir={directory}")
    agrees(found, result)
    assert (found["examples"], found["unreadable"]) == (COUNT - len(BROKEN), len(BROKEN))


def test_moving_averages_are_evaluated_as_in_training(run, call):
    directory, result = run
    agrees(call(f"--workdir={directory}", "--weights=ema"), result, "eval_ema")


def test_the_best_weights_have_the_best_error(run, call):
    directory, result = run
    found = call(f"--workdir={directory}", "--weights=best")
    assert found["top1_error"] == result["best_top1_error"]
    assert found["members"][0]["step"] == result["best_step"]


def test_a_network_with_itself_is_itself(run, call):
    directory, _ = run
    alone = call(f"--workdir={directory}", "--flip")
    twice = call(f"--workdir={directory}", f"--workdir={directory}", "--flip")
    for name in ("loss", "top1_error", "top5_error", "examples"):
        assert twice[name] == pytest.approx(alone[name], rel=1e-12)
        assert [member[name] for member in twice["members"]] == [alone[name]] * 2


def alone(directory):
    """Images to probabilities by the plain model of a run; and its evaluation set."""
    done = trained.load_run(directory)
    variables = jax.device_get(done.state.variables)
    apply = jax.jit(lambda images: done.run.model.apply(variables, done.run.normalize(images)))
    softmax = scipy.special.softmax
    return lambda images: softmax(np.float64(apply(images)), axis=-1), done.run.dataset.eval


def test_an_ensemble_averages_probabilities_of_networks_and_mirror_images(
    run, other, call, tmp_path
):
    file = tmp_path / "said.csv"
    directories = [run[0], other[0]]
    workdirs = [f"--workdir={directory}" for directory in directories]
    found = call(*workdirs, "--flip", f"--predictions={file}")
    (one, split), (two, _) = map(alone, directories)
    both = (split.image, split.image[:, :, ::-1])
    each = [np.mean([of(images) for images in both], axis=0) for of in (one, two)]
    expected, rows = np.mean(each, axis=0), read(file)
    own = expected[np.arange(50), split.label]
    assert found["top1_error"] == 100 * (expected.argmax(1) != split.label).mean()
    assert found["loss"] == pytest.approx(-np.log(own).mean(), rel=1e-5)
    for member, of_member in zip(found["members"], each, strict=True):
        assert member["top1_error"] == 100 * (of_member.argmax(1) != split.label).mean()
    assert [int(row["index"]) for row in rows] == list(range(50))
    assert [int(row["label"]) for row in rows] == split.label.tolist()
    np.testing.assert_allclose([float(r["label_probability"]) for r in rows], own, rtol=1e-4)
    for row, of_classes in zip(rows, expected, strict=True):
        top = [int(row[f"top{place}"]) for place in range(1, 6)]
        assert top == np.argsort(-of_classes, kind="stable")[:5].tolist()
        assert row["top1_name"] == str(top[0])
        of_top = [float(row[f"top{place}_probability"]) for place in range(1, 6)]
        np.testing.assert_allclose(of_top, of_classes[top], rtol=1e-4)


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_crops_and_sizes_are_averaged(streamed, call, tmp_path):
    """Against the plain model on the crops as the data gives them."""
    directory, _ = streamed
    file = tmp_path / "said.csv"
    found = call(
        *(f"--workdir={directory}", "--image_size=32,48", "--crops=10", "--eval_crop=0.75"),
        *("--split=with_broken", f"--predictions={file}"),
    )
    views = ensemble.TestViews((32, 48), crops=10, eval_crop=0.75)
    (member,) = ensemble.load_members([directory], "final", unfinished=False)
    probabilities, _ = alone(directory)
    of_views, label, readable = [], None, None
    for feed in ensemble.feeds([member], "photos", "with_broken", views):
        (batch,) = feed.split.eval_batches(COUNT)
        label, readable = batch["label"], np.flatnonzero(batch["mask"])
        for crop in range(5):
            for mirrored in (1, -1):
                images = batch["image"][:, crop, :, ::mirrored]
                of_views.append(probabilities(images))
    own = np.mean(of_views, axis=0)[np.arange(COUNT), label][readable]
    assert len(of_views) == 20
    assert found["examples"] == len(readable) == COUNT - len(BROKEN)
    assert found["loss"] == pytest.approx(-np.log(own).mean(), rel=1e-5)
    rows = read(file)
    assert [int(row["index"]) for row in rows] == readable.tolist()
    np.testing.assert_allclose([float(r["label_probability"]) for r in rows], own, rtol=1e-4)
    assert found["members"][0]["image_sizes"] == [32, 48]
    one = np.log(of_views[8][np.arange(COUNT), label][readable])
    assert abs(-one.mean() - found["loss"]) > 1e-4  # so the comparison above can fail


def test_members_with_the_same_views_share_a_pass_and_others_have_their_own(streamed):
    member = ensemble.load_members([streamed[0]], "final", unfinished=False)[0]
    larger = dataclasses.replace(
        member, config={**member.config, "data": {**member.config["data"], "image_size": 48}}
    )
    feeds = ensemble.feeds([member, larger, member], "photos", "whole", ensemble.TestViews())
    assert [(f.split.image_shape[0], f.members) for f in feeds] == [(32, (0, 2)), (48, (1,))]
    given = ensemble.TestViews(image_sizes=(40,))
    (feed,) = ensemble.feeds([member, larger, member], "photos", "whole", given)
    assert (feed.split.image_shape[0], feed.members) == (40, (0, 1, 2))


def test_ten_crops_of_a_constant_image_are_its_single_crop(streamed):
    done = trained.load_run(streamed[0])
    model, scale = done.run.model, done.run.normalize
    colours = np.random.default_rng(0).integers(0, 256, (6, 1, 1, 3), np.uint8)
    images = np.broadcast_to(colours, (6, 32, 32, 3))
    variables = jax.device_get(done.state.variables)
    of_one, of_ten = (
        jax.jit(make_logits_step(model, scale, None, flip=flip))(variables, {"image": x})
        for x, flip in (
            (images, False),
            (np.broadcast_to(images[:, None], (6, 5, 32, 32, 3)), True),
        )
    )
    assert (of_one.shape[1], of_ten.shape[1]) == (1, 10)
    np.testing.assert_allclose(
        log_probabilities(np.asarray(of_ten)),
        log_probabilities(np.asarray(of_one)),
        rtol=1e-5,
    )


def test_each_network_normalises_in_its_own_way(run):
    """The same network, told that images are darker, needs darker images."""
    member = ensemble.load_members([run[0]], "final", unfinished=False)[0]
    mean, std = member.statistics
    twin = dataclasses.replace(member, statistics=(tuple(m - 5 for m in mean), std))
    batch = {"image": np.full((4, 8, 8, 1), 100, np.uint8), "label": np.zeros(4, np.int32)}
    batch["mask"] = np.ones(4, np.float32)

    class Darker:
        image_shape = (8, 8, 1)

        def __len__(self):
            return 4

        def eval_batches(self, batch_size):
            yield batch | {"image": batch["image"] - np.uint8(5)}

    class Usual(Darker):
        def eval_batches(self, batch_size):
            yield batch

    feeds = [
        ensemble.Feed(Usual(), member.class_names, (0,)),
        ensemble.Feed(Darker(), member.class_names, (1,)),
    ]
    (said,) = ensemble.predictions([member, twin], feeds, ensemble.TestViews(), 4)
    np.testing.assert_allclose(said.members[0], said.members[1], rtol=1e-5)


@pytest.fixture
def said():
    """Logits [B, V, K], some of them equal or not finite, labels, and a mask."""
    rng = np.random.default_rng(0)
    logits = np.float32(rng.integers(-3, 4, (40, 1, 7)) * 300)
    logits[3, 0, 2] = np.nan
    logits[5, 0, 0] = np.inf
    return logits, rng.integers(0, 7, 40).astype(np.int32), np.float32(rng.random(40) < 0.8)


def test_scores_are_those_of_the_evaluation_step(said):
    logits, label, mask = said
    mask[[3, 5]] = 1
    losses = jax.numpy.zeros(40)
    expected = classification_sums(losses, jax.numpy.asarray(logits[:, 0]), label, mask)
    found = sums(log_probabilities(logits), label, mask)
    for name in ("top1", "top5", "examples"):
        assert found[name] == expected[name], name
    assert np.isnan(found["loss"])
    mask[[3, 5]] = 0
    found = sums(log_probabilities(logits), label, mask)
    real = np.flatnonzero(mask)
    expected = scipy.special.log_softmax(np.float64(logits[real, 0]), axis=-1)
    own = expected[np.arange(len(real)), label[real]]
    assert own.min() < -1000  # a probability of this logarithm is 0, and its loss is finite
    assert found["loss"] == pytest.approx(-own.sum(), rel=1e-12)


def test_log_probabilities_are_those_of_the_mean(said):
    views = np.concatenate([said[0][6:], said[0][6:, :, ::-1] / 2], axis=1) / 50
    expected = np.log(scipy.special.softmax(np.float64(views), axis=-1).mean(axis=1))
    np.testing.assert_allclose(log_probabilities(views), expected, rtol=1e-12)


def test_what_is_written_reads_back_exactly(tmp_path):
    rng = np.random.default_rng(0)
    names = ("tabby, cat", 'a "pug"', "7", "Bär")
    written, label = Predictions(names), rng.integers(0, 4, (2, 8))
    log_p = np.log(rng.dirichlet(np.ones(4), (2, 8)))
    mask = np.ones((2, 8))
    mask[0, 2] = mask[1, 6:] = 0
    for part in range(2):
        written.add(Predicted(label[part], mask[part], log_p[part], log_p[part][None]))
    written.write(tmp_path / "said.csv")
    rows, real = read(tmp_path / "said.csv"), np.flatnonzero(mask)
    assert [int(row["index"]) for row in rows] == real.tolist()
    for row, of_classes, true in zip(
        rows, log_p.reshape(16, 4)[real], label.ravel()[real], strict=True
    ):
        assert float(row["label_probability"]) == np.exp(of_classes[true])
        assert row["label_name"] == names[true]
        for place, number in enumerate(np.argsort(-of_classes), start=1):
            assert int(row[f"top{place}"]) == number
            assert row[f"top{place}_name"] == names[number]
            assert float(row[f"top{place}_probability"]) == np.exp(of_classes[number])
        assert "top5" not in row


def test_an_unfinished_run_is_evaluated_when_asked_to(run, call, tmp_path):
    directory, result = run
    shutil.copytree(directory, tmp_path / "cut")
    (tmp_path / "cut" / "result.json").unlink()
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / "12")
    with pytest.raises(InputError, match=r"is not finished.*--checkpoint=latest"):
        call(f"--workdir={tmp_path}/cut")
    found = call(f"--workdir={tmp_path}/cut", "--checkpoint=latest")
    assert found["members"][0]["step"] == 8
    agrees(call(f"--workdir={directory}", "--checkpoint=latest"), result)


def test_the_answer_in_words(run, other, capsys):
    directory, result = run
    evaluate.main(["evaluate", f"--workdir={directory}", "--flip", "--split=train[:30]"])
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(
        f"seresnet20_cifar of {directory} (step 12), 8 pixels and mirror images"
    )
    assert first.endswith("on digits, split 'train[:30]'")
    assert second.endswith(", on 30 examples")
    evaluate.main(["evaluate", f"--workdir={directory}", f"--workdir={other[0]}"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "ensemble of 2, on digits, split 'test[:50]'"
    assert f"top-1 error {result['eval/top1_error']:.2f} %" in lines[2]


def test_a_split_without_labels_has_no_errors(run):
    member = ensemble.load_members([run[0]], "final", unfinished=False)[0]
    nothing = np.log(np.full((1, 2, 10), 0.1))
    one = Predicted(np.array([3, -1]), np.ones(2), nothing[0], nothing)
    (feed,) = ensemble.feeds([member], "digits", "test", ensemble.TestViews())
    with pytest.raises(InputError, match="examples without labels"):
        evaluate.evaluate([one], [member], [feed], None)


def test_a_network_tied_to_the_size_of_its_images_is_refused(streamed):
    fields = {"width": 4, "stage_sizes": (1, 1, 1, 1), "num_classes": COUNT}
    model = create_model("seresnet18", **fields, se={"kind": "ge_theta"})
    variables = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))
    member = ensemble.load_members([streamed[0]], "final", unfinished=False)[0]
    tied = dataclasses.replace(member, model=model, variables=variables)
    assert ensemble.feeds([tied], "photos", "whole", ensemble.TestViews())
    with pytest.raises(InputError, match="cannot take images of 64 x 64 pixels: it is tied to"):
        ensemble.feeds([tied], "photos", "whole", ensemble.TestViews(image_sizes=(64,)))


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
        (("--workdir={run}", "--image_size=16"), "--image_size is of images that are streamed"),
        (("--workdir={run}", "--crops=10"), "--crops=10 is of images.*whole images of 8 pixels"),
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
    given = [argument.format(**directories) for argument in arguments]
    with pytest.raises(InputError, match=sentence) as caught:
        evaluate.main(["evaluate", *given])
    assert "\n" not in str(caught.value)


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
