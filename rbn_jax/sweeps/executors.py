"""Run the tasks of a sweep: in threads or on a cluster, with progress, stopped cleanly."""

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
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, ClassVar

from rbn_jax.parameters.optional import require
from rbn_jax.sweeps.sinks import BlockResult, Sink, StoredSink

# two threads: one writes a result while XLA computes the next block on all cores
_THREADS = 2
# tells the process that called `sweep` from its workers, on any machine
_PROCESS_ID = uuid.uuid4().hex
_compiling = threading.Lock()
_compiled: weakref.WeakSet[Sink] = weakref.WeakSet()


class _Collector:
    """Passes results to the sink, and notes in which of them a variable is NaN."""

    def __init__(self, sink: Sink):
        self.sink = sink
        self.tasks_with_nan: dict[str, list[int]] = {}

    def accept(self, result: BlockResult) -> None:
        self.sink.accept(result)
        for name in result.nan_names:
            self.tasks_with_nan.setdefault(name, []).append(result.task)

    def warn(self) -> None:
        for name, tasks in self.tasks_with_nan.items():
            first = self.sink.describe(min(tasks))
            count = f"{len(tasks)} of {self.sink.task_count}"
            text = f"{name} is NaN in {count} blocks, first in {first}"
            # points at the caller of `sweep`
            warnings.warn(text, RuntimeWarning, stacklevel=4)


def run_tasks(
    sink: Sink,
    shard: tuple[int, int] | None,
    client: Any,
    progress: bool | None,
) -> None:
    """Run every task of a sink that is missing; of a shard (i, n), every n-th from the i-th on.

    Raises:
        KeyboardInterrupt: Ctrl-C; raised once the tasks that have started are finished.
        OSError: a result could not be written.
    """
    first, step = shard or (0, 1)
    tasks = range(first, sink.task_count, step)
    missing = [task for task in tasks if not sink.has(task)]
    if isinstance(sink, StoredSink):
        # so that processes which share a store seldom take the same task
        random.shuffle(missing)
    collector = _Collector(sink)
    try:
        if sink.task_count == 1 and client is None:
            for task in missing:
                collector.accept(sink.run(task))
            return
        total, remaining = sum(map(sink.points, tasks)), sum(map(sink.points, missing))
        bar = _ProgressBar(progress, total, remaining)
        with _interrupts() as interrupted, contextlib.closing(bar):
            _run_concurrently(collector, missing, client, bar, interrupted)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped; {sink.state()}") from None
    except OSError as error:
        text = f"{error.strerror or error}; {sink.state()}"
        raise OSError(error.errno, text, error.filename) from error
    finally:
        collector.warn()


def _run_concurrently(
    collector: _Collector,
    missing: list[int],
    client: Any,
    bar: "_ProgressBar",
    interrupted: Callable[[], bool],
) -> None:
    """Run tasks, two for each thread; after a failure or Ctrl-C, let those that run finish."""
    sink = collector.sink
    if client is None:
        executor = ThreadPoolExecutor(_THREADS, "sweep")
        shared, width = sink, 2 * _THREADS
    else:
        executor = client.get_executor(pure=False)
        # sent to the workers once; Dask replaces this future by the _WorkerSink on a worker
        shared = client.submit(_WorkerSink, sink, _PROCESS_ID, pure=False)
        width = 2 * max(sum(client.nthreads().values()), 1)
    not_started = iter(missing)
    pending: set[Future[BlockResult]] = set()
    try:
        while True:
            while len(pending) < width and (task := next(not_started, None)) is not None:
                # another process may have run it in the meantime
                if sink.has(task):
                    bar.add(sink.points(task), 0)
                else:
                    pending.add(executor.submit(_run_task, shared, task))
            if not pending:
                return
            finished, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in finished:
                result = future.result()
                collector.accept(result)
                bar.add(sink.points(result.task), result.n_bytes)
            if interrupted():
                raise KeyboardInterrupt
    finally:
        if client is None:
            executor.shutdown(cancel_futures=True)
        else:
            # They are not cancelled: Dask reports a future as cancelled while its worker still
            # runs, and would write to a store that is unlocked by then.
            wait(pending)


@contextlib.contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether Ctrl-C came; raise KeyboardInterrupt on exit if it did.

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

    def note_and_raise(number: int, frame: Any) -> None:
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


class _WorkerSink:
    """A sink on a cluster: the first copy that reaches a process is the one that it uses.

    Dask may drop a worker's copy and send another, whose function JAX would compile again.
    """

    _sinks: ClassVar[dict[str, Sink]] = {}

    def __init__(self, sink: Sink, caller_id: str):
        self.sink = sink
        self.caller_id = caller_id
        self.token = uuid.uuid4().hex

    def first_copy(self) -> Sink:
        with _compiling:
            # forget the sinks of earlier sweeps, with their compiled functions
            if self.token not in self._sinks and len(self._sinks) > 3:
                self._sinks.clear()
            if self.caller_id != _PROCESS_ID:
                _limit_xla_threads()
            return self._sinks.setdefault(self.token, self.sink)


def _run_task(sink: Sink | _WorkerSink, task: int) -> BlockResult:
    """Run a task; the first of each sink runs alone in this process, so JAX compiles once."""
    if isinstance(sink, _WorkerSink):
        sink = sink.first_copy()
    if sink not in _compiled:
        with _compiling:
            if sink not in _compiled:
                result = sink.run(task)
                _compiled.add(sink)
                return result
    return sink.run(task)


def _limit_xla_threads() -> None:
    """Set PJRT_NPROC to the thread count of a Dask worker; XLA reads it when JAX starts."""
    worker_module = sys.modules.get("distributed.worker")
    # get_worker raises a ValueError where this is no worker
    with contextlib.suppress(ValueError):
        if worker_module:
            threads = worker_module.get_worker().state.nthreads
            os.environ.setdefault("PJRT_NPROC", str(threads))


class _ProgressBar:
    """Points done, points per second, time left and bytes written, by tqdm.

    shown: True, False, or None for a bar in a terminal or a notebook only
    """

    def __init__(self, shown: bool | None, total: int, missing: int):
        self._written = 0
        self._bar = None
        if shown is False:
            return
        tqdm = require("tqdm.auto", "sweep").tqdm
        in_notebook = tqdm.__module__ not in ("tqdm.std", "tqdm.asyncio", "tqdm.auto")
        self._bar = tqdm(
            total=total,
            initial=total - missing,
            unit=" points",
            unit_scale=True,
            # None: off where the output is no terminal
            disable=None if shown is None and not in_notebook else False,
        )

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def add(self, points: int, n_bytes: int) -> None:
        self._written += n_bytes
        if self._bar is not None:
            self._bar.set_postfix_str(f"{self._written / 1e6:.4g} MB", refresh=False)
            self._bar.update(points)
