"""What `run_tasks` needs of a sweep: tasks, and a place for their results, as in memory."""

import abc
import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from rbn_jax.parameters.labels import to_dataset
from rbn_jax.sweeps.evaluator import Evaluator, Portable

if TYPE_CHECKING:
    import xarray


@dataclasses.dataclass(frozen=True)
class BlockResult:
    """The result of a task, which another process may have run.

    task: the number of the task
    n_bytes: bytes that were computed or written
    nan_names: names of the variables that hold NaN
    data: what `Sink.accept` is to store, if the task has not stored it itself
    """

    task: int
    n_bytes: int
    nan_names: set[str]
    data: Any = None


class Sink(Portable, abc.ABC):
    """The place for the results of a sweep, task by task; a task is a block or a run of blocks."""

    evaluator: Evaluator

    @property
    def task_count(self) -> int:
        """The number of tasks."""
        return self.evaluator.blocks.count

    def blocks_of(self, task: int) -> range:
        """Return the blocks of a task: the one of its number."""
        return range(task, task + 1)

    def points(self, task: int) -> int:
        """Return the number of points of a task."""
        return sum(map(self.evaluator.blocks.points, self.blocks_of(task)))

    def describe(self, task: int) -> str:
        """Describe the first and the last block of a task."""
        blocks = self.blocks_of(task)
        ends = dict.fromkeys((blocks[0], blocks[-1]))
        return " to ".join(map(self.evaluator.describe, ends))

    def has(self, task: int) -> bool:
        """Return whether the result of a task is stored already, by this process or another."""
        return False

    @abc.abstractmethod
    def run(self, task: int) -> BlockResult:
        """Run a task, in any process."""

    @abc.abstractmethod
    def accept(self, result: BlockResult) -> None:
        """Store the result of a task, in the process that called `sweep`."""

    @abc.abstractmethod
    def state(self) -> str:
        """Say what is left after an interruption, and how to go on."""

    @abc.abstractmethod
    def result(self) -> "xarray.Dataset | None":
        """Return the labelled dataset, or None while tasks of other shards are missing."""


class MemorySink(Sink):
    """The arrays of a sweep in the process that called `sweep`: blocks put together."""

    def __init__(self, evaluator: Evaluator):
        needed = evaluator.points * evaluator.point_bytes
        free = _free_memory()
        if needed > free:
            raise ValueError(
                f"the sweep needs {needed / 1e9:.3g} GB of memory, and {free / 1e9:.3g} GB "
                "are free: give a store= on disk, keep reduce= only, or take fewer points"
            )
        self.evaluator = evaluator
        self._arrays: dict[str, np.ndarray] = {}

    def run(self, task: int) -> BlockResult:
        """Evaluate a block."""
        arrays, nan_names = self.evaluator.fetch(task)
        n_bytes = sum(array.nbytes for array in arrays.values())
        return BlockResult(task, n_bytes, nan_names, arrays)

    def accept(self, result: BlockResult) -> None:
        """Copy a block into the arrays of the sweep."""
        if self.task_count == 1:
            self._arrays = result.data
            return
        sizes = self.evaluator.sizes
        region = self.evaluator.blocks.region(result.task)
        for name, block in result.data.items():
            if name not in self._arrays:
                shape = (*sizes, *block.shape[len(sizes) :])
                self._arrays[name] = np.empty(shape, block.dtype)
            self._arrays[name][region] = block

    def state(self) -> str:
        """Say that nothing is left after an interruption."""
        return "nothing is kept of a sweep in memory; with store= it can be resumed"

    def result(self) -> "xarray.Dataset":
        """Return the labelled dataset, whose arrays are read-only."""
        variables = {}
        for name, variable in self.evaluator.template.items():
            array = self._arrays[name]
            array.flags.writeable = False
            variables[name] = variable.with_data(array)
        axes = self.evaluator.axes
        return to_dataset(variables, axes.dims, axes.labels(), self.evaluator.attrs)


class StoredSink(Sink):
    """A sink in a directory, which `store_directory.open_store` creates or finds."""

    path: Path
    task_word: ClassVar[str] = "blocks"

    @property
    def point_bytes(self) -> int:
        """The bytes that a point takes in the directory."""
        return self.evaluator.point_bytes

    @property
    def identity_extra(self) -> dict[str, Any]:
        """What tells the sweep from another one, beside what the evaluator does."""
        return {}

    @property
    def bytes_needed(self) -> int:
        """The bytes of all tasks."""
        return self.evaluator.points * self.point_bytes

    @property
    def bytes_missing(self) -> int:
        """The bytes of the tasks that are not stored yet."""
        if not self.point_bytes or not (self.path / "zarr.json").exists():
            return self.bytes_needed
        missing = (task for task in range(self.task_count) if not self.has(task))
        return sum(map(self.points, missing)) * self.point_bytes

    @abc.abstractmethod
    def fill(self, path: Path, attrs: dict[str, str]) -> None:
        """Write a store without results into an empty directory."""

    def accept(self, result: BlockResult) -> None:
        """Do nothing: the task has written its result."""

    def state(self) -> str:
        """Say how many tasks are stored, and how to go on."""
        done = sum(map(self.has, range(self.task_count)))
        count = f"{done} of {self.task_count} {self.task_word}"
        return f"{count} are kept in {self.path}; the same call goes on there"


def _free_memory() -> float:
    """Return the bytes that a process may still use; infinity where the system does not say."""
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return float(line.split()[1]) * 1024
    if "SC_AVPHYS_PAGES" in getattr(os, "sysconf_names", {}):
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return float("inf")
