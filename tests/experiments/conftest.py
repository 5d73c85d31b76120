"""What tests of studies share."""

import functools

import pytest

from experiments.reporting import blocks, forest, publish

PICTURE = functools.cache(forest.draw)


@pytest.fixture
def forest_drawn_once(monkeypatch):
    """The picture of all published pairs is that of the first test which needs one."""
    monkeypatch.setattr(forest, "draw", PICTURE)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout with an empty list of studies in README.md, and nothing published."""
    root = tmp_path / "checkout"
    (root / "experiments").mkdir(parents=True)
    (root / "README.md").write_text("# Us\n<!-- studies -->\n<!-- end studies -->\nEnd.\n")
    monkeypatch.setattr(blocks, "ROOT", root)
    monkeypatch.setattr(publish, "RESULTS", root / "experiments" / "results")
    return root
