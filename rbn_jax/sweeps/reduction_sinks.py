"""A sweep that keeps reductions only: in memory, or in parts on disk that can be resumed."""

import dataclasses
import functools
import os
import uuid
import zipfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rbn_jax.parameters.optional import require
from rbn_jax.sweeps import store_directory as folder
from rbn_jax.sweeps.blocks import Blocks
from rbn_jax.sweeps.evaluator import Job
from rbn_jax.sweeps.memory_sink import any_nan
from rbn_jax.sweeps.reduced_dataset import summary
from rbn_jax.sweeps.reductions import Reduction, State
from rbn_jax.sweeps.sinks import Done, Stored, Target

Key = tuple[int, str, tuple[int, ...]]
"""The number of a reduction, the variable it is of, and the place among the blocks it keeps."""


class Reduced(Target):
    """States of the reductions, merged over the blocks.

    A unit of work is a run of blocks, at most 1024 units a sweep.
    """

    def __init__(self, job: Job, reductions: tuple[Reduction, ...], attrs: dict[str, str]):
        self.job, self.reductions, self.attrs = job, reductions, attrs
        self._states: dict[Key, State] = {}

    @property
    def units(self) -> int:
        """Runs of blocks."""
        return units_of(self.job.blocks)

    def points(self, unit: int) -> int:
        """Points of a unit of work."""
        return sum(map(self.job.blocks.points, blocks_of_unit(self.job.blocks, unit)))

    def has(self, unit: int) -> bool:
        """Nothing is there before it is computed."""
        return False

    def work(self, unit: int) -> Done:
        """Evaluate the blocks of a unit and merge what they leave."""
        states: dict[Key, State] = {}
        nan: set[str] = set()
        for number in blocks_of_unit(self.job.blocks, unit):
            left, bad = self._block(number)
            self._merge(states, left)
            nan |= bad
        return Done(unit, 0, tuple(nan), states)

    def accept(self, done: Done) -> None:
        """Merge what a unit left."""
        self._merge(self._states, done.data)

    def describe(self, unit: int) -> str:
        """A unit in words."""
        run = blocks_of_unit(self.job.blocks, unit)
        return " to ".join(map(self.job.describe, dict.fromkeys((run[0], run[-1]))))

    def state(self) -> str:
        """What is left after an interruption."""
        return "nothing is kept of a reduction in memory; with store= it can be resumed"

    def result(self) -> Any:
        """The labelled reductions."""
        return summary(self.job, self.reductions, self._states, self.attrs)

    def _merge(self, into: dict[Key, State], more: dict[Key, State]) -> None:
        for key, state in more.items():
            here = into.get(key)
            into[key] = state if here is None else self.reductions[key[0]].merge(here, state)

    def _block(self, number: int) -> tuple[dict[Key, State], set[str]]:
        """What a block leaves and the names of what is NaN in it; its arrays end here."""
        found, flags = self.job.evaluate(number)
        bad = any_nan(found)
        states = self._reduced(number, found, flags)
        return states, {name for name, is_nan in jax.device_get(bad).items() if is_nan}

    def _reduced(self, number: int, found: Any, flags: Any) -> dict[Key, State]:
        """What one block leaves, by reduction and variable."""
        job, dims = self.job, self.job.axes.dims
        regions, place = job.blocks.region(number), job.blocks.index(number)
        lengths = np.asarray([part.stop - part.start for part in regions], np.int32)
        with jax.enable_x64(True):
            partials = jax.device_get(_reduce(self.reductions, dims, found, flags, lengths))
        states = {}
        for i, (reduction, variables) in enumerate(zip(self.reductions, partials, strict=True)):
            over = reduction.axes(dims)
            kept = [axis for axis in range(len(dims)) if axis not in over]
            shape, starts = zip(*((job.shape[a], regions[a].start) for a in over), strict=True)
            inside = tuple(slice(lengths[axis]) for axis in kept)
            for name, partial in variables.items():
                state = reduction.to_host(partial, shape, starts)
                states[i, name, tuple(place[axis] for axis in kept)] = {
                    field: value[inside] for field, value in state.items()
                }
        return states


class ReducedStore(Stored, Reduced):
    """The same on disk: each unit leaves one file, written under another name and renamed.

    So a unit is done when its file is there.
    """

    called = "parts"

    def __init__(
        self, job: Job, reductions: tuple[Reduction, ...], attrs: dict[str, str], path: Path
    ):
        super().__init__(job, reductions, attrs)
        self.path = path

    @property
    def extra(self) -> dict[str, Any]:
        """The reductions."""
        return {"reduce": [_described(x) for x in self.reductions]}

    @property
    def bytes_missing(self) -> int:
        """Parts take next to nothing."""
        return 0

    @property
    def bytes_needed(self) -> int:
        """Nor do all of them."""
        return 0

    def fill(self, path: Path, attrs: dict[str, str]) -> None:
        """Make the store, without a part, in an empty folder."""
        folder.write(require("xarray", "sweep").Dataset(attrs=attrs), path)
        (path / "parts").mkdir()

    def has(self, unit: int) -> bool:
        """Whether the part of a unit is there, whole."""
        return has_part(self.path, unit)

    def work(self, unit: int) -> Done:
        """Reduce a unit and write its part."""
        done = super().work(unit)
        return Done(unit, _save(part_file(self.path, unit), done.data), done.nan)

    def accept(self, done: Done) -> None:
        """Everything is on disk already."""

    def result(self) -> Any:
        """The labelled reductions; None while parts are missing."""
        if not all(map(self.has, range(self.units))):
            return None
        for unit in range(self.units):
            self._merge(self._states, _load(part_file(self.path, unit)))
        found = super().result()
        folder.finish(found, self.path)
        return found


@functools.partial(jax.jit, static_argnums=(0, 1))
def _reduce(reductions: Any, dims: Any, found: Any, flags: Any, lengths: Any) -> Any:
    """The partial state of every reduction of every variable, points of the padding left out."""
    tests, partials = iter(flags), []
    for reduction in reductions:
        if hasattr(reduction, "condition"):
            arrays = {reduction.name: next(tests)}
        else:
            arrays = {name: x.data for name, x in found.items()}
        axes = reduction.axes(dims)
        partials.append(
            {name: reduction.partial(x, _valid(x, lengths), axes) for name, x in arrays.items()}
        )
    return partials


def _valid(x: jax.Array, lengths: jax.Array) -> jax.Array:
    """Which points of a block are no padding, as a mask that broadcasts to x."""
    valid = jnp.ones((1,) * x.ndim, bool)
    for axis in range(lengths.size):
        shape = [-1 if i == axis else 1 for i in range(x.ndim)]
        valid &= (jnp.arange(x.shape[axis]) < lengths[axis]).reshape(shape)
    return valid


def units_of(blocks: Blocks) -> int:
    """How many runs the blocks are split into."""
    return -(-blocks.count // _per_unit(blocks))


def part_file(path: Path, unit: int) -> Path:
    """Where a unit leaves its part."""
    return path / "parts" / f"{unit}.npz"


def has_part(path: Path, unit: int) -> bool:
    """Whether a part is there with the end that a truncated file lacks."""
    return zipfile.is_zipfile(part_file(path, unit))


def _per_unit(blocks: Blocks) -> int:
    return max(8, -(-blocks.count // 1024))


def blocks_of_unit(blocks: Blocks, unit: int) -> range:
    """The blocks of a run."""
    per = _per_unit(blocks)
    return range(unit * per, min((unit + 1) * per, blocks.count))


def _described(reduction: Reduction) -> dict[str, Any]:
    """A reduction for the record; what a condition computes is in the program."""
    fields = {x.name: getattr(reduction, x.name) for x in dataclasses.fields(reduction)}  # pyright: ignore[reportArgumentType]
    fields.pop("condition", None)
    plain = {name: list(x) if isinstance(x, tuple) else x for name, x in fields.items()}
    return {"kind": reduction.kind, **plain}


def _save(path: Path, states: dict[Key, State]) -> int:
    arrays = {}
    for (number, name, place), state in states.items():
        for field, value in state.items():
            arrays[f"{number}|{field}|{'.'.join(map(str, place))}|{name}"] = value
    draft = path.with_name(f".{uuid.uuid4().hex}.npz")
    try:
        np.savez(draft, **arrays)
        size = draft.stat().st_size
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    return size


def _load(path: Path) -> dict[Key, State]:
    """A part; one whose bytes have changed is removed, to be computed again."""
    states: dict[Key, State] = {}
    try:
        with np.load(path, allow_pickle=False) as arrays:
            for text, value in arrays.items():
                number, field, place, name = text.split("|", 3)
                key = int(number), name, tuple(map(int, filter(None, place.split("."))))
                states.setdefault(key, {})[field] = value
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
        path.unlink()
        raise OSError(f"{path} was damaged and is removed: call again to compute it") from error
    return states
