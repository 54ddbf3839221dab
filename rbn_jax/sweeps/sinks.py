"""Where the results of a sweep go: into memory, a store, or reductions (`reduction_sink`).

A sink runs a task, which is a block or a run of blocks, in any process, and accepts its result in
the process that called `sweep`.
"""

import dataclasses
import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from rbn_jax.parameters.labels import to_dataset
from rbn_jax.parameters.optional import require
from rbn_jax.sweeps.host import Evaluator
from rbn_jax.sweeps.store import StoreDirectory

if TYPE_CHECKING:
    import xarray

Comparison = tuple[str, np.ndarray, np.ndarray]
"""The name of a result, its array as it is computed now, and the stored one."""


@dataclasses.dataclass(frozen=True)
class TaskResult:
    """The result of a task, which another process may have run.

    task: the number of the task
    problems: what is wrong with the result, as "rates is NaN", and details such as an error
    data: what `Sink.accept` is to store, if the task has not stored it itself
    """

    task: int
    problems: dict[str, str]
    data: Any = None


class MemorySink:
    """The arrays of a sweep in the process that called `sweep`: blocks put together."""

    directory = None

    def __init__(self, evaluator: Evaluator):
        needed = np.prod(evaluator.blocks.sizes, dtype=float) * evaluator.function.point_bytes
        free = require("psutil", "sweep").virtual_memory().available
        if needed > free:
            raise ValueError(
                f"the sweep needs {needed / 1e9:.3g} GB of memory, and {free / 1e9:.3g} GB "
                "are free: give a store= on disk, keep reduce= only, or take fewer points"
            )
        self.evaluator = evaluator
        self.threads = evaluator.threads
        self._arrays: dict[str, np.ndarray] = {}

    def run(self, task: int) -> TaskResult:
        """Evaluate a block."""
        arrays, problems = self.evaluator.fetch(task)
        return TaskResult(task, problems, arrays)

    def accept(self, result: TaskResult) -> None:
        """Copy a block into the arrays of the sweep."""
        blocks = self.evaluator.blocks
        if blocks.count == 1:
            self._arrays = result.data
            return
        region = blocks.region(result.task)
        for name, block in result.data.items():
            if name not in self._arrays:
                shape = (*blocks.sizes, *block.shape[len(blocks.sizes) :])
                self._arrays[name] = np.empty(shape, block.dtype)
            self._arrays[name][region] = block

    def result(self) -> "xarray.Dataset":
        """Return the labelled dataset, whose arrays are read-only."""
        function = self.evaluator.function
        variables = {}
        for name, variable in function.template.items():
            array = self._arrays[name]
            array.flags.writeable = False
            variables[name] = variable.with_data(array)
        return to_dataset(variables, function.axes.dims, function.axes.labels(), function.attrs)


class StoreSink:
    """The arrays of a sweep in a store, each block a whole number of chunks."""

    def __init__(self, evaluator: Evaluator, directory: StoreDirectory):
        self.evaluator = evaluator
        self.threads = evaluator.threads
        self.directory = directory

    def run(self, task: int) -> TaskResult:
        """Evaluate a block and write it."""
        arrays, problems = self.evaluator.fetch(task)
        for name, array in arrays.items():
            self._arrays[name][self.evaluator.blocks.region(task)] = array
        return TaskResult(task, problems)

    def is_intact(self, task: int) -> bool:
        """Return whether a block that is done can be read, with its checksums."""
        try:
            self._read(task)
        # Zarr has no class of its own for wrong checksums, and damage may raise anything
        except Exception:
            return False
        return True

    def compare(self, task: int) -> Iterator[Comparison]:
        """Evaluate a block that is done once more, and compare it with what is stored."""
        stored = self._read(task)
        arrays, _ = self.evaluator.fetch(task)
        for name, array in arrays.items():
            yield name, array, stored[name]

    def _read(self, task: int) -> dict[str, np.ndarray]:
        region = self.evaluator.blocks.region(task)
        return {name: np.asarray(array[region]) for name, array in self._arrays.items()}

    @functools.cached_property
    def _arrays(self) -> dict[str, Any]:
        """The arrays in the store, opened once in a process."""
        return self.directory.open_arrays()

    def accept(self, result: TaskResult) -> None:
        """Do nothing: the task has written its result."""

    def result(self) -> "xarray.Dataset":
        """Return the dataset, whose arrays are lazy."""
        return self.directory.read_dataset()
