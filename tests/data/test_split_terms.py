"""Split expressions mean what they mean to TFDS: the same examples, in the order that it reads."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from hypothesis import example, given
from hypothesis import strategies as st

from senet_jax.data.sources import split_terms
from senet_jax.data.sources.tfds_description import Description
from senet_jax.data.sources.tfds_source import TfdsSource
from senet_jax.errors import InputError

# Splits of one file and of several, of which some are empty, and more than are read in turn.
SPLITS = {
    "train": (7, 0, 33, 16, 1),
    "test": (10,),
    "val-2": (3,) * 40,
    "extra": tuple(range(0, 60, 3)),
}
NUMBERS = st.one_of(
    st.integers(-150, 150).map(str),
    st.floats(-101, 101).map(lambda value: f"{value:.2f}"),
    st.sampled_from(["", "0", "-0", "1_0", "33.3", "50", "12.5", "-.5", ".", "_", "x", "100"]),
)
UNITS = st.sampled_from(["", "%", "shard"])
SLICES = st.one_of(
    st.just(""),
    st.builds("[{}{}:{}{}]".format, NUMBERS, UNITS, NUMBERS, UNITS),
    st.builds("[{}{}]".format, NUMBERS, UNITS),
    st.sampled_from(["[]", "[:]", "[::]", "[1:2:3]", "[%:5]", "[:5", "[a:b]"]),
)
NAMES = st.sampled_from([*SPLITS, "all", "trian", "", "train test"])
EXPRESSIONS = st.lists(st.builds("{}{}".format, NAMES, SLICES), min_size=1, max_size=3).map(
    "+".join
)


def tfds_splits():
    return {
        name: tfds.core.SplitInfo(name=name, shard_lengths=list(files), num_bytes=0)
        for name, files in SPLITS.items()
    }


def of_tfds(expression):
    """What TFDS makes of it; None for what it refuses, or reads nothing of."""
    splits = tfds_splits()
    try:
        found = tfds.core.ReadInstruction.from_spec(expression).to_absolute(splits)
    except (ValueError, KeyError, AssertionError, AttributeError, NotImplementedError):
        return None
    whole = {name: range(info.num_examples) for name, info in splits.items()}
    terms = [(t.splitname, whole[t.splitname][t.from_ or 0 : t.to]) for t in found]
    return terms if all(places for _, places in terms) else None


def ours(expression):
    try:
        return split_terms.terms(expression, SPLITS)
    except ValueError:
        return None


@given(EXPRESSIONS)
@example("train[:50%]")
@example("train+test[10%:20%]")
@example("train[5:3]")
@example("train[-1shard:]")
@example("train[2shard]")
@example("train[:-1shard]+all")
@example("train [:5] + test")
@example("train  +  test")
@example("all")
@example("all[:5]")
def test_an_expression_means_what_it_means_to_tfds(expression):
    assert ours(expression) == of_tfds(expression)


@given(count=st.integers(1, 500), per_cent=st.integers(0, 200).map(lambda half: half / 2))
def test_per_cent_are_rounded_as_tfds_rounds(count, per_cent):
    splits = {"train": tfds.core.SplitInfo(name="train", shard_lengths=[count], num_bytes=0)}
    (term,) = tfds.core.ReadInstruction.from_spec(f"train[:{per_cent}%]").to_absolute(splits)
    end = count if term.to is None else term.to
    if end:
        expected = [("train", range(end))]
        assert split_terms.terms(f"train[:{per_cent}%]", {"train": (count,)}) == expected


@pytest.mark.parametrize("seed", range(8))
def test_examples_come_in_the_order_in_which_tfds_reads_files(seed):
    """TFDS has tf.data interleave its files; so many of such lengths see every way to end one."""
    rng = np.random.default_rng(seed)
    lengths = rng.choice([0, 1, 5, 16, 17, 32, 33, 50], size=rng.choice([1, 3, 16, 17, 40]))
    splits = {"train": (*map(int, lengths), 20)}
    first, last = sorted(rng.choice(sum(splits["train"]) + 1, 2, replace=False).tolist())
    instructions = tfds.core.utils.shard_utils.get_file_instructions(
        first, last, [*map(str, range(len(splits["train"])))], splits["train"]
    )
    starts = np.cumsum([0, *splits["train"]])
    begins = [starts[int(file.filename)] + file.skip for file in instructions]
    takes = [
        file.take if file.take >= 0 else splits["train"][int(file.filename)] - file.skip
        for file in instructions
    ]
    for cycle in (1, 16):
        files = tf.data.Dataset.from_tensor_slices((np.int64(begins), np.int64(takes)))
        read = files.interleave(
            lambda begin, take: tf.data.Dataset.range(begin, begin + take),
            cycle_length=cycle,
            block_length=16,
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        blocks = split_terms.in_reading_order([("train", range(first, last))], splits, cycle)
        found = [*itertools.chain(*(places for _, places in blocks))]
        assert found == [*read.as_numpy_iterator()]


COUNTS = {"train": 1437, "test": 360}
PLACES = st.one_of(st.none(), st.integers(-300, 300))
TERMS = st.tuples(st.sampled_from(sorted(COUNTS)), PLACES, PLACES)


@given(terms=st.lists(TERMS, min_size=1, max_size=3), count=st.integers(1, 5))
def test_parts_of_a_split_are_those_of_a_list(terms, count):
    files = {name: (count,) for name, count in COUNTS.items()}
    known = Description("x", "", "", files, {}, None, 16)
    source = TfdsSource("x", known, "image", "label")
    infos = {
        name: tfds.core.SplitInfo(name=name, shard_lengths=[count], num_bytes=0)
        for name, count in COUNTS.items()
    }
    slices = [
        "" if (a, b) == (None, None) else f"[{'' if a is None else a}:{'' if b is None else b}]"
        for _, a, b in terms
    ]
    split = "+".join(name + cut for (name, *_), cut in zip(terms, slices, strict=True))
    lists = [[(name, i) for i in range(COUNTS[name])][a:b] for name, a, b in terms]
    if not all(lists):
        with pytest.raises(InputError, match="has no examples in split"):
            source.count(split)
        return
    whole = list(itertools.chain(*lists))
    assert source.count(split) == len(whole)
    for index in range(count):
        places = range(index * len(whole) // count, (index + 1) * len(whole) // count)
        part = source._part(split, places)
        read = [] if part is None else part.to_absolute(infos)
        places_read = [
            (p.splitname, i)
            for p in read
            for i in range(p.from_ or 0, COUNTS[p.splitname] if p.to is None else p.to)
        ]
        assert places_read == whole[places.start : places.stop]
