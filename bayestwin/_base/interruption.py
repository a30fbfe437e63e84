"""Ctrl-C that is heard between two pieces of work, and not in the middle of one.

Python raises `KeyboardInterrupt` wherever it happens to be. Within a finaliser or a callback of the garbage collector
it is printed and forgotten, and then work that was to stop goes on.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def deferred_interrupts() -> Iterator[None]:
    """Do one piece of work, and hear a first Ctrl-C after it; a second one is raised at once.

    Where Ctrl-C does not raise, or in another thread than the main one, everything stays as it is.

    Raises:
        KeyboardInterrupt: At the end, if there was a Ctrl-C.
    """
    heard = threading.Event()

    def hear(_signal: int, _frame: FrameType | None) -> None:
        if heard.is_set():
            raise KeyboardInterrupt
        heard.set()

    in_main = threading.current_thread() is threading.main_thread()
    usual = signal.getsignal(signal.SIGINT)
    if not in_main or usual is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, hear)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
    if heard.is_set():
        raise KeyboardInterrupt
