"""Ctrl-C, also where Python drops the KeyboardInterrupt."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


@contextlib.contextmanager
def noticed_interrupts() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether Ctrl-C came; at the end, raise KeyboardInterrupt if so.

    Python drops an exception that is raised in a finalizer. The futures of Dask have one, which
    runs often, so the KeyboardInterrupt of Python's handler alone would sometimes be lost.
    A handler other than Python's is left unchanged.
    """
    came = False
    handler = signal.getsignal(signal.SIGINT)
    in_main_thread = threading.current_thread() is threading.main_thread()
    if handler is not signal.default_int_handler or not in_main_thread:
        yield lambda: False
        return

    def note_and_raise(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, note_and_raise)
    try:
        yield lambda: came
    finally:
        signal.signal(signal.SIGINT, handler)
    if came:
        raise KeyboardInterrupt
