"""Rows of measurements never meet those of something else in one file."""

import pytest

from experiments import benchmark, cost
from experiments.timing.records import append, read
from senet_jax.errors import InputError

ROWS = [{"a": "1", "b": "x, y"}]


@pytest.mark.parametrize("before", [None, "", "a,b\n0,z\n", "a,b\n0,z"])
def test_rows_are_added_to_their_like(tmp_path, before):
    path = tmp_path / "rows.csv"
    if before is not None:
        path.write_text(before)
    append(path, ROWS)
    assert read(str(path)) == [{"a": "0", "b": "z"}] * bool(before) + ROWS


@pytest.mark.parametrize("before", [b"b,a\n0,z\n", b"a\n", b"a,b,c\n", b"# Notes\n", b"\xff\xd8"])
def test_rows_are_not_added_to_others(tmp_path, before):
    path = tmp_path / "rows.csv"
    path.write_bytes(before)
    with pytest.raises(InputError, match=r"--csv=.*(has rows of other columns|it is no text)"):
        append(path, ROWS)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "has no rows"),
        (b"a,b\n", "has no rows"),
        (b"a,b\n1,2\n", "holds rows of something else: they have no '"),
        (b"\xff\xd8\n", "cannot be read: it is no text"),
    ],
)
def test_what_holds_no_rows_is_refused(tmp_path, content, sentence):
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    for main, arguments in (
        (benchmark.main, [f"--markdown={path}"]),
        (cost.main, ["--draw", f"--csv={path}"]),
    ):
        with pytest.raises(InputError, match=sentence):
            main(["", *arguments])
    assert [*tmp_path.iterdir()] == [path]
