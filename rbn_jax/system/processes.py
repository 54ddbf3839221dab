"""Calls of Python functions in other processes, which may crash without harm to the caller."""

import contextlib
import functools
import multiprocessing
import multiprocessing.util
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

Result = TypeVar("Result")


class ProcessCrashedError(RuntimeError):
    """The process of a call ended before the call did."""


class Processes:
    """Processes that each run one call at a time, for calls from as many threads.

    Each is an executor of its own: when a process crashes, only its own call is lost.

    count: the number of processes; None for as many as there are cores to use
    """

    def __init__(self, count: int | None = None):
        if count is None:
            # not every system can restrict a process to some cores
            affinity = getattr(os, "sched_getaffinity", None)
            count = len(affinity(0)) if affinity else os.cpu_count() or 1
        # the process that was used last comes first, so that no more are started than needed
        self._free: queue.LifoQueue[ProcessPoolExecutor | None] = queue.LifoQueue()
        self.count = count
        for _ in range(count):
            self._free.put(None)

    def call(self, function: Callable[..., Result], *arguments: object) -> Result:
        """Return what a function gives in a process that is free.

        Raises:
            ProcessCrashedError: the process ended before the call did.
            RuntimeError: no process can be started.
        """
        executor = self._free.get()
        try:
            if executor is None or not _is_alive(executor):
                executor = _start()
            future: Future[Result] = executor.submit(function, *arguments)
            return future.result()
        except BrokenProcessPool:
            executor = None  # the next call starts a new one
            raise ProcessCrashedError("the process of the call crashed") from None
        finally:
            self._free.put(executor)

    def close(self) -> None:
        """End the processes, each when its call is done."""
        for _ in range(self.count):
            executor = self._free.get()
            if executor is not None:
                executor.shutdown()


def _is_alive(executor: ProcessPoolExecutor) -> bool:
    """Return whether a process still runs, which may have ended after its last call."""
    try:
        executor.submit(os.getpid).result()
    except BrokenProcessPool:
        return False
    return True


def _start() -> ProcessPoolExecutor:
    """Start a process by spawn, which copies nothing of this one; wait until it runs."""
    executor = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _prepare_process)
    with _allowed_to_start_processes():
        # the first call starts the process
        first_call = executor.submit(os.getpid)
    try:
        first_call.result()
    except BrokenProcessPool:
        raise RuntimeError(
            "no process can be started. A script is imported again by each process: put what it "
            'does under `if __name__ == "__main__":`'
        ) from None
    return executor


@functools.cache
def shared_processes() -> Processes:
    """Return processes that all callers in this one share, and that end with it."""
    processes = Processes()
    # A process of multiprocessing waits for its children at its exit, so they must be told to end
    # before. Executors tell it by queues, which are closed at priority 10.
    multiprocessing.util.Finalize(None, processes.close, exitpriority=20)
    return processes


_START_LOCK = threading.Lock()


@contextlib.contextmanager
def _allowed_to_start_processes() -> Iterator[None]:
    """Let a daemon of multiprocessing, as Dask's workers are, start processes.

    Python does not let it, as they could outlive the daemon. Those that `_start` starts cannot.
    """
    process = multiprocessing.current_process()
    with _START_LOCK:
        is_daemon = process.daemon
        process.daemon = False
        try:
            yield
        finally:
            process.daemon = is_daemon


def _prepare_process() -> None:
    """Leave Ctrl-C to the process that started this one, and end with it."""
    # a terminal sends Ctrl-C to all processes
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when its parent has ended, also if that was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def limit_xla_threads() -> None:
    """Set PJRT_NPROC to the thread count of a Dask worker; XLA reads it when JAX starts."""
    worker_module = sys.modules.get("distributed.worker")
    # get_worker raises a ValueError where this is no worker
    with contextlib.suppress(ValueError):
        if worker_module:
            threads = worker_module.get_worker().state.nthreads
            os.environ.setdefault("PJRT_NPROC", str(threads))


class Portable:
    """An object that is pickled without its attributes that start with "_".

    These hold arrays on devices, open files and locks, which belong to one process.
    """

    def __getstate__(self) -> dict[str, object]:
        state = vars(self).items()
        return {name: value for name, value in state if not name.startswith("_")}
