"""A checkpoint gives back what was saved, bit for bit, or says in a sentence why it cannot."""

import os
import re
import shutil
import string
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from senet_jax.errors import InputError
from senet_jax.runs import checkpoints, checksums, provenance, workdir
from senet_jax.system.devices import assert_replicated, replicate
from senet_jax.training.loop import train_and_evaluate
from senet_jax.training.prepare import prepare
from senet_jax.training.state import TrainState


def make_state(seed=0, **shapes):
    """A state like a run's, with every kind of leaf; `shapes` are of further parameters."""
    rng = np.random.default_rng(seed)
    params = {
        "head": {"kernel": rng.normal(size=(64, 10)).astype(np.float32), "bias": np.ones(10)},
        **{name: {"kernel": np.zeros(shape, np.float32)} for name, shape in shapes.items()},
    }
    params = jax.tree.map(jnp.asarray, params)
    return TrainState(
        step=jnp.int32(7),
        key=jax.random.key(seed),
        params=params,
        batch_stats={"bn": {"mean": jnp.full(3, 1e-30)}},
        opt_state=optax.sgd(0.1, momentum=0.9).init(params),
    )


def bits(state):
    leaves = jax.tree_util.tree_leaves_with_path(state.replace(key=jax.random.key_data(state.key)))
    return [(path, leaf.dtype, np.asarray(leaf).tobytes()) for path, leaf in leaves]


@pytest.fixture
def saved(tmp_path):
    checkpoints.save(tmp_path / "checkpoints", 7, make_state())
    return tmp_path / "checkpoints"


@pytest.mark.parametrize("count", [1, 4])
def test_what_is_restored_is_what_was_saved_and_where_it_is_expected(tmp_path, count):
    devices = jax.local_devices()[:count]
    state = replicate(make_state(), devices)
    checkpoints.save(tmp_path, 7, state)
    blank = replicate(make_state(seed=1), devices)
    restored = checkpoints.restore(tmp_path, blank).state
    assert bits(restored) == bits(state)
    assert jax.random.bits(restored.key) == jax.random.bits(state.key)
    assert_replicated(restored)
    same = jax.tree.map(lambda a, b: a.sharding == b.sharding, restored, blank)
    assert all(jax.tree.leaves(same))


@pytest.mark.parametrize("name", ["train[:50%]", "".join(sorted({*string.punctuation} - {*"/\\"}))])
def test_any_path_that_a_run_may_have_keeps_its_state_also_when_it_moves(tmp_path, name):
    place = tmp_path / name / "checkpoints"
    workdir.check_usable(place.parent)
    checkpoints.save(place, 7, make_state())
    for folder in (place, shutil.copytree(place, tmp_path / "elsewhere")):
        assert bits(checkpoints.restore(folder, make_state(seed=1)).state) == bits(make_state())
        assert checkpoints.read(folder, ["params"]).state["params"]["head"]["bias"].shape == (10,)


@pytest.mark.parametrize("name", ["a\\b", "a**"])
def test_a_path_where_no_state_can_be_written_is_refused_before_anything_is(tmp_path, name):
    with pytest.raises(InputError, match=r"has '.+' in its path, where no checkpoint can be"):
        workdir.check_usable(tmp_path / name / "seed0")
    assert not [*tmp_path.iterdir()]


def test_the_latest_complete_step_counts(saved, monkeypatch):
    checkpoints.save(saved, 12, make_state(seed=1))
    (saved / "100").mkdir()
    (saved / "notes.txt").touch()
    assert bits(checkpoints.restore(saved, make_state()).state) == bits(make_state(seed=1))
    (saved / "12" / checkpoints.SUMS).unlink()
    monkeypatch.chdir(saved.parent)  # and directories may be relative
    assert bits(checkpoints.restore(Path("checkpoints"), make_state()).state) == bits(make_state())


def test_no_checkpoint_is_made_where_one_is_looked_for(tmp_path):
    for name in ("nowhere", "file", "empty"):
        if name != "nowhere":
            getattr(tmp_path / name, "touch" if name == "file" else "mkdir")()
        with pytest.raises(InputError, match="there is no complete checkpoint in"):
            checkpoints.restore(tmp_path / name, make_state())
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["empty", "file"]


def wider_head():
    return {"head": {"kernel": jnp.ones((64, 11)), "bias": jnp.ones(10)}}


def without_head():
    state = make_state(tail=(64, 10))
    del state.params["head"]
    return state


@pytest.mark.parametrize(
    ("expected", "sentence"),
    [
        (make_state(extra=(2, 3)), "params/extra/kernel is missing there and float32 (2, 3) in"),
        (without_head(), "params/head/bias is float32 (10,) there and missing in the model"),
        (
            make_state().replace(params={"head": wider_head()["head"] | {"bias": 1.0}}),
            "params/head/bias is float32 (10,) there and float32 () in the model, and 1 more",
        ),
        (
            make_state().replace(params=wider_head()),
            "head/kernel is float32 (64, 10) there and float32 (64, 11)",
        ),
        (make_state().replace(step=jnp.float32(0)), "step is int32 () there and float32 () in"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused_with_path_and_shapes(saved, expected, sentence):
    expected = jax.tree.map(jnp.asarray, expected)
    with pytest.raises(InputError, match=re.escape(sentence)) as caught:
        checkpoints.restore(saved, expected)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["missing", "short", "changed"])
def test_damage_to_any_file_is_found(saved, damage):
    """A changed byte of an array is one that Orbax itself reads without complaint."""
    whole = saved.with_name("whole")
    shutil.copytree(saved, whole)
    for path in [path for path in whole.rglob("*") if path.is_file()]:
        name = path.relative_to(whole / "7").as_posix()
        broken = saved / "7" / name
        content = path.read_bytes()
        if name == checkpoints.SUMS or (damage != "missing" and not content):
            continue
        if damage == "missing":
            broken.unlink()
        elif damage == "short":
            broken.write_bytes(content[:-1])
        else:
            middle = len(content) // 2
            broken.write_bytes(
                content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
            )
        with pytest.raises(InputError, match=rf"7 is damaged: {name} (is missing|was changed)"):
            checkpoints.restore(saved, make_state())
        broken.write_bytes(content)
    checkpoints.restore(saved, make_state())


def test_what_orbax_cannot_read_is_one_sentence(saved, capfd):
    """Damage from before the sums were made, which stands for a format of another version."""
    (saved / "7" / "state" / "_METADATA").write_text("garbage")
    checksums.write(saved / "7")
    with pytest.raises(InputError, match="7 cannot be read: Orbax finds") as caught:
        checkpoints.restore(saved, make_state())
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("content", ["", "short"])
def test_sums_that_do_not_list_every_file_are_damage(saved, content):
    """A power cut can leave an empty file, or the first lines."""
    path = saved / "7" / checkpoints.SUMS
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]) if content else "")
    with pytest.raises(InputError, match=r"7 is damaged: \S+ is not in SHA256SUMS"):
        checkpoints.restore(saved, make_state())


@pytest.mark.parametrize("place", ["write", "sync", "_remove", "_put_in_place", "rename"])
def test_a_step_that_is_saved_again_is_there_whenever_that_is_cut_off(saved, monkeypatch, place):
    """At any of its calls of a function; afterwards it can be saved once more."""
    owner = {"write": checkpoints.files, "sync": checkpoints.files, "rename": Path}.get(
        place, checkpoints
    )
    original, ends = getattr(owner, place), False
    for number in range(1, 100):
        calls = 0

        def cut_off(*arguments, number=number):
            nonlocal calls
            calls += 1
            if calls == number:
                raise KeyboardInterrupt
            return original(*arguments)

        with monkeypatch.context() as patched:
            patched.setattr(owner, place, cut_off)
            try:
                checkpoints.save(saved, 7, make_state(seed=number), {"number": number})
                ends = True
            except KeyboardInterrupt:
                pass
        restored = checkpoints.restore(saved, make_state())
        assert restored.step == 7
        assert restored.notes.get("number") in (None, *range(1, number + 1))
        if ends:
            break
    assert ends
    assert number > 1
    checkpoints.save(saved, 7, make_state(), {"number": 0})
    checkpoints.prune(saved, [7])
    assert checkpoints.restore(saved, make_state()).notes == {"number": 0}
    assert [path.name for path in saved.iterdir()] == ["7"]


def test_where_nothing_can_be_written_it_says_why(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file/7 cannot be written: File exists"):
        checkpoints.save(tmp_path / "file", 7, make_state())


def test_a_step_can_be_saved_again_and_notes_are_kept(saved):
    checkpoints.save(saved, 7, make_state(seed=1), {"owed": True, "sums": {"loss": 0.1}})
    restored = checkpoints.restore(saved, make_state())
    assert bits(restored.state) == bits(make_state(seed=1))
    assert (restored.step, restored.notes) == (7, {"owed": True, "sums": {"loss": 0.1}})


def test_the_one_before_a_damaged_checkpoint_is_used_with_a_warning(saved, capsys):
    for step in (8, 9):
        checkpoints.save(saved, step, make_state(seed=step))
    (saved / "9" / checkpoints.NOTES).write_text("{}x")
    assert checkpoints.restore(saved, make_state()).step == 8
    assert f"warning: checkpoint {saved}/9 is damaged: notes.json was changed" in (
        capsys.readouterr().err
    )
    for step in (7, 8):
        (saved / f"{step}" / checkpoints.NOTES).unlink()
    with pytest.raises(InputError, match=r"7 is damaged: notes\.json is missing"):
        checkpoints.restore(saved, make_state())


def test_pruning_keeps_what_it_is_told_to_and_removes_what_attempts_left(saved):
    for step in (8, 9, 10):
        checkpoints.save(saved, step, make_state())
    (saved / "11.orbax-checkpoint-tmp").mkdir()
    (saved / "12").mkdir()
    (saved / "8.new").mkdir()
    (saved / "of_mine").mkdir()
    checkpoints.prune(saved, [8, 10])
    assert sorted(path.name for path in saved.iterdir()) == ["10", "8", "of_mine"]


def test_a_full_disk_is_one_sentence(tmp_path):
    """A limit on the size of files gives the same error from the same place."""
    code = (
        "import resource, signal, sys; from pathlib import Path; import jax.numpy as jnp;"
        "from senet_jax import errors; from senet_jax.runs import checkpoints;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000));\n"
        "try: checkpoints.save(Path(sys.argv[1]), 7, {'a': jnp.arange(1e6)})\n"
        "except errors.InputError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.stdout == f"checkpoint {tmp_path}/7 cannot be written: File too large\n"
    assert done.stderr == ""


def test_a_run_keeps_its_final_state_and_refuses_that_of_another(tiny, tmp_path, one_device):
    strange = tmp_path / "checkpoints" / "99"
    checkpoints.save(strange.parent, 99, make_state())
    with pytest.raises(InputError, match=r"holds checkpoints but no config\.json"):
        train_and_evaluate(tiny, tmp_path, one_device)
    workdir.start(tmp_path, tiny)  # as an interrupted run of the same configuration leaves it
    with pytest.raises(InputError, match="99 does not fit the model: params/"):
        train_and_evaluate(tiny, tmp_path, one_device)
    assert strange.is_dir()
    checkpoints.prune(strange.parent, [])
    result = train_and_evaluate(tiny, tmp_path, one_device)
    assert checkpoints.complete_steps(strange.parent) == [result["step"]] == [8]
    run = prepare(tiny, one_device)
    state = checkpoints.restore(strange.parent, run.initial_state).state
    assert provenance.fingerprint(state.variables) == result["params_sha256"]
    assert int(state.step) == 8
    assert jax.random.bits(state.key) == jax.random.bits(run.initial_state.key)
    before = os.stat(tmp_path / "result.json").st_mtime_ns
    newest = max(path.stat().st_mtime_ns for path in strange.parent.rglob("*"))
    assert newest <= before
