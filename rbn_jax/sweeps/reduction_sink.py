"""Sweeps that keep only reductions: in memory, or in files from which they are resumed."""

import functools
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from rbn_jax.numerics.arrays import broadcast_any_rank
from rbn_jax.parameters.labels import Variable, encode_text
from rbn_jax.parameters.optional import require
from rbn_jax.reductions import LabelledArray, Reduction, Source, State, is_float
from rbn_jax.sweeps.evaluator import TracedEvaluator, contains_nan, name_nan
from rbn_jax.sweeps.sinks import Comparison, TaskResult
from rbn_jax.sweeps.store import StoreDirectory
from rbn_jax.system.files import atomic_file

if TYPE_CHECKING:
    import xarray

Partials = dict[tuple[int, str], State]
"""States by the position of the reduction and the name of what is reduced."""


class ReductionSink:
    """The states of the reductions, merged in the order of the blocks.

    A task returns the states of its blocks, or writes them to a file. They are merged in the
    process that called `sweep`, into arrays over the dimensions that are kept.
    """

    # hardly anything is stored: a second thread would only fill the caches with its own block
    threads = 1

    def __init__(
        self,
        evaluator: TracedEvaluator,
        reductions: tuple[Reduction, ...],
        directory: StoreDirectory | None = None,
    ):
        self.evaluator = evaluator
        self.reductions = reductions
        self.directory = directory
        self._states: Partials = {}
        self._accepted: dict[int, list[Partials]] = {}
        self._next_task = 0

    def run(self, task: int) -> TaskResult:
        """Reduce the blocks of a task; write their states to its file."""
        block_states = []
        problems: dict[str, str] = {}
        for block in self.evaluator.blocks.task_blocks(task):
            states, block_problems = self._reduce_block(block)
            block_states.append(states)
            problems |= block_problems
        if self.directory is None:
            return TaskResult(task, problems, block_states)
        _save(self.directory.part_file(task), block_states)
        return TaskResult(task, problems)

    def is_intact(self, task: int) -> bool:
        """Return whether the file of a task can be read, with its checksums."""
        try:
            self._load(task)
        except OSError:
            return False
        return True

    def compare(self, task: int) -> Iterator[Comparison]:
        """Reduce the first block of a task once more, and compare it with what is stored."""
        stored = self._load(task)[0]
        states, _ = self._reduce_block(self.evaluator.blocks.task_blocks(task)[0])
        for key, state in states.items():
            for field, array in state.items():
                yield key[1], array, stored[key][field]

    def accept(self, result: TaskResult) -> None:
        """Merge the states of a task, once those of all tasks before it are merged."""
        if self.directory:
            return
        self._accepted[result.task] = result.data
        while self._next_task in self._accepted:
            self._merge(self._next_task, self._accepted.pop(self._next_task))
            self._next_task += 1

    def result(self) -> "xarray.Dataset | None":
        """Return the labelled reductions, and store them too; None if tasks are missing."""
        if self.directory is None:
            return self._label()
        tasks = range(self.evaluator.blocks.task_count)
        if not all(map(self.directory.has, tasks)):
            return None
        for task in tasks:
            try:
                block_states = self._load(task)
            except OSError:
                # it was damaged after it was found complete
                self.run(task)
                block_states = self._load(task)
            self._merge(task, block_states)
        dataset = self._label()
        self.directory.write_dataset(dataset)
        return dataset

    def _load(self, task: int) -> list[Partials]:
        """Read the states of the blocks of a task.

        Raises:
            OSError: the file is damaged.
        """
        assert self.directory is not None
        file = self.directory.part_file(task)
        block_states: dict[int, Partials] = {}
        try:
            with np.load(file, allow_pickle=False) as arrays:
                for text, array in arrays.items():
                    number, position, name, field = json.loads(text)
                    states = block_states.setdefault(number, {})
                    states.setdefault((position, name), {})[field] = array
            numbers = range(len(self.evaluator.blocks.task_blocks(task)))
            return [block_states[number] for number in numbers]
        # the names, sizes and flags in an archive have no checksum: damage may raise anything
        except Exception as error:
            raise OSError(f"{file} is damaged: {error}") from error

    def _merge(self, task: int, block_states: list[Partials]) -> None:
        """Merge the states of the blocks of a task into those of all blocks before it."""
        blocks, dims = self.evaluator.blocks, self.evaluator.function.axes.dims
        for block, states in zip(blocks.task_blocks(task), block_states, strict=True):
            index, region = blocks.index(block), blocks.region(block)
            for key, state in states.items():
                reduction = self.reductions[key[0]]
                reduced, kept = reduction.split_axes(dims)
                if key not in self._states:
                    sizes = [blocks.sizes[axis] for axis in kept]
                    self._states[key] = {
                        field: np.empty((*sizes, *array.shape[len(kept) :]), array.dtype)
                        for field, array in state.items()
                    }
                arrays = self._states[key]
                cells = tuple(region[axis] for axis in kept)
                # the first block of these cells finds nothing to merge with
                if any(index[axis] for axis in reduced):
                    earlier = {field: array[cells] for field, array in arrays.items()}
                    state = reduction.merge(earlier, state)
                for field, array in state.items():
                    arrays[field][cells] = array

    def _reduce_block(self, block: int) -> tuple[Partials, dict[str, str]]:
        """Return the states of a block, and problems.

        The arrays of the block are freed when this returns, before the next block needs memory.
        """
        blocks, dims = self.evaluator.blocks, self.evaluator.function.axes.dims
        starts = [points.start for points in blocks.region(block)]
        lengths = blocks.lengths(block)
        evaluation = self.evaluator.evaluate(block)
        with jax.enable_x64(True):
            limits = np.asarray((starts, lengths))
            reduced_block = _reduce(self.reductions, dims, blocks.sizes, *evaluation, limits)
            partials, nan_flags = jax.device_get(reduced_block)
        states = {}
        for key, partial in partials.items():
            _, kept = self.reductions[key[0]].split_axes(dims)
            # the padding of the kept dimensions ends here
            inside = tuple(slice(lengths[axis]) for axis in kept)
            states[key] = {field: np.asarray(array)[inside] for field, array in partial.items()}
        return states, name_nan(nan_flags)

    def _label(self) -> "xarray.Dataset":
        """Return a dataset of every reduction of every variable of the sweep."""
        xr = require("xarray", "sweep")
        function, axes = self.evaluator.function, self.evaluator.function.axes
        variables: dict[str, LabelledArray] = {}
        coords = {}
        for (position, name), state in self._states.items():
            reduction = self.reductions[position]
            reduced, kept = reduction.split_axes(axes.dims)
            # the value of a condition is one number without attributes
            variable = Variable(None, ()) if reduction.condition else function.template[name]
            dims = (*(axes.dims[axis] for axis in kept), *variable.dims)
            along = {axes.dims[axis]: axes.parameters_along(axis) for axis in reduced}
            source = Source(name, dims, dict(variable.attrs), along)
            values = reduction.result(state, math.prod(axes.sizes[axis] for axis in reduced))
            variables |= reduction.label(values, source)
            for coord_name, coord in reduction.coords(source).items():
                if coords.setdefault(coord_name, coord)[2] != coord[2]:
                    # of variables in different units
                    coords[coord_name] = (*coord[:2], {})
            for coord_name, coord_dims, labels in variable.coords:
                coords[coord_name] = (coord_dims, list(labels))
        coords |= axes.labels()
        dims = {dim for array_dims, _, _ in variables.values() for dim in array_dims}
        kept_coords = {}
        for name, coord in coords.items():
            # coordinates of dimensions that were reduced would add these dimensions again
            if dims.issuperset(xr.as_variable(coord).dims):
                kept_coords[name] = coord
        return encode_text(xr.Dataset(variables, kept_coords, function.attrs))


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _reduce(
    reductions: tuple[Reduction, ...],
    dims: tuple[str, ...],
    sizes: tuple[int, ...],
    variables: dict[str, Variable],
    flags: dict[int, Array],
    limits: Array,
) -> tuple[dict[tuple[int, str], dict[str, Array]], dict[str, Array]]:
    """Return the state of a block for each reduction and variable, and which hold NaN.

    limits: the first point of the block along each dimension of the sweep, and the number of
        points without the padding
    """
    arrays = {name: variable.data for name, variable in variables.items()}
    has_nan = contains_nan(arrays)
    partials = {}
    for position, reduction in enumerate(reductions):
        axes, _ = reduction.split_axes(dims)
        inputs = {str(reduction.name): flags[position]} if position in flags else arrays
        for name, array in inputs.items():
            is_nan_free = ~has_nan.get(name, np.False_)
            state = _reduce_array(reduction, array, axes, sizes, limits, is_nan_free)
            partials[position, name] = state
    return partials, has_nan


@broadcast_any_rank
def _reduce_array(
    reduction: Reduction,
    array: Array,
    axes: tuple[int, ...],
    sizes: tuple[int, ...],
    limits: Array,
    is_nan_free: Array,
) -> dict[str, Array]:
    """Return the state of one variable, or of one condition."""
    starts, lengths = limits
    shape = tuple(array.shape[axis] for axis in axes)
    index = jnp.zeros((1,) * len(axes), jnp.int64)
    inside = jnp.ones((1,) * len(axes), bool)
    for position, axis in zip(jnp.indices(shape, jnp.int64, sparse=True), axes, strict=True):
        index = index * sizes[axis] + starts[axis] + position
        inside &= position < lengths[axis]
    # Without the barrier XLA would compute these numbers again for every element of the array.
    index, inside = lax.optimization_barrier((index, inside))

    def reduce_points(check: bool) -> dict[str, Array]:
        # Within the branches of the condition XLA sees all dimensions, not only the one that they
        # are joined to, and on a CPU it reduces several faster than one.
        x = jnp.moveaxis(array, axes, range(len(axes)))
        x = x.reshape(-1, *x.shape[len(axes) :])
        points_only = (-1, *(1,) * (x.ndim - 1))
        valid = inside.reshape(points_only)
        if not check:
            # XLA leaves out a mask that is always true
            valid = jnp.ones(valid.shape, bool)
        elif is_float(x.dtype):
            valid &= ~jnp.isnan(x)
        return reduction.partial(x, valid, index.reshape(points_only))

    # most blocks have neither NaN nor padding
    is_complete = is_nan_free & jnp.all(inside)
    return lax.cond(is_complete, lambda: reduce_points(False), lambda: reduce_points(True))


def _save(file: Path, block_states: list[Partials]) -> None:
    """Write the states of blocks into a file, completely or not at all."""
    arrays = {}
    for number, states in enumerate(block_states):
        for key, state in states.items():
            for field, array in state.items():
                arrays[json.dumps([number, *key, field])] = array
    with atomic_file(file) as draft:
        np.savez(draft, **arrays)
