"""Files that answer come in order; those that never do cost a bounded time, and hold up no end."""

import os
import subprocess
import sys
import threading
import time

import pytest

from senet_jax.system import readers


@pytest.fixture
def silent(monkeypatch):
    """A function that answers with the square, but never for odd numbers below 100."""
    monkeypatch.setattr(readers, "PATIENCE", 0.4)
    monkeypatch.setattr(readers, "LITTLE", 0.1)
    never = threading.Event()

    def ask(number):
        if number % 2 and number < 100:
            never.wait()
        return number**2

    yield ask
    never.set()


def answers(*arguments, **options):
    """What is answered, None for silence."""
    return [
        None if isinstance(one, TimeoutError) else one
        for one in readers.in_order(*arguments, **options)
    ]


@pytest.mark.parametrize("ahead", [1, 3, 1000])
def test_answers_come_in_order(ahead):
    def ask(number):
        time.sleep(0.001 * (number % 3))
        return -number

    assert answers(ask, iter(range(100)), ahead) == [-number for number in range(100)]
    assert answers(ask, [], ahead) == []


def test_the_silent_are_left_out_and_all_others_answered(silent):
    """More than there are threads, and one after another."""
    numbers = [0, 1, 2, 4, *range(1, 2 * (os.cpu_count() or 1) + 9, 2), 6, 7, 8]
    expected = [number**2 if number % 2 == 0 else None for number in numbers]
    begin = time.monotonic()
    assert answers(silent, numbers, ahead=5) == expected
    # Three of a row get the patience, those after them little.
    assert time.monotonic() - begin < 5 * 0.4 + len(numbers) * 0.15 + 3
    assert isinstance(readers.once(silent, 1), TimeoutError)
    assert readers.once(silent, 4) == 16


def test_what_a_question_raises_is_raised_in_its_turn():
    seen = []
    with pytest.raises(ZeroDivisionError):
        seen.extend(readers.in_order(lambda number: 1 // number, [1, -1, 0, 1], 4))
    assert seen == [1, -1]


def test_whoever_waits_may_be_called_away_at_any_time(silent, monkeypatch):
    monkeypatch.setattr(readers, "PATIENCE", 3600)
    begin = time.monotonic()

    def check():
        if time.monotonic() - begin > 0.2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        answers(silent, [0, 1, 2], ahead=3, check=check)
    assert time.monotonic() - begin < 3


def test_at_the_end_only_the_silent_are_still_there(silent):
    def busy(number):
        time.sleep(0.03)
        return number

    before = {*threading.enumerate()}
    assert answers(busy, range(5), ahead=4) == [*range(5)]
    assert readers.once(busy, 1) == 1
    started = readers.in_order(busy, range(100), 4)
    assert next(started) == 0
    started.close()  # others are being read
    assert {*threading.enumerate()} <= before
    assert isinstance(readers.once(silent, 1), TimeoutError)
    assert len({*threading.enumerate()} - before) == 1


def test_what_is_left_behind_does_not_hold_up_the_end_of_the_process():
    code = (
        "import threading; from senet_jax.system import readers\n"
        "readers.PATIENCE = 0.2\n"
        "print(type(readers.once(lambda _: threading.Event().wait(), 0)).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30, check=True)
    assert done.stdout.split() == [b"TimeoutError"]
