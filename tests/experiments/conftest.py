"""What tests of studies share."""

import pytest

from experiments.reporting import blocks, publish


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout with an empty list of studies in README.md, and nothing published."""
    root = tmp_path / "checkout"
    (root / "experiments").mkdir(parents=True)
    (root / "README.md").write_text("# Us\n<!-- studies -->\n<!-- end studies -->\nEnd.\n")
    monkeypatch.setattr(blocks, "ROOT", root)
    monkeypatch.setattr(publish, "RESULTS", root / "experiments" / "results")
    return root
