"""Formats, cards and the hub: what goes out says where it comes from, and nothing goes unasked."""

import json
import re
import shutil
import types

import httpx
import huggingface_hub
import pytest
import yaml
from helpers.closed import closed
from helpers.runs import contents, finish, finish_untrained, tiny_config

from configs import cifar
from senet_jax import export
from senet_jax.errors import InputError
from senet_jax.evaluation import intervals
from senet_jax.inference import model_card, other_seeds


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Three seeds of a network that timm's form has, and another run beside them."""
    study = tmp_path_factory.mktemp("study")
    for seed, error in enumerate((20.0, 22.0, 24.0)):
        config = tiny_config()
        del config.model["width"], config.model["stage_sizes"]
        config.model.se.stages = (2, 3, 4)
        config.seed = seed
        if seed:
            finish(study / f"seed{seed}", config, **{"eval/top1_error": error})
        else:
            finish_untrained(study / "seed0", config)
            result = json.loads((study / "seed0" / "result.json").read_text())
            result |= {"eval/top1_error": error, "git_commit": "0123abcd"}
            (study / "seed0" / "result.json").write_text(json.dumps(result))
    finish(study / "other", cifar.get_config("seresnet20"), **{"eval/top1_error": 1.0})
    return study / "seed0"


def call(*arguments):
    export.main(["export", *map(str, arguments)])


def front_matter(folder):
    _, matter, text = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(matter), text


def test_a_card_says_what_is_known(run, tmp_path, capsys):
    call(f"--model={run}", f"--output={tmp_path / 'exported'}")
    assert capsys.readouterr().out.splitlines()[-1].endswith("README.md")
    matter, text = front_matter(tmp_path / "exported")
    assert matter["pipeline_tag"] == "image-classification"
    assert "license" not in matter  # nobody has said one
    (result,) = matter["model-index"][0]["results"]
    assert result["dataset"]["name"] == "digits"
    assert result["metrics"][0]["value"] == 80.0
    low, high = intervals.wilson(72, 360)
    assert f"20.00 % on split `test[:50]` (95 % interval of 360 images, Wilson: {low:.2f}" in text
    mean, low, high = intervals.of_seeds((20.0, 22.0, 24.0))
    assert f"over 3 seeds: {mean:.2f} % (95 % t interval: {low:.2f} to {high:.2f} %)" in text
    assert "0123abcd" in text
    recipe = json.loads(re.search(r"```json\n(.*?)```", text, re.DOTALL)[1])
    assert recipe["optim.learning_rate"] == tiny_config().optim.learning_rate
    assert str(tmp_path) not in text
    assert str(run.parent) not in text


def test_the_ways_to_load_are_those_that_there_are(run, tmp_path):
    call(f"--model={run}", f"--output={tmp_path}", "--formats=safetensors")
    _, text = front_matter(tmp_path)
    assert 'load_classifier("FOLDER")' in text
    for other in (
        "timm.create_model",
        "jax.export.deserialize",
        "onnxruntime",
    ):  # timm lacks the network
        assert other not in text
    assert not (tmp_path / "model.stablehlo").exists()


def test_a_copy_of_a_run_is_no_other_seed(run, tmp_path):
    for name in ("seed0", "seed1", "seed2"):
        shutil.copytree(run.parent / name, tmp_path / name)
    for name in ("a copy", "zzz"):
        shutil.copytree(run.parent / "seed0", tmp_path / name)
    again = tmp_path / "a copy" / "result.json"  # trained again, on another machine
    again.write_text(json.dumps(json.loads(again.read_text()) | {"eval/top1_error": 21.0}))
    assert model_card.origin_of(str(tmp_path / "seed0"), "final").seeds == (20.0, 22.0, 24.0)
    assert model_card.origin_of(str(tmp_path / "a copy"), "final").seeds == (21.0, 22.0, 24.0)


def test_a_seed_that_may_not_be_opened_is_said_to_be_left_out(run, capsys):
    other = run.parent / "seed1"
    with closed(other):
        assert other_seeds.errors(run, "eval/top1_error") == (20.0, 24.0)
    said = f"warning: {other} cannot be read: Permission denied; a run there is left out"
    assert capsys.readouterr().err.startswith(said)
    assert other_seeds.errors(run, "eval/top1_error") == (20.0, 22.0, 24.0)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ({"examples": [9, 4]}, {"examples": [9, 5]}),
        ({"labels": ["a", "b"]}, {"labels": ["a", "c"]}),
        ({"files": ["a", "b"]}, {"files": ["c", "b"]}),
        ({"eval/examples": 360}, {"eval/examples": 359}),
        ({"mean": [0.5]}, {"mean": [0.51]}),
        ({"pretrained_sha256": "a"}, {"pretrained_sha256": "b"}),
        ({"teacher_sha256": "a"}, {"teacher_sha256": "b"}),
    ],
)
def test_a_run_with_other_images_or_weights_by_the_same_names_is_no_other_seed(
    run, tmp_path, here, there
):
    for name, about in (("seed0", here), ("seed1", here), ("seed2", there)):
        shutil.copytree(run.parent / name, tmp_path / name)
        path = tmp_path / name / "result.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | about))
    assert other_seeds.errors(tmp_path / "seed0", "eval/top1_error") == (20.0, 22.0)
    assert other_seeds.errors(tmp_path / "seed2", "eval/top1_error") == (24.0,)


def test_an_error_is_not_claimed_of_images_that_it_was_not_measured_on(run, tmp_path):
    result = json.loads((run / "result.json").read_text())
    shape = {"image_shape": [8, 8, 1]}
    (run / "result.json").write_text(json.dumps(result | shape))
    for size in (8, 16):
        call(f"--model={run}", f"--output={tmp_path / str(size)}", f"--image_size={size}")
    sentence = "That is the error with images of 8 x 8 pixels, crop 1; with those below it was not"
    matter, text = front_matter(tmp_path / "8")
    assert "model-index" in matter
    assert sentence not in text
    matter, text = front_matter(tmp_path / "16")
    assert "model-index" not in matter
    assert sentence in text
    assert "16 x 16 pixels" in text
    assert json.loads((tmp_path / "16" / "model.json").read_text())["model"] == "seed0"


# --- The hub --------------------------------------------------------------------------------------


RESPONSE = httpx.Response(404, request=httpx.Request("GET", "https://hub"))


@pytest.fixture
def hub(monkeypatch):
    """A stand-in for the hub, which keeps what it gets."""
    got = types.SimpleNamespace(repositories=[], uploads=[], refusal=None, folder=None)

    class HfApi:
        def list_repo_files(self, repo_id):
            if got.folder is None:
                raise huggingface_hub.errors.RepositoryNotFoundError("no", response=RESPONSE)
            return [path.name for path in got.folder.iterdir()]

        def create_repo(self, repo_id, *, exist_ok):
            if got.refusal:
                raise got.refusal
            assert exist_ok
            got.repositories.append(repo_id)

        def upload_folder(self, *, repo_id, folder_path, allow_patterns, commit_message):
            got.uploads.append((repo_id, folder_path, sorted(allow_patterns)))
            return types.SimpleNamespace(commit_url=f"https://hub/{repo_id}/commit/1")

    monkeypatch.setattr(huggingface_hub, "HfApi", HfApi)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda _, name: got.folder / name)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_x")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    return got


def test_what_was_written_is_sent_and_nothing_else(run, tmp_path, hub, capsys):
    (tmp_path / "diary.txt").write_text("mine")
    call(f"--model={run}", f"--output={tmp_path}", "--push_to_hub=lab/small")
    assert hub.repositories == ["lab/small"]
    names = ["README.md", "config.json", "model.json", "model.safetensors", "model.stablehlo"]
    assert hub.uploads == [("lab/small", tmp_path, names)]
    assert all((tmp_path / name).exists() for name in names)
    assert "https://hub/lab/small/commit/1" in capsys.readouterr().out
    _, text = front_matter(tmp_path)
    assert 'load_classifier("hf-hub:lab/small")' in text


@pytest.mark.parametrize(
    ("there", "sent", "refused"),
    [
        ("safetensors,stablehlo", "stablehlo", "lab/x/model.safetensors is of another network"),
        ("stablehlo", "safetensors", "lab/x/model.stablehlo is of another network"),
        ("stablehlo,safetensors", "stablehlo,safetensors", ""),  # replaced as a whole
        ("stablehlo", "stablehlo", ""),
    ],
)
def test_nothing_of_another_network_stays_beside_what_is_sent(
    run, tmp_path, hub, there, sent, refused
):
    """The same in a repository as in a folder, and before anything is written."""
    hub.folder = tmp_path / "earlier"
    call(f"--model={run}", f"--output={hub.folder}", f"--formats={there}")
    card = json.loads((hub.folder / "model.json").read_text())
    same = ("--push_to_hub=lab/x", f"--formats={sent}")
    call(f"--model={run}", f"--output={tmp_path / 'same'}", *same)
    assert len(hub.uploads) == 1
    (hub.folder / "model.json").write_text(json.dumps(card | {"sha256": "of another"}))
    if not refused:
        call(f"--model={run}", f"--output={tmp_path / 'new'}", *same)
        assert len(hub.uploads) == 2
        return
    with pytest.raises(InputError, match=f"{refused}.*choose another --push_to_hub"):
        call(f"--model={run}", f"--output={tmp_path / 'new'}", *same)
    assert len(hub.uploads) == 1
    assert not (tmp_path / "new").exists()


def test_a_card_of_others_on_the_hub_stays(run, tmp_path, hub):
    hub.folder = tmp_path / "theirs"
    hub.folder.mkdir()
    (hub.folder / "README.md").write_text("mine")
    with pytest.raises(
        InputError, match=r"README\.md was not written by this command.*push_to_hub"
    ):
        call(f"--model={run}", f"--output={tmp_path / 'new'}", "--push_to_hub=lab/x")
    assert not hub.uploads


def test_nothing_is_sent_unasked(run, tmp_path, hub):
    call(f"--model={run}", f"--output={tmp_path}", "--formats=safetensors")
    assert not hub.repositories
    assert not hub.uploads


@pytest.mark.parametrize(
    "refusal",
    [
        ConnectionError("no route to host\nand a second line"),
        RuntimeError("ConnectError of whatever client"),
    ],
)
def test_a_hub_that_refuses_is_a_sentence_and_loses_nothing(run, tmp_path, hub, refusal):
    hub.refusal = refusal
    with pytest.raises(InputError, match=r"lab/x could not be sent.*all is in") as caught:
        call(
            f"--model={run}", f"--output={tmp_path}", "--push_to_hub=lab/x", "--formats=safetensors"
        )
    assert "\n" not in str(caught.value)
    assert (tmp_path / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--formats=onxn",), "not 'onxn'; did you mean 'onnx'"),
        (("--formats=",), "--formats needs at least one of stablehlo, onnx, safetensors"),
        (("--formats=safetensors", "--fold_batch_norm"), "--fold_batch_norm is for programs"),
        (("--push_to_hub=small",), "--push_to_hub takes ORG/NAME, not 'small'"),
        (("--push_to_hub=a/b/c",), "--push_to_hub=a/b/c: "),
        (("--push_to_hub=lab/x y",), "--push_to_hub=lab/x y: "),
    ],
)
def test_bad_flags_are_a_sentence_before_anything_is_written(
    run, tmp_path, arguments, sentence, hub
):
    with pytest.raises(InputError, match=sentence):
        call(f"--model={run}", f"--output={tmp_path / 'out'}", *arguments)
    assert not (tmp_path / "out").exists()


def test_without_a_token_nothing_is_begun(run, tmp_path, hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(InputError, match="needs a token of the hub: `hf auth login`"):
        call(f"--model={run}", f"--output={tmp_path / 'out'}", "--push_to_hub=lab/x")
    assert not (tmp_path / "out").exists()


def test_a_readme_of_others_stays(run, tmp_path):
    (tmp_path / "README.md").write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(InputError, match=r"README\.md was not written by this command"):
        call(f"--model={run}", f"--output={tmp_path}")
    assert contents(tmp_path) == before


def test_weights_that_timm_has_no_form_for_are_refused_if_asked_for(tmp_path):
    finish_untrained(tmp_path / "run", tiny_config())
    with pytest.raises(InputError, match="--formats=safetensors: timm has no network like this"):
        call(f"--model={tmp_path / 'run'}", f"--output={tmp_path / 'x'}", "--formats=safetensors")
    assert not (tmp_path / "x").exists()
