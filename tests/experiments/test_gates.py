"""The study of the gates: statistics, constants in place of gates, and the command."""

import csv
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.runs import tiny_config

import senet_jax
from experiments import gates as role_of_excitation
from experiments.grid.narrow import NARROW, size_of
from experiments.reporting import plot_gates
from senet_jax.errors import InputError
from senet_jax.inference import gate_statistics
from senet_jax.inference.gate_statistics import Block, GateSums
from senet_jax.layers.squeeze_excite import SEConfig, SqueezeExcite
from senet_jax.system.devices import AXIS, pmap_step
from senet_jax.training.loop import train_and_evaluate
from senet_jax.training.prepare import prepare


@pytest.fixture(autouse=True)
def _no_cache(monkeypatch):
    """The command's cache of compiled programs would stay on for the tests after it."""
    monkeypatch.setattr(role_of_excitation.compilation_cache, "enable", lambda: None)


@pytest.fixture(scope="module")
def rng():
    return np.random.default_rng(0)


def test_gates_are_sown_only_where_they_are_asked_for():
    layer, u = SqueezeExcite(SEConfig(squeeze="none")), jnp.ones((2, 3, 3, 16))
    variables = layer.init(jax.random.key(0), u)
    assert set(variables) == {"params"}
    assert not isinstance(layer.apply(variables, u), tuple)
    y, sown = layer.apply(variables, u, mutable=["gates"])
    np.testing.assert_array_equal(y, layer.apply(variables, u))
    np.testing.assert_array_equal(sown["gates"]["gate"][0] * u, y)


@pytest.mark.parametrize("squeeze", ["avg", "max", "none"])
def test_recorded_gates_are_what_scales_the_maps(squeeze):
    """With a map of ones, an identity block after it would give the gate itself."""
    layer, u = SqueezeExcite(SEConfig(ratio=2, squeeze=squeeze)), jnp.ones((2, 3, 3, 4))
    u = u * jnp.arange(1, 5)
    variables = layer.init(jax.random.key(0), u)
    found = gate_statistics.gates_of(Whole(layer), {"params": {"layer": variables["params"]}}, u)
    expected = (layer.apply(variables, u) / u).mean(axis=(1, 2))
    np.testing.assert_allclose(found["layer"], expected, rtol=1e-6)


class Whole(senet_jax.layers.network.nn.Module):
    layer: SqueezeExcite

    def __call__(self, u, train):
        return self.layer(u)


NETWORKS = [name for name in NARROW if name.startswith("se")]


@pytest.mark.parametrize("name", NETWORKS)
def test_every_family_names_its_blocks_in_order_with_their_stages(name):
    fields = {key: value for key, value in NARROW[name].items() if key != "se"}
    model = senet_jax.create_model(name, **fields, se=NARROW[name].get("se"))
    shape = (size_of(name), size_of(name), 3)
    blocks = gate_statistics.find_blocks(model, shape)
    assert {block.stage for block in blocks} == set(model.se.stages)
    stages = [block.stage for block in blocks]
    assert stages == sorted(stages)
    assert len({block.name for block in blocks}) == len(blocks)
    kept = gate_statistics.find_blocks(gate_statistics.without_stage(model, stages[-1]), shape)
    assert kept == tuple(block for block in blocks if block.stage != stages[-1])


def make_sums(gates_of_all, labels, classes, parts=3):
    sums = GateSums.zeros(classes, gates_of_all.shape[1])
    for part in np.array_split(np.arange(len(labels)), parts):
        sums.add(gates_of_all[part], labels[part])
    return sums


@pytest.mark.parametrize("spread", [0.3, 1e-5])
def test_statistics_are_those_of_all_gates(rng, spread):
    """Sums agree with NumPy on all gates at once, also where gates hardly differ."""
    labels = rng.choice([0, 1, 1, 3], 200)  # class 2 has no examples, class 1 more than others
    means = 0.5 + spread * rng.uniform(-1, 1, (4, 7))
    all_gates = np.float32(means[labels] + spread * rng.uniform(-0.6, 0.6, (200, 7)))
    sums = make_sums(all_gates, labels, 4)
    found, x = sums.summary(), np.float64(all_gates)
    tolerance = {"rtol": 1e-9 if spread > 0.1 else 1e-4}
    np.testing.assert_allclose(found["mean"], x.mean(), rtol=1e-12)
    np.testing.assert_allclose(found["std"], x.std(), **tolerance)
    assert found["high"] == (x > 0.95).mean()
    assert found["low"] == (x < 0.05).mean()
    group_means = np.stack([x[labels == label].mean(0) for label in labels])
    np.testing.assert_allclose(
        found["between"], ((group_means - x.mean(0)) ** 2).mean(), **tolerance
    )
    np.testing.assert_allclose(found["within"], ((x - group_means) ** 2).mean(), **tolerance)
    np.testing.assert_allclose(
        found["std"] ** 2, found["between"] + found["within"] + x.mean(0).var(), **tolerance
    )
    assert np.isnan(sums.class_means[2]).all()
    np.testing.assert_allclose(sums.class_means[1], x[labels == 1].mean(0), rtol=1e-12)


def test_the_share_of_classes_is_one_zero_or_not_a_number(rng):
    labels = np.repeat([0, 1], 50)
    of_class = rng.uniform(size=(2, 5))[labels]
    assert make_sums(of_class, labels, 2).summary()["share"] == pytest.approx(1)
    equal = np.tile(rng.uniform(size=(50, 5)), (2, 1))
    assert make_sums(equal, labels, 2).summary()["share"] == pytest.approx(0, abs=1e-9)
    assert np.isnan(make_sums(np.ones((100, 5)), labels, 2).summary()["share"])


def test_blocks_get_their_own_channels(rng):
    all_gates, labels = rng.uniform(size=(20, 5)), rng.integers(0, 3, 20)
    first, second = Block("a", 2, 2), Block("b", 3, 3)
    split = dict(make_sums(all_gates, labels, 3).split((first, second)))
    np.testing.assert_allclose(split[first].mean, all_gates[:, :2].mean(0))
    assert split[second].summary() == pytest.approx(
        make_sums(all_gates[:, 2:], labels, 3).summary()
    )


@pytest.mark.parametrize("count", [1, 4])
def test_every_example_is_recorded_once_and_padding_is_not(tiny, count):
    """50 examples in batches of 32, against one pass over all of them."""
    devices = jax.local_devices()[:count]
    run = prepare(tiny, devices)
    step = gate_statistics.make_gate_step(run.model, run.normalize, AXIS)
    mapped = pmap_step(step, devices, donate_state=False)
    sums = gate_statistics.record(mapped, run.initial_state, run.dataset.eval, 32, 10, devices)
    variables = jax.tree.map(np.asarray, run.initial_state.variables)
    images = run.normalize(jnp.asarray(run.dataset.eval.image))
    direct = np.concatenate(
        [*gate_statistics.gates_of(run.model, variables, images).values()], axis=1, dtype=np.float64
    )
    labels = run.dataset.eval.label
    np.testing.assert_array_equal(sums.examples, np.bincount(labels, minlength=10))
    np.testing.assert_allclose(sums.mean, direct.mean(0), rtol=1e-5)
    np.testing.assert_allclose(sums.class_means[3], direct[labels == 3].mean(0), rtol=1e-5)
    np.testing.assert_allclose(sums.squares, (direct**2).sum(0), rtol=1e-5)


@pytest.mark.parametrize("placement", ["standard", "pre", "post", "identity"])
@pytest.mark.parametrize("squeeze", ["avg", "none"])
def test_a_gate_of_one_is_the_network_without_the_block(rng, placement, squeeze):
    """To the bit, with the same remaining weights; and other gates are another network."""
    se = {"placement": placement, "squeeze": squeeze, "ratio": 2}
    fields = {"stage_sizes": (1, 1, 2), "width": 4, "num_classes": 3}
    model = senet_jax.create_model("seresnet20_cifar", se=se, **fields)
    images = jnp.float32(rng.normal(size=(5, 8, 8, 3)))
    variables = model.init(jax.random.key(0), images)
    blocks = [b.name for b in gate_statistics.find_blocks(model, (8, 8, 3)) if b.stage == 4]
    assert len(blocks) == 2
    plain = gate_statistics.without_stage(model, 4)
    kept = jax.tree.map(lambda leaf: leaf, variables["params"])  # a copy of the dicts
    for block in kept["stage4"].values():
        block.pop("se")
    expected = plain.apply({**variables, "params": kept}, images)
    with_one = gate_statistics.with_constants(model.apply, dict.fromkeys(blocks, 1.0))
    np.testing.assert_array_equal(with_one(variables, images), expected)
    assert np.abs(model.apply(variables, images) - expected).max() > 1e-3
    halves = gate_statistics.with_constants(model.apply, dict.fromkeys(blocks, 0.5))
    assert np.abs(halves(variables, images) - expected).max() > 1e-3


def test_constants_are_the_gates_where_these_do_not_depend_on_the_image(rng):
    model = senet_jax.create_model("seresnet20_cifar", stage_sizes=(1, 1, 1), width=4)
    images = jnp.float32(rng.normal(size=(1, 8, 8, 3)))
    variables = model.init(jax.random.key(0), images)
    constants = {
        name: np.asarray(gate[0])
        for name, gate in gate_statistics.gates_of(model, variables, images).items()
    }
    replaced = gate_statistics.with_constants(model.apply, constants)(variables, images)
    np.testing.assert_allclose(replaced, model.apply(variables, images), rtol=1e-5)


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("finished")
    result = train_and_evaluate(tiny_config(), directory, jax.local_devices()[:1])
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
    role_of_excitation.main(["excitation", f"--workdir={directory}", "--classes=7,0"])
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
    assert "rounds in another way" not in printed
    assert "1 (blocks removed)" in printed


def test_without_flags_four_classes_that_have_examples_are_drawn():
    names = tuple("abcdefghij")
    examples = np.array([0, 0, 3, 3, 3, 3, 3, 3, 3, 0])
    assert role_of_excitation.chosen_classes(None, names, examples) == [2, 4, 6, 8]
    assert role_of_excitation.chosen_classes(None, names, examples * (np.arange(10) == 5)) == [5]
    assert role_of_excitation.chosen_classes(["c", "4", "c"], names, examples) == [2, 4]
    with pytest.raises(InputError, match="class 'a' has no images"):
        role_of_excitation.chosen_classes(["c", "a"], names, examples)


def test_the_figure_has_the_last_block_of_each_stage_and_all_of_the_last(rng):
    blocks = [Block(f"stage{s}/block{b}/se", s, 3) for s in (2, 3) for b in (1, 2)]
    labels = np.array([0, 0, 0, 1])
    all_gates = rng.uniform(size=(4, 12))
    drawn = role_of_excitation.panels(blocks, make_sums(all_gates, labels, 2), ("cat", "dog"), [1])
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


def with_another_model(directory):
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
            with_another_model,
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
        role_of_excitation.main(["excitation", f"--workdir={finished_copy}", *arguments])
    assert "\n" not in str(caught.value)
    assert not list(finished_copy.glob("excitation*"))


def test_a_network_without_gates_is_refused(tiny, one_device):
    tiny.model.se.stages = ()
    run = prepare(tiny, one_device)
    with pytest.raises(InputError, match="has no SE blocks"):
        role_of_excitation.find_blocks(
            role_of_excitation.TrainedRun(run, run.initial_state, {"model": "resnet"})
        )


def test_a_work_directory_must_be_given():
    with pytest.raises(InputError, match="give the work directory of a finished run"):
        role_of_excitation.main(["excitation"])
