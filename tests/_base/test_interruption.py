"""Ctrl-C is heard after a piece of work, also where Python itself would lose it; a second one is heard at once."""

import signal
import threading
from collections.abc import Iterator

import pytest

from bayestwin._base.process import deferred_interrupts


@pytest.fixture(autouse=True)
def listening() -> Iterator[None]:
    """Ctrl-C is heard, also where the tests were started in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Dropped:
    """Presses Ctrl-C while it is taken away, where an exception is printed and forgotten."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def work_on(done: list[str]) -> None:
    """Two pieces of work, with Ctrl-C in the first."""
    with deferred_interrupts():
        Dropped()
        done.append("this piece")
    done.append("the next one")


def test_it_is_not_lost_in_a_finaliser() -> None:
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        work_on(done)
    assert done == ["this piece"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def press_twice(pressed: list[str]) -> None:
    """Press Ctrl-C twice, and say how often it did not raise."""
    with deferred_interrupts():
        for words in ("once", "twice"):
            signal.raise_signal(signal.SIGINT)
            pressed.append(words)


def test_the_second_one_is_raised_at_once() -> None:
    pressed: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        press_twice(pressed)
    assert pressed == ["once"]


def test_what_the_user_has_set_stays() -> None:
    heard = []
    signal.signal(signal.SIGINT, lambda *_: heard.append("theirs"))
    with deferred_interrupts():
        signal.raise_signal(signal.SIGINT)
    assert heard == ["theirs"]


def test_another_thread_can_work_so_too() -> None:
    found = []

    def work() -> None:
        with deferred_interrupts():
            found.append("done")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == ["done"]
