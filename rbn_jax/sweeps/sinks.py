"""What `run_tasks` needs of a sweep: tasks, and a place for their results."""

import abc
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

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
    nan_names: tuple[str, ...] = ()
    data: Any = None


class Sink(Portable, abc.ABC):
    """The place for the results of a sweep, task by task; a task is a block or a run of blocks."""

    evaluator: Evaluator

    @property
    def task_count(self) -> int:
        """The number of tasks."""
        return self.evaluator.blocks.count

    def points(self, task: int) -> int:
        """Return the number of points of a task."""
        return self.evaluator.blocks.points(task)

    def describe(self, task: int) -> str:
        """Describe a task and its parameters."""
        return self.evaluator.describe(task)

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


class StoredSink(Sink):
    """A sink in a directory, which `store_directory.prepare` creates or finds."""

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
