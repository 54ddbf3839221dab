"""Running the units of a sweep: in threads or on a cluster, with progress, stopped cleanly."""

import contextlib
import os
import random
import signal
import sys
import threading
import uuid
import warnings
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from typing import Any, ClassVar

from rbn_jax.parameters.optional import require
from rbn_jax.sweeps.sinks import Done, Target

_THREADS = 2  # one writes while the other computes; XLA uses every core for each
_PROCESS = uuid.uuid4().hex  # tells the driving process from its workers, on any machine
_alone = threading.Lock()
_warm: weakref.WeakSet[Target] = weakref.WeakSet()


def drive(
    target: Target, shard: tuple[int, int] | None, client: Any, progress: bool | None
) -> None:
    """Do every unit of the target that is missing; of a shard, every n-th.

    Raises:
        KeyboardInterrupt: after Ctrl-C, once the units under way are finished.
        OSError: a unit could not be written.
    """
    first, step = shard or (0, 1)
    mine = range(first, target.units, step)
    missing = [unit for unit in mine if not target.has(unit)]
    random.shuffle(missing)  # processes that share a store seldom meet at one unit
    nan: dict[str, list[int]] = {}
    try:
        if target.units == 1 and client is None:
            for unit in missing:
                _accept(target, target.work(unit), nan)
            return
        counts = sum(map(target.points, mine)), sum(map(target.points, missing))
        with (
            _interrupts() as interrupted,
            _Bar(progress, *counts) as bar,
            _executor(client) as (executor, width),
        ):
            shared = (
                target if client is None else client.submit(_Shared, target, _PROCESS, pure=False)
            )
            _run(target, shared, missing, executor, width, nan, bar, interrupted)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped; {target.state()}") from None
    except OSError as error:
        text = f"{error.strerror or error}; {target.state()}"
        raise OSError(error.errno, text, error.filename) from error
    finally:
        _warn(target, nan)


def _run(
    target: Target,
    shared: Any,
    missing: list[int],
    executor: Executor,
    width: int,
    nan: Any,
    bar: Any,
    interrupted: Callable[[], bool],
) -> None:
    """Keep `width` units under way; when one fails or Ctrl-C comes, let those finish."""
    units, pending = iter(missing), set[Future[Any]]()
    try:
        while _fill(pending, width, units, target, shared, executor, bar):
            finished, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in finished:
                done = _accept(target, future.result(), nan)
                bar.add(target.points(done.unit), done.bytes)
            if interrupted():
                raise KeyboardInterrupt
    finally:
        # a Dask future says that it is cancelled while its worker goes on
        local = isinstance(executor, ThreadPoolExecutor)
        wait([future for future in pending if not (local and future.cancel())])


def _fill(
    pending: set[Future[Any]],
    width: int,
    units: Iterator[int],
    target: Target,
    shared: Any,
    executor: Executor,
    bar: Any,
) -> int:
    """Start units until `width` are under way; those that another process did are skipped."""
    while len(pending) < width and (unit := next(units, None)) is not None:
        if target.has(unit):
            bar.add(target.points(unit), 0)
        else:
            pending.add(executor.submit(_work, shared, unit))
    return len(pending)


@contextlib.contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C came, where Python's own handler takes it; then it is raised at the end too.

    What that raises within a finalizer is dropped: Dask's futures have one, and run it often.
    """
    came, before = False, signal.getsignal(signal.SIGINT)
    if (
        before is not signal.default_int_handler
        or threading.current_thread() is not threading.main_thread()
    ):
        yield lambda: came
        return

    def handler(number: int, frame: Any) -> None:
        nonlocal came
        came = True
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, handler)
    try:
        yield lambda: came
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt


@contextlib.contextmanager
def _executor(client: Any) -> Iterator[tuple[Executor, int]]:
    """Where units run, and how many are kept under way."""
    if client is None:
        with ThreadPoolExecutor(_THREADS, "sweep") as pool:
            yield pool, 2 * _THREADS
    else:
        threads = sum(client.nthreads().values())
        yield client.get_executor(pure=False), 2 * max(threads, 1)


class _Shared:
    """A target on a cluster: the first copy that reaches a process is the one it uses.

    Dask may drop a worker's copy and send another, whose function JAX would compile again.
    """

    _first: ClassVar[dict[str, Target]] = {}

    def __init__(self, target: Target, driver: str):
        self.target, self.driver, self.token = target, driver, uuid.uuid4().hex

    def here(self) -> Target:
        """The target of this process."""
        with _alone:
            if self.token not in self._first and len(self._first) > 3:
                self._first.clear()
            if self.driver != _PROCESS:
                _take_threads_given()
            return self._first.setdefault(self.token, self.target)


def _work(target: Target | _Shared, unit: int) -> Done:
    """A unit; the first of a target in this process alone, so that it is compiled once."""
    if isinstance(target, _Shared):
        target = target.here()
    if target not in _warm:
        with _alone:
            if target not in _warm:
                done = target.work(unit)
                _warm.add(target)
                return done
    return target.work(unit)


def _take_threads_given() -> None:
    """In a Dask worker's process, make XLA's pool as wide as the worker; before JAX starts."""
    distributed = sys.modules.get("distributed.worker")
    with contextlib.suppress(ValueError):  # this is no worker
        if distributed:
            os.environ.setdefault("PJRT_NPROC", str(distributed.get_worker().state.nthreads))


def _accept(target: Target, done: Done, nan: dict[str, list[int]]) -> Done:
    target.accept(done)
    for name in done.nan:
        nan.setdefault(name, []).append(done.unit)
    return done


def _warn(target: Target, nan: dict[str, list[int]]) -> None:
    for name, units in nan.items():
        where = target.describe(min(units))
        text = f"{name} is NaN in {len(units)} of {target.units} blocks, first in {where}"
        warnings.warn(text, RuntimeWarning, stacklevel=4)


class _Bar:
    """Points done, points per second, time left and bytes written, by tqdm."""

    def __init__(self, wanted: bool | None, total: int, missing: int):
        self._written, self._bar = 0, None
        if wanted is False:
            return
        auto = require("tqdm.auto", "sweep").tqdm
        notebook = auto.__module__ not in ("tqdm.std", "tqdm.asyncio", "tqdm.auto")
        self._bar = auto(
            total=total,
            initial=total - missing,
            unit=" points",
            unit_scale=True,
            disable=None if wanted is None and not notebook else False,
        )

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_: Any) -> None:
        if self._bar is not None:
            self._bar.close()

    def add(self, points: int, written: int) -> None:
        self._written += written
        if self._bar is not None:
            self._bar.set_postfix_str(f"{self._written / 1e6:.4g} MB", refresh=False)
            self._bar.update(points)
