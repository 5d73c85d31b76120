"""Execute docs/walkthrough.ipynb and write it with its outputs, after a change of its code.

python tests/generate/make_notebook.py
"""

import hashlib
import os
import tempfile
from pathlib import Path
from unittest import mock

import nbclient
import nbformat

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs" / "walkthrough.ipynb"
# A newcomer has one device, whatever tests/conftest.py says. Programs are compiled as it says, for
# a test; this command, outside the tests, has optimised ones.
OF_TESTS = ("JAX_NUM_CPU_DEVICES",)


def read():
    return nbformat.read(NOTEBOOK, as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def sources_sha256(notebook):
    """Of the code: it says of which sources the outputs are."""
    return hashlib.sha256("\0".join(cell.source for cell in code(notebook)).encode()).hexdigest()


def execute(notebook, directory):
    """Execute all cells in a folder, which gets all files; the first error is raised."""
    environment = {key: value for key, value in os.environ.items() if key not in OF_TESTS} | {
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
        # Neither settings and start-up files of the user's, nor traces among them.
        "JUPYTER_DATA_DIR": str(directory / ".jupyter"),
        "IPYTHONDIR": str(directory / ".ipython"),
    }
    with mock.patch.dict(os.environ, environment, clear=True):
        nbclient.NotebookClient(
            notebook,
            timeout=900,
            record_timing=False,
            resources={"metadata": {"path": str(directory)}},
        ).execute()


def main():
    notebook = read()
    with tempfile.TemporaryDirectory() as directory:
        execute(notebook, Path(directory))
    # Not which Python it was, so that another one leaves no difference.
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "sources_sha256": sources_sha256(notebook),
    }
    nbformat.write(notebook, NOTEBOOK)


if __name__ == "__main__":
    main()
