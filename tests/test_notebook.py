"""The notebook runs from top to bottom, and the copy in the repository is what it ends in."""

import json
import re

import pytest
from generate.make_notebook import NOTEBOOK, code, execute, read, sources_sha256

PLACES = re.compile(
    r"(?<![\w.])/(home|root|tmp|opt|usr|var|mnt|private|work|workspace|Users)/|[A-Z]:\\\\|\bfile://"
)


def kinds(notebook):
    """What each cell shows, of which kind; a library may warn where another version does not."""
    return [
        [sorted(output.get("data", {output.get("name", ""): ""})) for output in cell.outputs
         if output.get("name") != "stderr"]
        for cell in code(notebook)
    ]  # fmt: skip


@pytest.mark.slow(reason="executes every cell in a kernel of its own")
def test_it_runs_from_top_to_bottom_and_shows_what_is_in_the_repository(tmp_path):
    notebook = read()
    for cell in code(notebook):
        cell.outputs = []
    execute(notebook, tmp_path)
    assert kinds(notebook) == kinds(read())


def test_outputs_are_of_the_sources_they_stand_below():
    notebook = read()
    assert notebook.metadata["sources_sha256"] == sources_sha256(notebook), (
        "the notebook was changed: python tests/generate/make_notebook.py"
    )


def test_it_was_executed_once_in_order_without_errors_and_warnings():
    cells = code(read())
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert "error" not in {output.output_type for output in outputs}
    assert not [output for output in outputs if output.get("name") == "stderr"]
    assert len([output for output in outputs if "image/png" in output.get("data", {})]) >= 2


def test_it_is_small_and_says_nothing_of_the_machine():
    text = NOTEBOOK.read_text("utf-8")
    assert len(text) < 300_000
    notebook = read()
    assert notebook.metadata.keys() == {"kernelspec", "language_info", "sources_sha256"}
    for cell in notebook.cells:
        assert not cell.metadata
        for output in cell.get("outputs", ()):
            output.get("data", {}).pop("image/png", None)
    text = json.dumps(notebook)
    assert not PLACES.search(text)
