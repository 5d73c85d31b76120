"""Run docs/own_images.md and write it with what its commands print, after a change of either.

PYTHONPATH=tests python -m generate.make_own_images
"""

import tempfile
from pathlib import Path

from helpers import worked_page


def main():
    with tempfile.TemporaryDirectory() as directory:
        text = worked_page.executed(worked_page.PAGE.read_text("utf-8"), Path(directory))
    worked_page.PAGE.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
