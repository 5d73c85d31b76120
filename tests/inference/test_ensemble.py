"""Ensembles and their views: what each member is shown, and how it is refused."""

import dataclasses
import shutil

import helpers.peculiar  # noqa: F401  (registers the builder)
import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from helpers.photos import COUNT
from helpers.runs import finish_untrained, photos_config, tiny_config

from senet_jax import data
from senet_jax.errors import InputError
from senet_jax.evaluate import in_words
from senet_jax.evaluation.scores import Predicted, log_probabilities
from senet_jax.evaluation.steps import make_logits_step
from senet_jax.inference.ensemble import evaluate_runs, predict, score
from senet_jax.inference.ensemble_members import load_members
from senet_jax.inference.ensemble_views import Feed, TestViews, load_feeds
from senet_jax.inference.trained_run import load_run
from senet_jax.models import create_model
from senet_jax.runs import workdir


def untrained(directory, config):
    finish_untrained(directory, config)
    return directory


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on digits."""
    return untrained(tmp_path_factory.mktemp("run"), tiny_config())


@pytest.fixture(scope="module")
def streamed(tmp_path_factory):
    return untrained(tmp_path_factory.mktemp("streamed"), photos_config())


def test_members_with_the_same_views_share_a_pass_and_others_have_their_own(streamed):
    member = load_members([streamed], "final", unfinished=False)[0]
    larger = dataclasses.replace(
        member, config={**member.config, "data": {**member.config["data"], "image_size": 48}}
    )
    feeds = load_feeds([member, larger, member], "photos", "whole", TestViews())
    assert [(f.split.image_shape[0], f.members) for f in feeds] == [(32, (0, 2)), (48, (1,))]
    at_40 = TestViews(image_sizes=(40,))
    (feed,) = load_feeds([member, larger, member], "photos", "whole", at_40)
    assert (feed.split.image_shape[0], feed.members) == (40, (0, 1, 2))


def test_a_run_that_counts_twice_is_named_whatever_its_path_is(run, tmp_path, capsys):
    copy, link = tmp_path / "copy", tmp_path / "link"
    shutil.copytree(run, copy)
    link.symlink_to(run)
    load_members([run, run, copy, link], "final", unfinished=False)
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == 3
    assert all(f"the same network as {run}," in line for line in warnings)
    config = tiny_config()
    config.model.se.gate = "relu"  # the same weights in another network
    load_members([run, untrained(tmp_path / "other", config)], "final", unfinished=False)
    assert "the same network" not in capsys.readouterr().err


def test_ten_crops_of_a_constant_image_are_its_single_crop(streamed):
    done = load_run(streamed)
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
    member = load_members([run], "final", unfinished=False)[0]
    twin = dataclasses.replace(member, mean=tuple(m - 5 for m in member.mean))
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
        Feed(Usual(), member.class_names, (0,)),
        Feed(Darker(), member.class_names, (1,)),
    ]
    (predicted,) = predict([member, twin], feeds, TestViews(), 4)
    np.testing.assert_allclose(predicted.members[0], predicted.members[1], rtol=1e-5)


def test_networks_that_were_trained_on_different_labels_are_refused(run):
    member = load_members([run], "final", unfinished=False)[0]
    feeds = load_feeds([member], "digits", "test[:4]", TestViews())

    class Other:
        image_shape = (8, 8, 1)

        def __len__(self):
            return 4

        def eval_batches(self, batch_size):
            for batch in feeds[0].split.eval_batches(batch_size):
                yield batch | {"label": 9 - batch["label"]}

    feeds.append(Feed(Other(), member.class_names, (1,)))
    with pytest.raises(InputError, match=r"different labels of the dataset \(data\.label\)"):
        list(predict([member, member], feeds, TestViews(), 4))


def test_a_run_sees_the_same_features_of_its_dataset_by_every_name(tmp_path):
    """Of a version, and of the folder, too; another dataset has features of its own."""
    config = tiny_config()
    section = {"name": "peculiar", "image": "lying", "label": "coarse_label"}
    config.data.update(section | {"train_split": "train", "eval_split": "train"})
    (member,) = load_members([untrained(tmp_path, config)], "final", unfinished=False)
    folder = str(tfds.builder("peculiar").data_path)
    for name in ("peculiar", "peculiar:2.0.0", "Peculiar", folder):
        (feed,) = load_feeds([member], name, "train", TestViews())
        assert feed.class_names == ("0", "1"), name
    assert data.is_same("/gone/peculiar/2.0.0", folder)
    assert not data.is_same("peculiar", "digits")
    assert not data.is_same("peculiar", "fake")


def test_a_split_without_labels_has_no_errors(run):
    member = load_members([run], "final", unfinished=False)[0]
    nothing = np.log(np.full((1, 2, 10), 0.1))
    one = Predicted(np.array([3, -1]), np.ones(2), nothing[0], nothing)
    (feed,) = load_feeds([member], "digits", "test", TestViews())
    with pytest.raises(InputError, match="examples without labels"):
        score([one], [member], [feed], None)


def test_a_network_tied_to_the_size_of_its_images_is_refused(streamed):
    fields = {"width": 4, "stage_sizes": (1, 1, 1, 1), "num_classes": COUNT}
    model = create_model("seresnet18", **fields, se={"kind": "ge_theta"})
    variables = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))
    member = load_members([streamed], "final", unfinished=False)[0]
    tied = dataclasses.replace(member, model=model, variables=variables)
    assert load_feeds([tied], "photos", "whole", TestViews())
    with pytest.raises(InputError, match="cannot take images of 64 x 64 pixels: it is tied to"):
        load_feeds([tied], "photos", "whole", TestViews(image_sizes=(64,)))


def test_from_python_one_directory_is_enough_and_none_is_refused(run):
    result = evaluate_runs(str(run), split="test[:20]")
    (member,) = result["members"]
    assert (member["workdir"], member["examples"], result["dataset"]) == (str(run), 20, "digits")
    assert member["loss"] == result["loss"]
    with pytest.raises(InputError, match="give at least one work directory"):
        evaluate_runs([])
    for number in (0, -3, 2.5, "8"):
        with pytest.raises(InputError, match="batch_size must be a whole number of at least 1"):
            evaluate_runs(run, batch_size=number)


def test_images_that_a_network_was_trained_on_are_counted(run, tmp_path):
    config = tiny_config()
    config.model.pretrained, config.data.train_split = str(run), "test[:10]"
    workdir.start(tmp_path / "tuned", config)
    for directory in ("checkpoints", "result.json"):
        (tmp_path / "tuned" / directory).symlink_to(run / directory)
    result = evaluate_runs([run, tmp_path / "tuned"], split="test[5:20]+train[100:140]")
    assert result["seen_before"] == {str(tmp_path / "tuned"): 5, str(run): 28}
    assert f"28 of these are among those that {run} was trained on" in in_words(result)
    alone = evaluate_runs(run)
    assert not alone["seen_before"]
    assert "among those" not in in_words(alone)


def test_weights_that_no_run_has_are_refused(run):
    with pytest.raises(InputError, match=r"one of final, ema, best, not 'bset'; did you mean 'bes"):
        load_run(run, "bset")
