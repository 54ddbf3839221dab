"""Checks of what a store holds: checksums of blocks, and one block against the function."""

import contextlib
import math
import warnings

import numpy as np

from rbn_jax.sweeps.reduction_sink import ReductionSink
from rbn_jax.sweeps.sinks import StoreSink
from rbn_jax.sweeps.store import StoreDirectory
from rbn_jax.system.files import stale_marks
from rbn_jax.system.progress import Progress

# results of two versions of JAX differ by some rounding errors
_ROUNDING = 1e3


def find_damaged(
    sink: StoreSink | ReductionSink,
    directory: StoreDirectory,
    done: list[int],
    verify: bool,
    progress: bool | None,
) -> list[int]:
    """Return the tasks whose files are complete but damaged, and delete these files.

    Args:
        sink: reads what is stored.
        directory: of the sink.
        done: the tasks whose files are complete.
        verify: whether all of them are read; otherwise those that were written since a process
            started that was killed.
        progress: as `sweep` takes it.
    """
    marks = stale_marks(directory.path)
    since = -math.inf if verify else min(marks.values(), default=math.inf)
    suspects = []
    if since < math.inf:
        suspects = [task for task in done if directory.changed_since(task, since)]
    damaged = []
    title, count = f"verification of {directory.path}", len(suspects)
    bar = Progress(progress, title, "", count, count, sink.evaluator.blocks.task_name)
    with contextlib.closing(bar):
        for task in suspects:
            if not sink.is_intact(task):
                directory.discard(task)
                damaged.append(task)
            bar.add(1)
            bar.log()
    for mark in marks:
        mark.unlink(missing_ok=True)
    if damaged:
        blocks = sink.evaluator.blocks
        first = sink.evaluator.function.describe(blocks, blocks.task_blocks(damaged[0])[0])
        # points at the caller of `sweep`
        warnings.warn(
            f"{directory.path}: {len(damaged)} of {blocks.task_count} {blocks.task_name} were "
            f"damaged and are computed again, first {first}",
            RuntimeWarning,
            stacklevel=4,
        )
    return damaged


def check_sample(sink: StoreSink | ReductionSink, directory: StoreDirectory) -> None:
    """Compute a block that is done once more where the function may be another one.

    That is so if another version of JAX has lowered its program, or if it calls Python, whose
    code is not part of its program.

    Raises:
        ValueError: they differ: another function has made the store.
    """
    identity = directory.identity
    if not identity.calls_python and identity.version == sink.evaluator.function.backend[1]:
        return
    task = next(filter(sink.is_intact, directory.done_tasks()), None)
    if task is None:
        return
    for name, array, stored in sink.compare(task):
        if not _agree(array, stored):
            function = sink.evaluator.function
            block = sink.evaluator.blocks.task_blocks(task)[0]
            raise ValueError(
                f"{directory.path} holds another sweep: {name} in "
                f"{function.describe(sink.evaluator.blocks, block)} was not computed by this "
                f"version of {function.attrs['function']}. Give another store, or overwrite this "
                "one to start anew"
            )


def _agree(array: np.ndarray, stored: np.ndarray) -> bool:
    """Return whether arrays are equal but for rounding, which another version of JAX changes."""
    if array.dtype.kind not in "fc":
        return np.array_equal(array, stored)
    tolerance = _ROUNDING * float(np.finfo(array.dtype).eps)
    finite = np.abs(stored[np.isfinite(stored)])
    largest = float(np.max(finite, initial=0.0))
    return np.allclose(array, stored, rtol=tolerance, atol=tolerance * largest, equal_nan=True)
