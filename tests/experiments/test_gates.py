"""The command that shows the gates of a run: its files, its tables, and what it refuses."""

import csv
import json
import shutil

import jax
import numpy as np
import pytest
from helpers.runs import finish_untrained, tiny_config

from experiments import gates
from experiments.reporting import plot_gates
from senet_jax.errors import InputError
from senet_jax.inference.gate_statistics import GateSums
from senet_jax.inference.gated_blocks import GatedBlock
from senet_jax.inference.trained_run import TrainedRun, load_run
from senet_jax.system.devices import JIT, PMAP
from senet_jax.training.loop import train_and_evaluate
from senet_jax.training.prepare import prepare


@pytest.fixture(autouse=True)
def _no_cache(monkeypatch):
    """The command's cache of compiled programs would stay on for the tests after it."""
    monkeypatch.setattr(gates.compilation_cache, "enable", lambda: None)


@pytest.fixture(scope="module")
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("finished")
    result = train_and_evaluate(tiny_config(stages=2), directory, jax.local_devices()[:1])
    return directory, result


@pytest.fixture
def finished_copy(finished_run, tmp_path):
    written_later = shutil.ignore_patterns("excitation*")
    shutil.copytree(finished_run[0], tmp_path / "run", ignore=written_later)
    return tmp_path / "run"


def read(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_the_command_writes_its_files_and_agrees_with_the_run(finished_run, capsys):
    directory, result = finished_run
    before = {p: p.read_bytes() for p in directory.rglob("*") if p.is_file()}
    gates.main(["gates", f"--workdir={directory}", "--classes=7,0"])
    assert all(path.read_bytes() == content for path, content in before.items())
    assert (directory / "excitation.png").read_bytes().startswith(b"\x89PNG")
    rows = read(directory / "excitation.csv")
    assert [row["block"] for row in rows] == [f"stage{n}/block1" for n in (2, 3)]
    as_trained, removed, mean = read(directory / "excitation_removed.csv")
    assert float(as_trained["top1_error"]) == result["eval/top1_error"]
    assert float(as_trained["loss"]) == result["eval/loss"]
    assert [int(row["examples"]) for row in (as_trained, removed, mean)] == [50] * 3
    # Stage 3 has 8 channels and one hidden unit.
    assert int(as_trained["params"]) - int(removed["params"]) == 2 * 8
    assert int(mean["params"]) - int(removed["params"]) == 8
    printed = capsys.readouterr().out
    assert "rounds differently" not in printed
    assert "1 (blocks removed)" in printed


def test_whatever_spread_the_steps_of_a_run_its_gates_are_the_same(tmp_path):
    tables = []
    for backend in (PMAP, JIT):  # steps have an axis to sum over, and none
        config = tiny_config()
        config.parallel.backend = backend
        finish_untrained(tmp_path / backend, config)
        trained = load_run(tmp_path / backend)
        sums = gates.record(trained)
        tables.append([*sums.class_means.ravel(), gates.evaluate_with(trained, {})["loss"]])
    np.testing.assert_allclose(*tables, rtol=1e-5)


@pytest.mark.parametrize(
    ("se", "cases", "sentence"),
    [
        ({"kind": "cbam"}, 2, "- CBAM gates positions as well: no constants per channel"),
        ({"squeeze": "none"}, 3, "- Gates of positions are averaged over these first"),
    ],
)
def test_of_gates_of_positions_is_said_what_is_not_shown(se, cases, sentence, tmp_path, capsys):
    config = tiny_config()
    config.model.se.update(se)
    finish_untrained(tmp_path, config)
    gates.main(["gates", f"--workdir={tmp_path}"])
    assert sentence in capsys.readouterr().out
    assert len(read(tmp_path / "excitation_removed.csv")) == cases


def test_without_flags_four_classes_that_have_examples_are_drawn():
    names = tuple("abcdefghij")
    examples = np.array([0, 0, 3, 3, 3, 3, 3, 3, 3, 0])
    assert gates.chosen_classes(None, names, examples) == [2, 4, 6, 8]
    assert gates.chosen_classes(None, names, examples * (np.arange(10) == 5)) == [5]
    assert gates.chosen_classes([2, 4], names, examples) == [2, 4]
    with pytest.raises(InputError, match="class 'a' has no images"):
        gates.chosen_classes([2, 0], names, examples)


def test_lines_of_classes_with_one_name_are_told_apart(rng):
    sums = GateSums.zeros(4, 3)
    sums.add(rng.uniform(size=(8, 3)), np.arange(8) % 4)
    names = ("crane", "crane", plot_gates.EVERYTHING, "dog")
    drawn = gates.panels([GatedBlock("stage2/block1/se", 2, 3)], sums, names, range(4))
    (lines,) = drawn.values()
    assert list(lines) == ["crane (0)", "crane (1)", "all classes (2)", "dog", "all classes"]


def test_the_figure_has_the_last_block_of_each_stage_and_all_of_the_last(rng):
    blocks = [GatedBlock(f"stage{s}/block{b}/se", s, 3) for s in (2, 3) for b in (1, 2)]
    labels = np.array([0, 0, 0, 1])
    all_gates = rng.uniform(size=(4, 12))
    sums = GateSums.zeros(2, 12)
    sums.add(all_gates, labels)
    drawn = gates.panels(blocks, sums, ("cat", "dog"), [1])
    assert list(drawn) == ["stage2/block2", "stage3/block1", "stage3/block2"]
    lines = drawn["stage2/block2"]
    assert list(lines) == ["dog", plot_gates.EVERYTHING]
    np.testing.assert_allclose(lines["dog"], all_gates[3, 3:6])
    means = (all_gates[:3, 3:6].mean(0) + all_gates[3, 3:6]) / 2  # of classes, not of images
    np.testing.assert_allclose(lines[plot_gates.EVERYTHING], means)


def break_nothing(directory):
    return directory


def without_checkpoint(directory):
    shutil.rmtree(directory / "checkpoints")


def without_result(directory):
    (directory / "result.json").unlink()


def with_other_weights(directory):
    result = json.loads((directory / "result.json").read_text())
    (directory / "result.json").write_text(json.dumps(result | {"params_sha256": "0"}))


def with_a_different_model(directory):
    config = json.loads((directory / "config.json").read_text())
    config["model"]["se"]["ratio"] = 1
    (directory / "config.json").write_text(json.dumps(config))


def with_damage(directory):
    next(directory.glob("checkpoints/8/state/d/*")).write_bytes(b"")


@pytest.mark.parametrize(
    ("change", "arguments", "sentence"),
    [
        (without_checkpoint, (), "has a result but not the weights behind it"),
        (without_result, (), r"has no result\.json: its run is not finished"),
        (with_other_weights, (), "are not those of .*: their params_sha256 differ"),
        (
            with_a_different_model,
            (),
            r"params/stage2/block1/se/expand/kernel is float32 \(1, 4\) there and float32 \(4, 4\)",
        ),
        (with_damage, (), "8 is damaged: state/d/.* was changed"),
        (break_nothing, ("--classes=11",), "'11', which is neither a class .* from 0 to 9"),
        (break_nothing, ("--classes=",), "--classes is empty"),
        (break_nothing, ("more",), "unexpected argument 'more'"),
        (shutil.rmtree, (), r"has no config\.json"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_sentence(finished_copy, change, arguments, sentence):
    change(finished_copy)
    with pytest.raises(InputError, match=sentence) as caught:
        gates.main(["gates", f"--workdir={finished_copy}", *arguments])
    assert "\n" not in str(caught.value)
    assert not list(finished_copy.glob("excitation*"))


@pytest.mark.parametrize("se", [{"stages": ()}, {"kind": "gc"}, {"kind": "conv"}])
def test_a_network_without_gates_is_refused(tiny, one_device, se):
    """Of blocks of another kind it is not said that they are none."""
    with tiny.unlocked():
        tiny.model.se.update(se)
    run = prepare(tiny, one_device)
    with pytest.raises(InputError, match="no blocks with a gate for each channel, as SE blocks"):
        gates.find_blocks(TrainedRun(run, run.initial_state, {"model": "resnet"}))


def test_a_work_directory_must_be_given():
    with pytest.raises(InputError, match="give the work directory of a finished run"):
        gates.main(["gates"])
