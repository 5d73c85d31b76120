"""What is due on a GPU is done stage by stage, each once, whatever becomes of the others."""

import json

import pytest

from experiments import gpu_day, run
from experiments.gpu_day import Stage
from experiments.grid.override import override
from experiments.grid.plan import row_config
from senet_jax.errors import InputError
from senet_jax.models import create_model
from senet_jax.models.counts import summarize
from senet_jax.system import cli


def test_a_stage_that_is_done_is_not_run_again_and_others_are(tmp_path):
    stages = [Stage("good", ["this"], {"PYTHONDONTWRITEBYTECODE": "1"}), Stage("bad", ["nowhere"])]
    first = gpu_day.run_all(stages, tmp_path)
    assert first == [f"bad failed; see {tmp_path / 'bad.log'}"]
    assert b"Zen of Python" in (tmp_path / "good.log").read_bytes()
    before = (tmp_path / "good.log").read_bytes()
    assert gpu_day.run_all(stages, tmp_path) == first
    assert (tmp_path / "good.log").read_bytes() == before
    assert (tmp_path / "bad.log").read_bytes().count(b"nowhere") == 2


def test_a_stage_that_takes_too_long_is_stopped_and_may_continue(tmp_path):
    (problem,) = gpu_day.run_all([Stage("slow", ["http.server", "0"])], tmp_path, limit_s=0.2)
    assert "the same command continues" in problem
    assert not (tmp_path / "slow.done").exists()


@pytest.mark.parametrize("smoke", [True, False])
def test_stages_have_names_of_their_own(tmp_path, smoke):
    names = [stage.name for stage in gpu_day.stages(tmp_path, smoke=smoke)]
    assert len(set(names)) == len(names)
    kinds = list(dict.fromkeys(name.partition("_")[0] for name in names))
    assert kinds == ["tests", "bits", "speed", "campaign", "profile"]


def test_the_campaign_can_be_planned_and_its_rows_are_different_networks(tmp_path):
    (campaign,) = (s for s in gpu_day.stages(tmp_path, smoke=False) if s.name == "campaign")
    values = run.define_all_flags()
    rest = cli.parse_flags(["", *campaign.command[1:]], values, known_only=True)
    study, bases = run.studied(values, rest)
    bases = override(bases, rest[1:], study, list(values))
    configs = [row_config(row, base) for row, base in zip(study.rows, bases, strict=True)]
    assert {(c.data.name, c.train.batch_size) for c in configs} == {("cifar100", 256)}
    networks = [create_model(c.model.name, se=dict(c.model.get("se", {}))) for c in configs]
    sizes = {summarize(network, (32, 32, 3)).params for network in networks}
    assert len(sizes) == len(configs) == 6


@pytest.mark.parametrize(("second", "count"), [("a", 0), ("b", 1)])
def test_different_weights_are_a_problem(tmp_path, second, count):
    assert gpu_day.same_bits(tmp_path) == []
    for name, digest in zip(gpu_day.BITS, ("a", second), strict=True):
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(json.dumps({"params_sha256": digest}))
    assert len(gpu_day.same_bits(tmp_path)) == count


def test_an_argument_is_refused_with_a_sentence():
    with pytest.raises(InputError, match="takes flags only, not 'reduction'"):
        gpu_day.main(["", "reduction"])


@pytest.mark.slow(reason="trains runs, a study and races in miniature")
def test_all_stages_end_in_miniature(tmp_path):
    gpu_day.main(["", "--smoke", f"--workdir={tmp_path}"])
    assert len([*tmp_path.glob("*.done")]) == len(gpu_day.stages(tmp_path, smoke=True))
    assert [*(tmp_path / "profile").rglob("*.xplane.pb")]
