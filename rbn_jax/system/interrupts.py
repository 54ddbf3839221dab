"""Ctrl-C and SIGTERM, also where Python drops the KeyboardInterrupt."""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType


class _Handler:
    """Notes a signal, and raises KeyboardInterrupt.

    number: of the signal that came; 0 before one came
    waits: whether the KeyboardInterrupt is left to `deferred_interrupts`
    """

    def __init__(self) -> None:
        self.number = 0
        self.waits = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        if not self.waits:
            signal.default_int_handler(number, frame)


@contextlib.contextmanager
def noticed_interrupts() -> Iterator[Callable[[], int]]:
    """Yield a function that tells which signal came; at the end, raise KeyboardInterrupt if so.

    Ctrl-C, and SIGTERM, which batch systems send, raise KeyboardInterrupt. Python drops an
    exception that is raised in a finalizer. The futures of Dask have one, which runs often, so
    the KeyboardInterrupt alone would sometimes be lost.
    A handler other than Python's is left unchanged. An inner block shares the handler of an outer
    one, which raises at its own end.
    """
    outer = signal.getsignal(signal.SIGINT)
    if isinstance(outer, _Handler):
        yield lambda: outer.number
        return
    in_main_thread = threading.current_thread() is threading.main_thread()
    if outer is not signal.default_int_handler or not in_main_thread:
        yield lambda: 0
        return
    handler = _Handler()
    numbers = [signal.SIGINT]
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        numbers.append(signal.SIGTERM)
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield lambda: handler.number
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
    if handler.number:
        raise KeyboardInterrupt


@contextlib.contextmanager
def deferred_interrupts() -> Iterator[None]:
    """Within `noticed_interrupts`, raise the KeyboardInterrupt of a signal only at the end.

    For imports: NumPy and JAX turn a KeyboardInterrupt that comes while their compiled parts start
    into other errors, print it, or end Python.
    """
    handler = signal.getsignal(signal.SIGINT)
    if not isinstance(handler, _Handler):
        yield
        return
    handler.waits = True
    try:
        yield
    finally:
        handler.waits = False
    if handler.number:
        raise KeyboardInterrupt


@contextlib.contextmanager
def quiet_finalizers() -> Iterator[None]:
    """Print nothing of a Ctrl-C that comes in a finalizer: it is noticed, and not lost."""
    show = sys.unraisablehook

    def show_others(unraisable: "sys.UnraisableHookArgs") -> None:
        if unraisable.exc_type is not KeyboardInterrupt:
            show(unraisable)

    sys.unraisablehook = show_others
    try:
        yield
    finally:
        sys.unraisablehook = show
