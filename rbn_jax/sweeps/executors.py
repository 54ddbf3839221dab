"""Run the tasks of a sweep: in threads or on a cluster, with progress, stopped cleanly."""

import contextlib
import functools
import pickle
import random
import threading
import uuid
import warnings
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from rbn_jax.parameters.optional import require
from rbn_jax.sweeps.host import Evaluator, HostFunction
from rbn_jax.sweeps.reduction_sink import ReductionSink
from rbn_jax.sweeps.sinks import MemorySink, StoreSink, TaskResult
from rbn_jax.sweeps.verification import find_damaged
from rbn_jax.system.files import mark_running
from rbn_jax.system.interrupts import noticed_interrupts
from rbn_jax.system.processes import limit_xla_threads
from rbn_jax.system.progress import Progress

# distinguishes the process that called `sweep` from its workers, on any machine
_PROCESS_ID = uuid.uuid4().hex
_unpickling = threading.Lock()
# of the points where a function fails, those that a warning names beside the first
_MAX_NAMED = 9


Sink = MemorySink | StoreSink | ReductionSink
"""Where results go: it runs a task in any process, and accepts its result in the caller's."""

Problems = dict[str, dict[int, str]]
"""Details by problem and by the task in which it is."""


def _warn(evaluator: Evaluator, problems: Problems) -> None:
    for problem, details in problems.items():
        blocks = evaluator.blocks
        describe = functools.partial(evaluator.function.describe, blocks)
        first = min(details)
        task = blocks.task_blocks(first)
        place = " to ".join(map(describe, dict.fromkeys((task[0], task[-1]))))
        count = f"{len(details)} of {blocks.task_count} {blocks.task_name}"
        text = f"{problem} in {count}, first in {place}"
        if details[first]:
            others = map(describe, sorted(details)[1 : _MAX_NAMED + 1])
            text = "; ".join((f"{text}: {details[first]}", *others))
        # points at the caller of `sweep`
        warnings.warn(text, RuntimeWarning, stacklevel=4)


def run_tasks(
    sink: Sink,
    shard: tuple[int, int] | None,
    client: Any,
    progress: bool | None,
    verify: bool,
) -> None:
    """Run every task of a sink that is missing; of a shard (i, n), every n-th from the i-th on.

    A task that is done is read and its checksums are verified if `verify` is true, or if it was
    written by a process that did not end in order; what is damaged is computed again.

    Raises:
        KeyboardInterrupt: Ctrl-C; raised once the tasks that have started are finished.
        OSError: a result could not be written.
    """
    first, step = shard or (0, 1)
    directory, blocks = sink.directory, sink.evaluator.blocks
    tasks = range(first, blocks.task_count, step)
    missing = list(tasks)
    mark = contextlib.nullcontext()
    if directory and not isinstance(sink, MemorySink):
        done = [task for task in tasks if directory.has(task)]
        damaged = find_damaged(sink, directory, done, verify, progress)
        missing = sorted({*tasks} - {*done} | {*damaged})
        # so that processes which share a store seldom take the same task
        random.Random().shuffle(missing)
        if missing:
            mark = mark_running(directory.path)
    if not tasks:
        # points at the caller of `sweep`
        warnings.warn(
            f"shard {first} of {step} has nothing to do: the store has {blocks.task_count} "
            f"{blocks.task_name}; take smaller blocks, or fewer shards",
            stacklevel=3,
        )
    problems: Problems = {}

    def accept(result: TaskResult) -> None:
        sink.accept(result)
        for problem, detail in result.problems.items():
            problems.setdefault(problem, {})[result.task] = detail

    try:
        if blocks.task_count == 1 and client is None:
            with mark:
                for task in missing:
                    accept(sink.run(task))
            return
        total = sum(map(blocks.task_points, tasks))
        remaining = sum(map(blocks.task_points, missing))
        title = f"sweep of {sink.evaluator.function.attrs['function']}"
        bar = Progress(progress, title, sink.evaluator.preparation, total, remaining)
        with mark, noticed_interrupts() as interrupted, contextlib.closing(bar):
            _run_concurrently(sink, accept, missing, client, bar, interrupted)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped; {_state(sink)}") from None
    except OSError as error:
        text = f"{error.strerror or error}; {_state(sink)}"
        raise OSError(error.errno, text, error.filename) from error
    finally:
        _warn(sink.evaluator, problems)


def _state(sink: Sink) -> str:
    """Say what is left of a sweep that stopped, and how to go on."""
    if sink.directory is None:
        return "nothing is kept of a sweep in memory; with store= it can be resumed"
    return sink.directory.state()


def _run_concurrently(
    sink: Sink,
    accept: Callable[[TaskResult], None],
    missing: list[int],
    client: Any,
    bar: Progress,
    interrupted: Callable[[], int],
) -> None:
    """Run tasks, two for each thread; after a failure or Ctrl-C, let those that run finish."""
    task_points = sink.evaluator.blocks.task_points
    if client is None:
        executor = ThreadPoolExecutor(sink.threads, "sweep")
        run: Callable[..., TaskResult] = sink.run
        arguments: tuple[object, ...] = ()
    else:
        executor = client.get_executor(pure=False)
        # sent to the workers once: on a worker, Dask puts the bytes in place of this future
        pickled_sink = client.submit(bytes, require("cloudpickle", "sweep").dumps(sink))
        run = _run_on_worker
        arguments = (pickled_sink, _PROCESS_ID)
    not_started = iter(missing)
    pending: dict[Future[TaskResult], int] = {}
    try:
        while True:
            # a cluster may grow
            threads = sink.threads if client is None else sum(client.nthreads().values())
            width = 2 * max(threads, 1)
            while len(pending) < width and (task := next(not_started, None)) is not None:
                # another process may have run it in the meantime
                if sink.directory and sink.directory.has(task):
                    bar.add(task_points(task))
                else:
                    pending[executor.submit(run, *arguments, task)] = task
            if not pending:
                return
            finished, _ = wait(pending, bar.log_interval, FIRST_COMPLETED)
            bar.log()
            for future in finished:
                result = _take_result(future, sink, pending.pop(future))
                accept(result)
                bar.add(task_points(result.task))
            if interrupted():
                raise KeyboardInterrupt
    finally:
        if client is None:
            executor.shutdown(cancel_futures=True)
        else:
            # They are not cancelled: Dask reports a future as cancelled while its worker still
            # runs, and would write to a store that is unlocked by then.
            wait(pending)


@functools.lru_cache(maxsize=4)
def _unpickle_sink(pickled_sink: bytes) -> Sink:
    """Return the one copy of a sink in this process, whose function JAX compiles once."""
    return pickle.loads(pickled_sink)


def _run_on_worker(pickled_sink: bytes, caller_id: str, task: int) -> TaskResult:
    """Run a task on a worker of a cluster."""
    if caller_id != _PROCESS_ID:
        limit_xla_threads()
    with _unpickling:
        sink = _unpickle_sink(pickled_sink)
    return sink.run(task)


def _take_result(future: "Future[TaskResult]", sink: Sink, task: int) -> TaskResult:
    """Return the result of a task; of a Python function in a process if its worker ended.

    Dask also gives up tasks that only waited on a worker that another one ended.
    """
    try:
        return future.result()
    except Exception as error:
        is_host = isinstance(sink.evaluator.function, HostFunction)
        if is_host and type(error).__name__ == "KilledWorker":
            return sink.run(task)
        raise
