"""On a full disk a run ends with a sentence, and continues to the same bits when there is room."""

import contextlib
import shutil

import jax.numpy as jnp
import pytest
from helpers.disks import mounted
from helpers.runs import same

from senet_jax.errors import InputError
from senet_jax.runs import checkpoints
from senet_jax.system import files
from senet_jax.training import loop
from senet_jax.training.loop import train_and_evaluate


@pytest.fixture
def small_disk(tmp_path):
    """A filesystem of 8 MiB."""
    with mounted(tmp_path / "disk", "size=8m") as path:
        yield path


def fill(disk):
    with (disk / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    assert shutil.disk_usage(disk).free == 0


@pytest.mark.slow(reason="trains four times; that a full disk costs no state is tested quickly")
@pytest.mark.parametrize("number", [1, 4])
def test_a_run_continues_to_the_same_bits_when_there_is_room(
    tiny, tmp_path, one_device, small_disk, monkeypatch, number
):
    tiny.train.checkpoint_every_steps = 1
    train_and_evaluate(tiny, tmp_path / "whole", one_device)
    original, calls, run = loop.learning_rate, [], small_disk / "run"

    def then_full(*arguments):
        calls.append(arguments)
        if len(calls) == number:
            fill(small_disk)
        return original(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(loop, "learning_rate", then_full)
        with pytest.raises(InputError, match="cannot be written: No space left") as caught:
            train_and_evaluate(tiny, run, one_device)
    assert "\n" not in str(caught.value)
    before = checkpoints.complete_steps(run / "checkpoints")
    assert before == list(range(max(1, number - 2), number))
    for _ in range(2):  # still full: nothing is lost by trying
        with pytest.raises(InputError, match="cannot be written: No space left"):
            train_and_evaluate(tiny, run, one_device)
    assert checkpoints.complete_steps(run / "checkpoints") == before
    (small_disk / "filler").unlink()
    train_and_evaluate(tiny, run, one_device)
    same(tmp_path / "whole", run)


def test_what_is_there_stays_when_the_disk_is_full(small_disk, capfd):
    states = small_disk / "checkpoints"
    checkpoints.save(states, 1, {"a": jnp.arange(1000)})
    files.write_json(small_disk / "a.json", {"b": 1})
    fill(small_disk)
    for step in (1, 2):
        with pytest.raises(InputError, match=f"{step} cannot be written: No space left on device"):
            checkpoints.save(states, step, {"a": jnp.zeros(1000, int)})
    with pytest.raises(InputError, match=r"a\.json cannot be written: No space left on device"):
        files.write_json(small_disk / "a.json", {"c": list(range(10_000))})
    assert files.read_json(small_disk / "a.json") == {"b": 1}
    assert checkpoints.restore(states, {"a": jnp.zeros(1000, int)}).state["a"][7] == 7
    names = {path.name for path in small_disk.iterdir()}
    assert names == {"checkpoints", "a.json", "filler"}
    assert capfd.readouterr().err == ""
