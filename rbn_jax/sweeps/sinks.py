"""What `drive` needs of a sweep: units of work, and where what they leave belongs."""

import abc
import dataclasses
from pathlib import Path
from typing import Any, ClassVar

from rbn_jax.sweeps.evaluator import Job


@dataclasses.dataclass(frozen=True)
class Done:
    """What is left of a unit of work when it is done; it may come from another process."""

    unit: int
    bytes: int
    nan: tuple[str, ...] = ()
    data: Any = None


class Target(abc.ABC):
    """The results of a job, made unit by unit; a unit is a block or a run of blocks.

    It travels to other processes by pickle, without its attributes that start with "_".
    """

    job: Job

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    @property
    def units(self) -> int:
        """How many units there are."""
        return self.job.blocks.count

    def points(self, unit: int) -> int:
        """Points of a unit."""
        return self.job.blocks.points(unit)

    def describe(self, unit: int) -> str:
        """A unit and its parameters in words."""
        return self.job.describe(unit)

    @abc.abstractmethod
    def has(self, unit: int) -> bool:
        """Whether a unit was done earlier, here or in another process."""

    @abc.abstractmethod
    def work(self, unit: int) -> Done:
        """Do a unit, in whatever process this is."""

    @abc.abstractmethod
    def accept(self, done: Done) -> None:
        """Put what a unit left where it belongs, in the process that drives."""

    @abc.abstractmethod
    def state(self) -> str:
        """What is left after an interruption, and how to go on."""

    @abc.abstractmethod
    def result(self) -> Any:
        """The labelled dataset."""


class Stored(Target):
    """A target with a folder, which `folder.prepare` makes or finds."""

    path: Path
    called: ClassVar[str] = "blocks"

    @property
    @abc.abstractmethod
    def extra(self) -> dict[str, Any]:
        """What tells it from another sweep, beside the job."""

    @property
    @abc.abstractmethod
    def bytes_needed(self) -> int:
        """What all units take."""

    @property
    @abc.abstractmethod
    def bytes_missing(self) -> int:
        """What the units that are not there will take."""

    @abc.abstractmethod
    def fill(self, path: Path, attrs: dict[str, str]) -> None:
        """Make the store, with no unit done, in an empty folder."""

    def state(self) -> str:
        """How many units are kept, and how to go on."""
        done = sum(map(self.has, range(self.units)))
        kept = f"{done} of {self.units} {self.called} are kept in {self.path}"
        return f"{kept}; the same call goes on there"
