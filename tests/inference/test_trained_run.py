"""A run's directory is one network, whoever takes it from there, and needs no dataset for that.

The file is long by the number of ways to take it.
"""

import ast
import functools
import inspect
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.quick import one_in
from helpers.runs import finish, tiny_config
from helpers.weights import fill

import senet_jax
from senet_jax import evaluate, export, predict
from senet_jax.errors import InputError
from senet_jax.evaluation.loop import evaluate as evaluate_split
from senet_jax.evaluation.steps import make_eval_step
from senet_jax.inference import network_flags, trained_run
from senet_jax.inference.classifier import load_classifier
from senet_jax.inference.ensemble import evaluate_runs
from senet_jax.inference.ensemble_members import load_members
from senet_jax.inference.trained_run import load_run, load_trained_network
from senet_jax.runs import checkpoints, provenance, stored, workdir
from senet_jax.system import cli
from senet_jax.system.devices import AXIS, map_step, replicate
from senet_jax.training.prepare import prepare
from senet_jax.training.start import resolve_config
from senet_jax.weights import files as weight_files
from senet_jax.weights import loading, saving

ROOT = Path(__file__).parents[2]
NAME = "seresnet20_cifar"
NAMES = tuple("0123456789")


def config_of_run():
    config = tiny_config()
    config.train.update(ema_decay=0.9, keep_best=True)
    return config


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The directory of a run whose three sets of weights are different, and its evaluation set."""
    directory = tmp_path_factory.mktemp("runs") / "run"
    config = config_of_run()
    prepared = prepare(config, jax.local_devices()[:1])
    state = prepared.initial_state
    drawn = fill(state.variables)
    scaled = {
        scale: jax.tree.map(lambda leaf, scale=scale: jnp.float32(scale) * leaf, drawn)
        for scale in (0.8, 0.9, 1.1)
    }
    for step, variables in ((4, scaled[0.8]), (8, scaled[1.1])):
        saved = state.replace(step=jnp.asarray(step, jnp.int32), **variables, ema=scaled[0.9])
        notes = {"best": [10.0, 4]}
        checkpoints.save(directory / workdir.CHECKPOINTS, step, saved, notes)
    finish(
        directory,
        config,
        params_sha256=provenance.fingerprint(scaled[1.1]),
        **prepared.dataset.records,
    )
    return directory, prepared, {"final": scaled[1.1], "ema": scaled[0.9], "best": scaled[0.8]}


@functools.cache
def compiled(model):
    return jax.jit(model.apply)


def of_variables(prepared, model, variables):
    """The logits of some images; a model's fields that matter in training alone do not count."""
    assert saving.bare(model) == saving.bare(prepared.model)
    images = prepared.normalize(prepared.dataset.eval.image[:4])
    return compiled(prepared.model)(variables, images)


def by_create_model(directory, prepared, weights):
    model, variables = loading.create_model(NAME, pretrained=directory, weights=weights)
    return of_variables(prepared, model, variables)


def by_load_pretrained(directory, prepared, weights):
    loaded = loading.load_pretrained(NAME, directory, weights)
    return of_variables(prepared, loaded.model, loaded.variables)


def by_load_weights(directory, prepared, weights):
    variables = stored.load_weights(directory, weights).variables
    return of_variables(prepared, prepared.model, variables)


def by_load_trained_network(directory, prepared, weights):
    network = load_trained_network(directory, weights)
    return of_variables(prepared, network.model, network.variables)


def by_load_run(directory, prepared, weights):
    trained = load_run(directory, weights)
    return of_variables(prepared, trained.run.model, trained.state.variables)


def by_load_members(directory, prepared, weights):
    (member,) = load_members([directory], weights, unfinished=False)
    return of_variables(prepared, member.model, jax.device_get(member.variables))


def by_evaluate_runs(directory, prepared, weights):
    batches = []
    evaluate_runs(
        directory,
        split="test[:4]",
        weights=weights,
        on_batch=lambda predicted, names: batches.append(predicted.together[:4]),
    )
    return batches[0]


def by_load_classifier(directory, prepared, weights):
    network = load_classifier(str(directory), weights)
    return of_variables(prepared, network.model, network.variables)


def by_load_network(directory, prepared, weights):
    """As predict and export have it of their flags."""
    values = predict.define_flags()
    cli.parse_flags(["predict", f"--model={directory}", f"--weights={weights}"], values)
    network = network_flags.load_network(values)
    return of_variables(prepared, network.model, network.variables)


def by_export(directory, prepared, weights):
    folder = directory.parent / f"exported-{weights}"
    export.main(["export", f"--model={directory}", f"--weights={weights}", f"--output={folder}"])
    program = jax.export.deserialize(bytearray((folder / export.PROGRAM).read_bytes()))
    return program.call(prepared.dataset.eval.image[:4])


def by_origin(directory, prepared, weights):
    """What a run starts from, by model.pretrained and model.weights."""
    config = tiny_config()
    config.model.update(pretrained=str(directory), weights=weights)
    started = prepare(resolve_config(config, directory.parent / "new"), jax.local_devices()[:1])
    return of_variables(prepared, started.model, started.initial_state.variables)


WAYS = {
    name.removeprefix("by_"): way for name, way in list(globals().items()) if name.startswith("by_")
}
# Of functions that take such a word, those that only look at it.
WORDS_ONLY = {"check_choice", "check_only_runs", "choose", "origin_of"}
HAND_IT_ON = {"evaluate_suite"}  # to load_members


@pytest.mark.parametrize("way", one_in(3, WAYS, "asks the network in one more way"))
def test_every_way_gives_the_same_network(run, way):
    directory, prepared, sets = run
    for weights, variables in sets.items():
        if way == "export" and weights != "ema":
            continue  # it loads what load_network does, and takes a while
        logits = np.asarray(WAYS[way](directory, prepared, weights))
        expected = np.asarray(of_variables(prepared, prepared.model, variables))
        if way == "evaluate_runs":
            expected = jax.nn.log_softmax(expected)
            np.testing.assert_allclose(logits, expected, atol=1e-4)
        elif way == "export":  # one program, not operation by operation
            np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
        else:
            np.testing.assert_array_equal(logits, expected)


def test_the_sets_of_weights_differ_and_the_final_one_is_the_default(run):
    directory, prepared, sets = run
    logits = [of_variables(prepared, prepared.model, variables) for variables in sets.values()]
    assert not np.allclose(logits[0], logits[1], atol=0.1)
    assert not np.allclose(logits[0], logits[2], atol=0.1)
    _, variables = senet_jax.create_model(NAME, pretrained=directory)
    final = of_variables(prepared, prepared.model, variables)
    np.testing.assert_array_equal(final, logits[0])
    for function in (loading.create_model, loading.load_pretrained, stored.load_weights,
                     load_trained_network, load_run, evaluate_runs, load_classifier):  # fmt: skip
        assert inspect.signature(function).parameters["weights"].default == stored.FINAL
    assert tiny_config().model.weights == stored.FINAL


def functions_with_weights():
    """Functions with a parameter `weights` that is a word, the last of overloads."""
    nodes = {}
    for path in (ROOT / "senet_jax").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef):
                for argument in (*node.args.args, *node.args.kwonlyargs):
                    is_word = argument.annotation and ast.unparse(argument.annotation) == "str"
                    if argument.arg == "weights" and is_word:
                        nodes[node.name] = node
    return list(nodes.values())


def test_no_way_is_left_out():
    names = {node.name for node in functions_with_weights()}
    private = {name for name in names if name.startswith("_")}
    assert names - WORDS_ONLY - HAND_IT_ON - private == WAYS.keys() - {
        "load_network",
        "export",
        "origin",
    }
    for command in (evaluate, predict, export):
        assert command.define_flags()["weights"].default == stored.FINAL
        assert command.define_flags()["weights"].parser.enum_values == list(stored.WEIGHTS)


def test_configurations_that_lack_the_key_mean_what_they_meant(run):
    """Runs that began before it was there start from the averages, where there are any."""
    directory, prepared, sets = run
    averages = loading.load_pretrained(NAME, directory, stored.EARLIER).variables
    np.testing.assert_array_equal(
        of_variables(prepared, prepared.model, averages),
        of_variables(prepared, prepared.model, sets["ema"]),
    )
    config = tiny_config()
    config.model.pretrained = str(directory)
    begun = directory.parent / "begun"
    workdir.start(begun, resolve_config(config, begun))
    (begun / workdir.CHECKPOINTS).mkdir()
    recorded = json.loads((begun / "config.json").read_text("utf-8"))
    assert recorded["model"].pop("weights") == "final"
    (begun / "config.json").write_text(json.dumps(recorded))
    workdir.check_same(config, begun)  # the same command goes on with it
    started = prepare(resolve_config(config, begun), jax.local_devices()[:1])
    np.testing.assert_array_equal(
        of_variables(prepared, started.model, started.initial_state.variables),
        of_variables(prepared, prepared.model, sets["ema"]),
    )


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"pretrained": "", "weights": "ema"}, "weights 'ema' are those of a run"),
        ({"pretrained": "{run}", "weights": "emma"}, "'emma'; did you mean 'ema'"),
        ({"pretrained": "{file}", "weights": "ema"}, "only runs have other weights than their f"),
    ],
)
def test_words_without_a_run_and_unknown_ones_are_refused(run, values, sentence, tmp_path):
    directory, *_ = run
    arrays = {"fc.weight": np.zeros((10, 8), np.float32)}
    weight_files.write(tmp_path / "file", arrays, {"architecture": NAME})
    config = tiny_config()
    filled = {k: v.format(run=directory, file=tmp_path / "file") for k, v in values.items()}
    config.model.update(filled)
    with pytest.raises(InputError, match=sentence):
        prepare(resolve_config(config, tmp_path / "new"), jax.local_devices()[:1])


def test_a_network_needs_no_dataset(run, monkeypatch, tmp_path):
    directory, *_ = run
    monkeypatch.setattr("senet_jax.data.sources.lookup.find", gone)
    network = load_classifier(str(directory))
    assert network.class_names == NAMES
    assert network.preprocessing.image_shape == (8, 8, 1)
    export.main(["export", f"--model={directory}", f"--output={tmp_path / 'exported'}"])
    card = json.loads((tmp_path / "exported" / export.CARD).read_text("utf-8"))
    assert card["class_names"] == list(NAMES)
    with pytest.raises(InputError, match="is gone"):
        load_run(directory)
    # A run of a version that did not record them says what it lacks.
    older = shutil.copytree(directory, tmp_path / "older")
    result = json.loads((older / "result.json").read_text("utf-8"))
    del result["class_names"]
    (older / "result.json").write_text(json.dumps(result))
    with pytest.raises(InputError, match=r"does not record its image_shape, mean, .* is gone"):
        load_classifier(str(older))


def gone(name, *_):
    raise InputError(f"{name} is gone")


def test_runs_that_did_not_record_their_dataset_ask_it(run, tmp_path):
    directory, *_ = run
    older = shutil.copytree(directory, tmp_path / "older")
    result = json.loads((older / "result.json").read_text("utf-8"))
    for key in ("image_shape", "mean", "std", "class_names"):
        del result[key]
    (older / "result.json").write_text(json.dumps(result))
    now, before = load_trained_network(directory), load_trained_network(older)
    assert before.class_names == tuple("0123456789")
    assert (before.image_shape, before.mean, before.std) == (now.image_shape, now.mean, now.std)


@pytest.mark.parametrize(
    ("recorded", "difference"),
    [
        ({"class_names": [*NAMES[:8], "9", "8"]}, r"class_names\[8\] \(9 there, 8 now\)"),
        ({"class_names": [*NAMES, "ten"]}, r"class_names\[10\] \(ten there, missing now\)"),
        ({"mean": [0.25]}, r"mean\[0\] \(0.25 there, 0."),
    ],
)
def test_a_run_is_not_loaded_with_another_dataset(run, recorded, difference, tmp_path):
    other = shutil.copytree(run[0], tmp_path / "run")
    result = json.loads((other / "result.json").read_text("utf-8"))
    (other / "result.json").write_text(json.dumps(result | recorded))
    with pytest.raises(InputError, match=f"not the one that .*run was trained on.*{difference}"):
        load_run(other)


@pytest.mark.parametrize("trained_on", [1, 2, 3, 8, 64, "many"])
@pytest.mark.parametrize("here", [1, 3, 4])
def test_a_run_lies_on_devices_that_share_its_batches_as_well(trained_on, here, monkeypatch):
    """Whatever batch, parts of it and pairs went evenly before, does so here."""
    devices = list(range(here))
    monkeypatch.setattr(jax, "local_devices", lambda: devices)
    count = len(trained_run._devices_for(trained_on))
    assert count >= 1
    assert (trained_on if isinstance(trained_on, int) else 1) % count == 0
    assert count == min(here, trained_on) if trained_on in (1, 2, 8, 64) and here != 3 else True


@pytest.mark.parametrize("devices", [8, 3])
def test_the_number_of_devices_in_training_does_not_matter(run, devices, tmp_path):
    """Trained on so many with one image each, on four of them here, or on one."""
    directory, prepared, sets = run
    other = shutil.copytree(directory, tmp_path / "run")
    for name, change in (
        ("config.json", lambda content: content["train"].update(batch_size=devices)),
        ("result.json", lambda content: content.update(devices=devices)),
    ):
        content = json.loads((other / name).read_text("utf-8"))
        change(content)
        (other / name).write_text(json.dumps(content))
    trained = load_run(other)
    assert len(trained.run.devices) == {8: 4, 3: 3}[devices]
    for path, value in jax.tree_util.tree_leaves_with_path(trained.state.variables):
        expected = functools.reduce(lambda tree, key: tree[key.key], path, sets["final"])
        np.testing.assert_array_equal(value, expected)
    step = make_eval_step(prepared.model, prepared.normalize, AXIS)
    scores = []
    for count in (1, 4):
        places = jax.local_devices()[:count]
        variables = replicate(sets["final"], places)
        mapped = map_step(step, places, donate_state=False)
        split = prepared.dataset.eval
        scores.append(evaluate_split(mapped, variables, split, devices, places, classes=10)[0])
    assert scores[0].pop("right") == scores[1].pop("right")
    assert scores[0] == pytest.approx(scores[1], rel=1e-6)
    assert scores[0]["top1_error"] == scores[1]["top1_error"]
