"""Arithmetic that everything rests on, for arbitrary numbers, against plain models of it."""

import functools
import itertools
import json
import math

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from configs import digits
from senet_jax.config import differences, flatten, plain
from senet_jax.data import in_memory
from senet_jax.errors import InputError
from senet_jax.runs import checkpoints, effect, workdir
from senet_jax.system import cli, files
from senet_jax.training import optim
from senet_jax.training.optim import OptimConfig
from senet_jax.training.recipe import check
from senet_jax.training.schedules import make_schedule

# What flags can say, by the type of a key's default.
VALUES = {
    bool: st.booleans(),
    int: st.integers(-(10**20), 10**20),
    float: st.floats(allow_nan=False, allow_infinity=False),
    str: st.text("abcxyz_0189[]:%+", min_size=1).filter(lambda text: text[0].isalpha()),
    tuple: st.lists(st.integers(-99, 99), max_size=4).map(tuple),
}
FLAT = flatten(digits.get_config().to_dict())


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_flags_change_what_they_name_and_survive_the_work_directory(tmp_path_factory, data):
    keys = data.draw(st.lists(st.sampled_from(sorted(FLAT)), max_size=6, unique=True))
    given_values = {key: data.draw(VALUES[type(FLAT[key])], key) for key in keys}
    config = cli.with_flags(
        digits.get_config().lock(), [f"--config.{k}={v}" for k, v in given_values.items()]
    )
    assert flatten(config.to_dict()) == FLAT | given_values
    directory = tmp_path_factory.mktemp("run")
    files.write_json(directory / "config.json", plain(config))
    loaded = workdir.load_config(directory)
    assert loaded.to_dict() == config.to_dict()
    assert plain(loaded) == plain(config)
    workdir.check_same(config, directory)
    other = data.draw(st.sampled_from(sorted(FLAT)))
    value = data.draw(VALUES[type(FLAT[other])])
    changed = ConfigDict(config.to_dict())
    changed.update_from_flattened_dict({other: value})
    before, after = flatten(config.to_dict()), flatten(changed.to_dict())
    idle = {*effect.without(before)} & {*effect.without(after)}
    if before[other] == after[other] or other in idle or other in workdir.MEANS:
        workdir.check_same(changed, directory)
    else:
        with pytest.raises(InputError, match=f"differing in {other}"):
            workdir.check_same(changed, directory)


def test_runs_of_before_a_key_was_there_continue_where_it_changes_nothing(tmp_path):
    config = digits.get_config().lock()
    older = plain(config)
    for key in workdir.ADDED:
        section, _, name = key.partition(".")
        del older[section][name]
    files.write_json(tmp_path / "config.json", older)
    workdir.check_same(config, tmp_path)
    loaded = workdir.load_config(tmp_path)
    workdir.check_same(loaded, tmp_path)
    before, now = (check(which, jax.local_devices()[:1]) for which in (loaded, config))
    for part in ("train", "optim", "augment", "mixing", "parallel"):
        assert getattr(before, part) == getattr(now, part), part
    with pytest.raises(InputError, match=r"differing in data.label \( there, coarse now\)"):
        workdir.check_same(cli.with_flags(config, ["--config.data.label=coarse"]), tmp_path)


TREES = st.recursive(
    st.integers(),
    lambda inner: st.dictionaries(st.text("abc", min_size=1), inner, min_size=1, max_size=3),
)


@given(st.dictionaries(st.text("abc", min_size=1), TREES, max_size=4))
def test_flat_keys_lead_to_their_values_and_there_are_no_others(tree):
    flat = flatten(tree)
    for key, value in flat.items():
        assert functools.reduce(dict.get, key.split("."), tree) == value
    count = lambda node: sum(map(count, node.values())) if isinstance(node, dict) else 1
    assert len(flat) == count(tree)
    assert differences(flat, flat) == ""


@settings(deadline=None)
@given(st.sampled_from(sorted(FLAT)), st.integers(0, 30))
def test_a_key_misspelt_by_exchanging_two_letters_is_refused_with_the_right_one(key, place):
    section, _, name = key.rpartition(".")
    place %= max(1, len(name) - 1)
    wrong = name[:place] + name[place : place + 2][::-1] + name[place + 2 :]
    misspelt = f"{section}.{wrong}" if section else wrong
    if misspelt in FLAT:
        return
    with pytest.raises(InputError, match=f"unknown key --config.{misspelt}; did you mean '{key}'"):
        cli.given_keys([f"--config.{misspelt}=1"], "config", digits.get_config())


RUNS = st.tuples(st.integers(1, 60), st.integers(1, 60))  # epochs in eighths, steps an epoch


@settings(deadline=None, max_examples=60)
@given(
    run=RUNS,
    warmup=st.integers(0, 70),
    kind=st.sampled_from(["linear", "constant"]),
    schedule=st.sampled_from(["step", "cosine", "constant", "plateau"]),
    boundaries=st.lists(st.integers(1, 19), max_size=4, unique=True),
    factor=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
)
def test_the_rate_is_the_written_out_one_at_every_step(
    run, warmup, kind, schedule, boundaries, factor
):
    epochs, per_epoch = run
    total = max(1, round(epochs / 8 * per_epoch))
    fractions = tuple(b / 20 for b in sorted(boundaries))
    config = OptimConfig(0.4, schedule, fractions, factor, warmup_epochs=warmup / 8, warmup=kind)
    rate = make_schedule(config, total, per_epoch)
    warm = round(warmup / 8 * per_epoch)  # also where the run is shorter
    rates = np.array([rate(np.int32(step)) for step in range(total + 1)], np.float64)
    for step in range(total):
        if step < warm:
            expected = 0.4 * step / warm if kind == "linear" else 0.04
        elif schedule == "cosine":
            expected = 0.2 * (1 + math.cos(math.pi * (step - warm) / (total - warm)))
        elif schedule == "step":
            # What falls into the warm-up counts when it is over.
            passed = sum(step >= max(round(f * total), 0) for f in fractions)
            expected = 0.4 * factor**passed
        else:
            expected = 0.4
        assert rates[step] == pytest.approx(expected, abs=1e-6), step
    assert rates.min() >= 0
    assert rates.max() <= 0.4 + 1e-6
    assert (np.diff(rates[: warm + 1 if warm < total else warm]) >= 0).all() or factor < 1


class Reference:
    """torch.optim.lr_scheduler.ReduceLROnPlateau, relative threshold, with our limit."""

    def __init__(self, config):
        self.config, self.best, self.stale, self.count, self.scale = config, math.inf, 0, 0, 1.0

    def step(self, loss):
        if np.float32(loss) < np.float32(self.best) * np.float32(1 - optim.NOT_LOWER):
            self.best, self.stale = loss, 0
        else:
            self.stale += 1
        if self.stale >= self.config.patience and self.count < self.config.reductions:
            self.scale, self.stale, self.count = self.scale * self.config.factor, 0, self.count + 1


@settings(deadline=None, max_examples=30)
@given(
    losses=st.lists(st.integers(1, 12).map(lambda n: n / 4), max_size=25),
    patience=st.integers(1, 4),
    reductions=st.integers(1, 3),
)
def test_plateaus_are_those_of_a_plain_loop(losses, patience, reductions):
    config = OptimConfig(0.1, "plateau", (), 0.5, patience, reductions)
    plateau, reference = optim.initial_plateau(), Reference(config)
    for loss in losses:
        plateau = optim.after_evaluation(config, plateau, loss)
        reference.step(loss)
        values = tuple(float(value) for value in plateau)
        assert values == (reference.scale, reference.best, reference.stale, reference.count)


@given(
    examples=st.integers(1, 60),
    size=st.integers(1, 20),
    start=st.integers(0, 40),
    seed=st.integers(0, 5),
)
def test_batches_from_a_step_on_are_those_after_skipping_the_ones_before(
    examples, size, start, seed
):
    size = min(size, examples)
    labels = np.arange(examples, dtype=np.int32)
    split = in_memory.Images(labels.astype(np.uint8)[:, None, None, None], labels)
    skipped = itertools.islice(split.train_batches(size, seed), start, start + 4)
    for one, two in zip(skipped, split.train_batches(size, seed, start), strict=False):
        assert one.keys() == two.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], two[key])


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_what_is_written_again_after_a_cut_is_what_was_cut(tmp_path_factory, data):
    """A run's lines, killed anywhere, cut at its checkpoint and continued, are those of a whole."""
    total, every = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 4))
    line = lambda step, kind: json.dumps({"step": step, f"{kind}/loss": 1}) + "\n"

    def lines(first, evaluation_first):
        written = [line(first, "eval")] if evaluation_first else []
        for step in range(first + 1, total + 1):
            written.append(line(step, "train"))
            if step % every == 0 or step == total:
                written.append(line(step, "eval"))
        return written

    whole = lines(0, False)
    saved = data.draw(st.integers(0, total))
    owed = saved > 0 and (saved % every == 0 or saved == total) and data.draw(st.booleans())
    before = "".join(line for line in whole if int(line[9:].split(",")[0]) <= saved)
    text = "".join(whole)
    least = len(before) - (len(line(saved, "eval")) if owed else 0)
    killed = data.draw(st.integers(least, len(text)))
    directory = tmp_path_factory.mktemp("run")
    (directory / "metrics.jsonl").write_text(text[:killed])
    workdir.cut_metrics(directory, saved, owed)
    kept = (directory / "metrics.jsonl").read_text()
    assert kept + "".join(lines(saved, owed)) == text


@settings(deadline=None, max_examples=30)
@given(
    complete=st.sets(st.integers(0, 40), max_size=8),
    torn=st.sets(st.integers(0, 40), max_size=4),
    keep=st.sets(st.integers(0, 40), max_size=5),
)
def test_pruning_leaves_the_complete_ones_to_keep(tmp_path_factory, complete, torn, keep):
    directory = tmp_path_factory.mktemp("states")
    for step in complete | torn:
        (directory / str(step)).mkdir()
        if step in complete:
            (directory / str(step) / checkpoints.SUMS).touch()
    (directory / "notes").mkdir()
    checkpoints.prune(directory, keep)
    assert checkpoints.complete_steps(directory) == sorted(complete & keep)
    assert {path.name for path in directory.iterdir()} == {"notes", *map(str, complete & keep)}
