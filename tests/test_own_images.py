"""The worked page runs from its first block to its last, and prints what it shows."""

import pytest
from helpers import worked_page


@pytest.mark.slow(reason="trains two networks, and starts six commands in turn")
def test_the_worked_page_runs_and_prints_what_it_shows(tmp_path):
    """If not: `PYTHONPATH=tests python -m generate.make_own_images`."""
    text = worked_page.PAGE.read_text("utf-8")
    printed = worked_page.executed(text, tmp_path)
    assert worked_page.without_numbers(printed) == worked_page.without_numbers(text)
    maps = {path.name for path in (tmp_path / "maps").iterdir()}
    assert maps == {"192-096_cam.png", "000-000_cam.png"}


def test_every_block_of_the_worked_page_shows_what_it_prints():
    """But for the last one, which needs a network connection."""
    text = worked_page.PAGE.read_text("utf-8")
    shown = len(worked_page.BLOCK.findall(text))
    assert shown == text.count("```python\n") + text.count("```bash\n") - 1 > 7
