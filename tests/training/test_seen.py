"""Evaluation images that weights or a teacher were trained on are counted, as the pixels say."""

import os
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from helpers.image_folders import examples, write_folder, write_table
from helpers.runs import finish_untrained, tiny_config

from senet_jax import data
from senet_jax.data import shared
from senet_jax.data.sources import lookup
from senet_jax.runs import workdir
from senet_jax.system import files
from senet_jax.training import seen
from senet_jax.training.prepare import prepare
from senet_jax.training.session import Session
from senet_jax.training.start import resolve_config

DIGITS = {"name": "digits", "train_split": "train", "eval_split": "test"}
FOLD = {"fold": (2, 5)}
FIRST, LAST = {"train_split": "train[:60%]"}, {"eval_split": "train[50%:]"}


def pixels(section, part):
    """The images of a part as they are loaded, as bytes."""
    loaded = getattr(data.load_dataset(**section), part)
    return [image.tobytes() for image in np.asarray(loaded.image[:])]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        *[({}, {}), (FOLD, {}), (FOLD, FOLD), (FOLD, {"fold": (1, 5)}), (FOLD, {"fold": (2, 4)})],
        *[(LAST, FIRST), (LAST, FIRST | FOLD), ({"classes": (3, 7)} | LAST, {"classes": (0, 5)})],
        *[({"classes": (0.5, 1.0)} | FOLD, {}), (FOLD, {"train_split": "test"})],
        ({"classes": (0, 5)} | FOLD, {"classes": (0.5, 1.0)}),
    ],
)
def test_images_are_counted_that_one_evaluates_on_and_the_other_trains_on(ours, theirs):
    ours, theirs = DIGITS | ours, DIGITS | theirs
    known = set(pixels(theirs, "train"))
    expected = sum(image in known for image in pixels(ours, "eval"))
    both = {*pixels(DIGITS, "train")} & {*pixels(DIGITS, "eval")}
    assert not both  # no two digits are alike, by which their bytes tell them apart
    assert shared.count(ours, theirs) == expected


def test_files_are_compared_by_themselves_whichever_dataset_has_them(tmp_path, monkeypatch):
    root = write_folder(tmp_path / "elks")
    table = write_table(root)
    folder = {"name": f"folder:{root}", "train_split": "train", "eval_split": "test"}
    rows = {"name": f"csv:{table}", "train_split": "train", "eval_split": "train[:3]"}
    links = tmp_path / "links"
    for path in root.glob("*/*.png"):
        (links / path.parent.name).mkdir(parents=True, exist_ok=True)
        os.link(path, links / path.parent.name / path.name)
    linked = {"name": f"folder:{links}", "train_split": "train", "eval_split": "train+test"}
    assert shared.count(rows, rows) == 3
    known = lookup.find(folder["name"]).count("train")
    assert shared.count(linked, folder) == known == shared.count(linked, linked)
    copied = tmp_path / "copied"
    shutil.copytree(root, copied, ignore=shutil.ignore_patterns("*[13579].png"))
    half = {"name": f"folder:{copied}", "train_split": "train+test", "eval_split": "train+test"}
    paths = lookup.find(folder["name"]).examples["train"].files
    even = sum(int(Path(file).stem) % 2 == 0 for file in paths)
    assert shared.count(half, folder) == even
    assert shared.count(linked, DIGITS) == shared.count(folder, folder) == 0
    monkeypatch.setattr("senet_jax.data.sources.files.Files.unreadable", None)  # decodes them all
    streamed = linked | {"fold": (1, 3), "train_split": "train+test", "image_size": 8}
    assert shared.count(streamed, folder) >= known // 4
    assert shared.count(folder, {"name": f"folder:{tmp_path / 'gone'}"} | DIGITS) == 0


def test_it_is_said_where_training_images_are_gone_or_changed(tmp_path, caplog):
    """Images that were moved out of the training folder are no longer known as those of a run."""
    root, other = write_folder(tmp_path / "elks"), write_folder(tmp_path / "others")
    values = {"data.name": f"folder:{root}", "data.train_split": "train"}
    run = Path(begun(tmp_path / "run", **values))
    digests = data.load_dataset(f"folder:{root}", "train", "test").files
    files.write_json(run / "result.json", {"files": [*digests]})
    ours = DIGITS | {"name": f"folder:{other}"}
    seen.by_run(ours, str(run))
    seen.by_run(DIGITS, str(run))
    assert not caplog.messages
    (root / "cat" / "0.png").rename(tmp_path / "0.png")
    seen.by_run(ours, str(run))
    assert "was trained on have changed since in 'folder:" in caplog.messages[-1]
    root.rename(tmp_path / "moved")
    seen.by_run(ours, str(run))
    assert "was trained on are not in 'folder:" in caplog.messages[-1]
    caplog.clear()
    seen.by_run(DIGITS, str(run))
    assert not caplog.messages


def test_rows_of_two_datasets_of_hugging_face_are_not_taken_for_each_other(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    names = []
    for number, (_, _, content) in zip(range(2), examples(), strict=False):
        columns = {"image": [{"bytes": content, "path": None}] * 40, "label": [0, 1] * 20}
        names.append(f"hf:{tmp_path / str(number)}")
        saved = datasets.Dataset.from_dict(columns, features=features)
        saved.save_to_disk(str(tmp_path / str(number)))
    ours, theirs = ({"name": name, "train_split": "train", "eval_split": "train"} for name in names)
    assert shared.count(ours, theirs) == 0
    assert shared.count(ours, ours) == lookup.find(names[0]).count("train")


def begun(directory, **values):
    config = tiny_config()
    config.update_from_flattened_dict(values)
    workdir.start(directory, config)
    return str(directory)


def test_a_run_says_what_its_origins_have_seen_also_by_way_of_others(tmp_path, caplog):
    first = begun(tmp_path / "first", **{"data.train_split": "train[:30]"})
    second = begun(tmp_path / "second", **{"model.pretrained": first, "data.train_split": "test"})
    taught = begun(tmp_path / "taught", **{"train.teacher": second, "data.train_split": "test"})
    ours = DIGITS | {"eval_split": "train[10:]"}
    for origins in ((first, ""), ("", second), (second, first), (taught, "")):
        caplog.clear()
        assert seen.look(ours, *origins) == {seen.RECORD: 20}
        (line,) = caplog.messages
        assert f"20 of the images to evaluate on are among those that {first} was trained" in line
    assert "20 of the 1,427 examples" in seen.in_words(20, 1427)
    caplog.clear()
    for origins in (("", ""), ("timm", "seresnet50"), (second[:-6] + "other", "")):
        assert seen.look(ours, *origins) == {}
    assert seen.look(DIGITS | {"eval_split": "train[30:]"}, taught, second) == {}
    assert not caplog.messages


def test_a_result_says_it_of_the_weights_that_a_run_starts_from(tiny, tmp_path):
    finish_untrained(tmp_path / "first", tiny_config(), recorded=True)
    values = {"model.pretrained": str(tmp_path / "first"), "data.fold": (1, 5)}
    tiny.update_from_flattened_dict(values | {"data.eval_split": "test"})
    run = prepare(resolve_config(tiny, tmp_path), jax.local_devices()[:1])
    assert run.pretrained["seen_before"] == len(run.dataset.eval)
    session = Session.resume(run, tmp_path / "checkpoints", 0.0)
    assert session.pretrained["seen_before"] == len(run.dataset.eval)
