"""Processors are shared as a person asks for it."""

import os
import subprocess
import sys

import pytest

from senet_jax.system import processors


@pytest.mark.skipif(not processors.SESSION.exists(), reason="sessions are not groups here")
@pytest.mark.parametrize("niceness", [0, 7])
def test_a_process_with_a_session_of_its_own_is_as_nice_as_it_was_started(niceness):
    code = (
        f"import os; os.nice({niceness})\n"
        "from senet_jax.system import processors\n"
        "processors.be_nice_to_other_sessions()\n"
        "print(processors.SESSION.read_text())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        start_new_session=True,
        capture_output=True,
        text=True,
        check=True,
    )
    expected = min(os.nice(0) + niceness, 19)  # the suite may be nice itself
    assert done.stdout.split()[-2:] == ["nice", str(expected)]
