"""Ctrl-C is answered at safe points, and Python's own handling is back afterwards."""

import os
import pty
import signal
import subprocess
import sys
import threading

import jax.numpy as jnp
import pytest

from experiments.launch import local
from senet_jax.errors import Terminated
from senet_jax.system import startup
from senet_jax.system.interrupt import at_safe_points

pytestmark = pytest.mark.usefixtures("hangup_is_answered")


def test_ctrl_c_waits_for_a_safe_point():
    with pytest.raises(KeyboardInterrupt), at_safe_points() as stop:  # noqa: PT012
        stop.if_asked(jnp.zeros(2))  # nothing was asked
        os.kill(os.getpid(), signal.SIGINT)
        reached = sum(range(1000))  # goes on
        stop.if_asked(jnp.zeros(2))
        reached = None
    assert reached == sum(range(1000))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_ctrl_c_ends_the_process_at_once():
    code = (
        "import os, signal\n"
        "from senet_jax.system.interrupt import at_safe_points\n"
        "with at_safe_points():\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('still here', flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('not reached', flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 130
    assert done.stdout == "still here\n"
    assert "stopping after this step" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_others_may_come_again_and_a_signal_to_the_last_line_counts(capfd, number):
    with pytest.raises(Terminated), at_safe_points() as stop:  # noqa: PT012
        for _ in range(2):
            os.kill(os.getpid(), number)
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.asked
    assert capfd.readouterr().err.count("stopping after this step") == 1


def test_another_handler_and_another_thread_are_left_alone():
    seen = []
    previous = signal.signal(signal.SIGINT, lambda *_: seen.append(1))
    try:
        with at_safe_points() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            stop.if_asked(jnp.zeros(2))
        assert seen == [1]
    finally:
        signal.signal(signal.SIGINT, previous)

    def enter():
        with at_safe_points() as stop:
            stop.if_asked(jnp.zeros(2))
            seen.append(2)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [1, 2]


def test_what_is_ignored_from_the_start_stays_ignored():
    """As SIGHUP is after nohup, also in the processes that are started from there."""
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with at_safe_points() as stop, local._raising():
            os.kill(os.getpid(), signal.SIGHUP)
            stop.if_asked(())
    finally:
        signal.signal(signal.SIGHUP, previous)


def test_where_runs_are_trained_at_once_only_the_first_signal_raises():
    """A second one must not keep the rest of the runs from being told to save, or waited for."""
    reached = False
    with pytest.raises(Terminated), local._raising():  # noqa: PT012
        try:
            os.kill(os.getpid(), signal.SIGUSR1)
        finally:
            for number in startup.DEFAULTS:
                os.kill(os.getpid(), number)
            reached = True
    assert reached
    assert {number: signal.getsignal(number) for number in startup.DEFAULTS} == startup.DEFAULTS


def in_a_terminal(code):
    """A process in a terminal that closes once it has printed a line; gives the process then."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    text = b""
    while not text.endswith(b"\n"):  # the whole line, or the process would still be printing it
        text += os.read(ours, 1000)
    os.close(ours)
    assert text == b"ready\r\n"
    return process


def test_what_is_said_after_the_terminal_is_gone_is_no_error():
    """SIGHUP comes when a terminal closes; from then on writing to it fails."""
    process = in_a_terminal(
        "import os, signal, sys\n"
        "from senet_jax.errors import Terminated\n"
        "from senet_jax.system.interrupt import at_safe_points\n"
        "try:\n"
        "    with at_safe_points() as stop:\n"
        "        print('ready', flush=True)\n"
        "        while not stop.signalled:\n"
        "            signal.pause()\n"
        "        print('saving', file=sys.stderr, flush=True)\n"
        "except Terminated:\n"
        "    print('saved', flush=True)\n"
        "    os._exit(7)\n"
    )
    process.send_signal(signal.SIGHUP)
    assert process.wait(60) == 7


def test_a_terminal_that_closes_without_a_signal_is_no_error_either():
    """As after the shell's `disown`, or when the signal comes in the middle of a print."""
    process = in_a_terminal(
        "import os, select, sys\n"
        "from rich.console import Console\n"
        "from senet_jax.system import cli\n"
        "def main(argv):\n"
        "    gone = select.poll()\n"
        "    gone.register(0, select.POLLHUP)\n"
        "    print('ready', flush=True)\n"
        "    while not any(event & select.POLLHUP for _, event in gone.poll()):\n"
        "        pass\n"
        "    print('on')\n"
        "    print('and on', file=sys.stderr)\n"
        "    Console(stderr=True).print('and on')\n"
        "    os._exit(7)\n"
        "cli.run(main, None)\n"
    )
    assert process.wait(60) == 7


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGINT, 130),
        (signal.SIGTERM, 143),
        (signal.SIGUSR1, 143),
        (signal.SIGHUP, 143),
    ],
)
def test_before_there_is_anything_to_save_a_signal_ends_the_process_at_once(number, status):
    """In the middle of an import, where Python's own answer is a traceback, or none at all."""
    code = (
        "import os\n"
        "from senet_jax.system import startup\n"
        "startup.begin()\n"
        "try:\n"
        f"    os.kill(os.getpid(), {int(number)})\n"
        "finally:\n"
        "    print('not reached', flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    kind = "interrupted" if number == signal.SIGINT else "terminated"
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr == f"\n{kind}; the same command continues\n"


def test_safe_points_take_over_from_the_start_of_a_command_and_give_back(capfd):
    previous = signal.signal(signal.SIGTERM, startup.end_at_once)
    try:
        with pytest.raises(Terminated), at_safe_points():
            os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is startup.end_at_once
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert "stopping after this step" in capfd.readouterr().err


def test_a_command_with_nothing_to_save_does_not_wait_for_a_safe_point(monkeypatch):
    """Not until it has something: compiling the first step may take minutes."""
    ended = []

    def end(number, frame=None):
        ended.append(number)

    monkeypatch.setattr(startup, "end_at_once", end)
    previous = signal.signal(signal.SIGINT, end)
    try:
        with pytest.raises(KeyboardInterrupt), at_safe_points() as stop:  # noqa: PT012
            stop.nothing_to_save = True
            os.kill(os.getpid(), signal.SIGINT)
            assert ended == [signal.SIGINT]
            stop.nothing_to_save = False
            ended.clear()
            os.kill(os.getpid(), signal.SIGINT)
        assert not ended
    finally:
        signal.signal(signal.SIGINT, previous)


@pytest.mark.parametrize(
    ("continues", "remedy"), [(True, "; the same command continues"), (False, "")]
)
def test_a_command_says_whether_it_continues_only_if_it_does(continues, remedy):
    code = (
        "from senet_jax.system import cli\n"
        "def main(argv):\n"
        "    raise KeyboardInterrupt\n"
        f"cli.run(main, None, continues={continues})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 130
    assert done.stderr == f"\ninterrupted{remedy}\n"
