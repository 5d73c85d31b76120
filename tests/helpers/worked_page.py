"""A page that shows what its blocks print: they are run in order, as its reader does."""

import os
import re
import subprocess
import sys
from pathlib import Path

# A block of Python or of commands, and what the page says that it prints.
BLOCK = re.compile(r"^```(python|bash)\n(.*?)^```\n\n```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "own_images.md"
OF_TESTS = ("JAX_NUM_CPU_DEVICES", "XLA_FLAGS")  # a reader has one device and optimised programs


def executed(text, directory):
    """The text of a page with what its blocks print in an empty directory."""
    (directory / "configs").symlink_to(ROOT / "configs")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {key: value for key, value in os.environ.items() if key not in OF_TESTS}
    environment |= {"PATH": path, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}

    def run(block):
        language, code, _ = block.groups()
        command = [sys.executable, "-c"] if language == "python" else ["bash", "-ec"]
        ran = subprocess.run(
            [*command, code], cwd=directory, env=environment, capture_output=True, text=True
        )
        assert ran.returncode == 0, f"{code}\n{ran.stderr}"
        lines = ran.stdout.replace(str(directory), "...").strip("\n").splitlines()
        shown = "".join(f"{line.rstrip()}\n" for line in lines)
        return f"```{language}\n{code}```\n\n```text\n{shown}```"

    return BLOCK.sub(run, text)


def without_numbers(text):
    """What a page says on every machine: the rest are numbers, and how wide they make columns."""
    lines = [line for line in text.splitlines() if not line.startswith("lowest")]
    return re.sub(r"[\s─]+", " ", re.sub(r"-?\d[\d.,e-]*", "0", "\n".join(lines)))
