"""Sweeps that keep only reductions: in memory, or in files from which they are resumed."""

import functools
import math
import os
import uuid
import zipfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rbn_jax.parameters.labels import Variable
from rbn_jax.parameters.optional import require
from rbn_jax.sweeps import store_directory
from rbn_jax.sweeps.blocks import block_runs
from rbn_jax.sweeps.evaluator import Evaluator, contains_nan
from rbn_jax.sweeps.reductions import LabelledArray, Reduction, Source, State
from rbn_jax.sweeps.sinks import BlockResult, Sink, StoredSink

if TYPE_CHECKING:
    import xarray

StateKey = tuple[int, str, tuple[int, ...]]
"""The position of a reduction, the name of what is reduced, and the index of a block along the
dimensions that are kept."""

States = dict[StateKey, State]


class ReductionSink(Sink):
    """The states of the reductions, merged over the blocks; a task is a run of blocks."""

    def __init__(self, evaluator: Evaluator, reductions: tuple[Reduction, ...]):
        self.evaluator = evaluator
        self.reductions = reductions
        self._states: States = {}
        self._accepted: dict[int, States] = {}
        self._next_task = 0

    @property
    def task_count(self) -> int:
        """The number of runs."""
        return len(block_runs(self.evaluator.blocks))

    def blocks_of(self, task: int) -> range:
        """Return the blocks of a run."""
        return block_runs(self.evaluator.blocks)[task]

    def run(self, task: int) -> BlockResult:
        """Evaluate the blocks of a run and merge their states."""
        states: States = {}
        nan_names: set[str] = set()
        for block in self.blocks_of(task):
            block_states, names = self._reduce_block(block)
            self._merge(states, block_states)
            nan_names |= names
        return BlockResult(task, 0, nan_names, states)

    def accept(self, result: BlockResult) -> None:
        """Merge the states of a run, once those of all runs before it are merged."""
        self._accepted[result.task] = result.data
        while self._next_task in self._accepted:
            self._merge(self._states, self._accepted.pop(self._next_task))
            self._next_task += 1

    def state(self) -> str:
        """Say that nothing is left after an interruption."""
        return "nothing is kept of a reduction in memory; with store= it can be resumed"

    def result(self) -> "xarray.Dataset | None":
        """Return the labelled reductions."""
        return _reduction_dataset(self.evaluator, self.reductions, self._states)

    def _merge(self, into: States, states: States) -> None:
        """Merge states into others of the same reduction, variable and kept block."""
        for key, state in states.items():
            into[key] = self.reductions[key[0]].merge(into[key], state) if key in into else state

    def _reduce_block(self, block: int) -> tuple[States, set[str]]:
        """Return the states of a block, and the names of variables with NaN.

        The arrays of the block are freed when this returns, before the next block needs memory.
        """
        blocks, dims = self.evaluator.blocks, self.evaluator.axes.dims
        index, region = blocks.index(block), blocks.region(block)
        lengths = np.asarray(blocks.lengths(block), np.int32)
        evaluation = self.evaluator.evaluate(block)
        with jax.enable_x64(True):
            reduced_block = _reduce(self.reductions, dims, *evaluation, lengths)
            partials, nan_flags = jax.device_get(reduced_block)
        states = {}
        for (position, name), partial in partials.items():
            reduction = self.reductions[position]
            reduced, kept = reduction.split_axes(dims)
            shape = [self.evaluator.padded_shape[axis] for axis in reduced]
            starts = [region[axis].start for axis in reduced]
            # the padding of the kept dimensions ends here
            inside = tuple(slice(lengths[axis]) for axis in kept)
            kept_index = tuple(index[axis] for axis in kept)
            state = reduction.to_host(partial, shape, starts)
            state = {field: value[inside] for field, value in state.items()}
            states[position, name, kept_index] = state
        return states, {name for name, has_nan in nan_flags.items() if has_nan}


class ReductionStoreSink(StoredSink, ReductionSink):
    """Reductions in a directory, in one file for each run of blocks.

    A file is written under another name and renamed: so a run is done when its file exists.
    """

    task_word = "parts"

    def __init__(self, evaluator: Evaluator, reductions: tuple[Reduction, ...], path: Path):
        super().__init__(evaluator, reductions)
        self.path = path

    @property
    def point_bytes(self) -> int:
        """Zero: the files are small beside any disk."""
        return 0

    @property
    def identity_extra(self) -> dict[str, Any]:
        """The reductions."""
        return {"reduce": [reduction.describe() for reduction in self.reductions]}

    def fill(self, path: Path, attrs: dict[str, str]) -> None:
        """Write a store without files of runs into an empty directory."""
        store_directory.write_dataset(require("xarray", "sweep").Dataset(attrs=attrs), path)
        (path / "parts").mkdir()

    def has(self, task: int) -> bool:
        """Return whether the file of a run is complete."""
        return has_part(self.path, task)

    def run(self, task: int) -> BlockResult:
        """Reduce a run and write its file."""
        result = super().run(task)
        return BlockResult(task, _save(_part_file(self.path, task), result.data), result.nan_names)

    def result(self) -> "xarray.Dataset | None":
        """Return the labelled reductions, and write them to the store; None if runs are missing."""
        tasks = range(self.task_count)
        if not all(map(self.has, tasks)):
            return None
        for task in tasks:
            self._merge(self._states, _load(_part_file(self.path, task)))
        dataset = _reduction_dataset(self.evaluator, self.reductions, self._states)
        store_directory.write_result(dataset, self.path)
        return dataset


@functools.partial(jax.jit, static_argnums=(0, 1))
def _reduce(
    reductions: tuple[Reduction, ...],
    dims: tuple[str, ...],
    variables: dict[str, Variable],
    flags: tuple[Array, ...],
    lengths: Array,
) -> tuple[dict[tuple[int, str], dict[str, Array]], dict[str, Array]]:
    """Return the state of a block for each reduction and variable, and which hold NaN.

    lengths: the number of points along each dimension, without the padding
    """
    arrays = {name: variable.data for name, variable in variables.items()}
    conditions = conditions_of(reductions)
    flag_of_condition = dict(zip(conditions, flags, strict=True))
    partials = {}
    for position, reduction in enumerate(reductions):
        axes, _ = reduction.split_axes(dims)
        inputs = reduction.inputs(arrays, flag_of_condition)
        for name, array in inputs.items():
            inside = _is_inside(array, lengths)
            partials[position, name] = reduction.partial(array, inside, axes)
    return partials, contains_nan(arrays)


def conditions_of(reductions: tuple[Reduction, ...]) -> tuple[Any, ...]:
    """Return the conditions of all reductions."""
    return tuple(condition for reduction in reductions for condition in reduction.conditions)


def _is_inside(array: Array, lengths: Array) -> Array:
    """Return which points of a block are no padding, as a mask that broadcasts to the array."""
    inside = jnp.ones((1,) * array.ndim, bool)
    index = jnp.indices(array.shape, sparse=True)
    # the array also has dimensions after those of the sweep
    for position, length in zip(index, lengths, strict=False):
        inside &= position < length
    return inside


def _reduction_dataset(
    evaluator: Evaluator, reductions: tuple[Reduction, ...], states: States
) -> "xarray.Dataset":
    """Return a dataset of every reduction of every variable of a sweep."""
    xr = require("xarray", "sweep")
    states_by_source = defaultdict(dict)
    for (position, name, block_index), state in states.items():
        states_by_source[position, name][block_index] = state
    variables: dict[str, LabelledArray] = {}
    coords: dict[str, Any] = {}
    for (position, name), block_states in states_by_source.items():
        variables |= _labelled_result(evaluator, reductions[position], name, block_states)
        coords |= reductions[position].coords()
    for variable in evaluator.template.values():
        for name, dims, values in variable.coords:
            coords[name] = (dims, list(values))
    coords |= evaluator.axes.labels()
    dataset = xr.Dataset(variables, attrs=evaluator.attrs)
    # coordinates of dimensions that were reduced would add these dimensions again
    for name, coord in coords.items():
        if set(xr.as_variable(coord).dims) <= set(dataset.dims):
            dataset = dataset.assign_coords({name: coord})
    return dataset


def _labelled_result(
    evaluator: Evaluator,
    reduction: Reduction,
    name: str,
    block_states: Mapping[tuple[int, ...], State],
) -> dict[str, LabelledArray]:
    """Return the result of one reduction of one variable or condition."""
    dims = evaluator.axes.dims
    reduced, kept = reduction.split_axes(dims)
    state = _join_blocks(evaluator, kept, block_states)
    total = math.prod(evaluator.sizes[axis] for axis in reduced)
    # the value of a condition is one number without attributes
    flags = dict.fromkeys(reduction.conditions, Variable(None, ()))
    variable = reduction.inputs(evaluator.template, flags)[name]
    kept_dims = (*(dims[axis] for axis in kept), *variable.dims)
    source = Source(name, kept_dims, dict(variable.attrs), evaluator.axes, reduced)
    return reduction.label(reduction.result(state, total), source)


def _join_blocks(
    evaluator: Evaluator, kept: tuple[int, ...], block_states: Mapping[tuple[int, ...], State]
) -> State:
    """Join the states of blocks along the kept dimensions."""
    joined: State = {}
    sizes = tuple(evaluator.sizes[axis] for axis in kept)
    for block_index, state in block_states.items():
        starts = [evaluator.blocks.shape[a] * i for a, i in zip(kept, block_index, strict=True)]
        for field, block in state.items():
            if field not in joined:
                joined[field] = np.empty((*sizes, *block.shape[len(kept) :]), block.dtype)
            # the shape of a block also has dimensions after those that are kept
            spans = zip(starts, block.shape, strict=False)
            region = tuple(slice(start, start + length) for start, length in spans)
            joined[field][region] = block
    return joined


def has_part(path: Path, task: int) -> bool:
    """Return whether the file of a run exists and has an end, which a truncated one lacks."""
    return zipfile.is_zipfile(_part_file(path, task))


def _part_file(path: Path, task: int) -> Path:
    return path / "parts" / f"{task}.npz"


def _save(file: Path, states: States) -> int:
    """Write states into a file, completely or not at all; return its size in bytes."""
    arrays = {}
    for (position, name, block_index), state in states.items():
        for field, value in state.items():
            arrays[f"{position}|{field}|{'.'.join(map(str, block_index))}|{name}"] = value
    draft = file.with_name(f".{uuid.uuid4().hex}.npz")
    try:
        np.savez(draft, **arrays)
        n_bytes = draft.stat().st_size
        os.replace(draft, file)
    finally:
        draft.unlink(missing_ok=True)
    return n_bytes


def _load(file: Path) -> States:
    """Read what `_save` wrote; delete the file if its content has changed.

    Raises:
        OSError: the file was damaged.
    """
    states: States = {}
    try:
        with np.load(file, allow_pickle=False) as arrays:
            for text, value in arrays.items():
                position, field, block_index, name = text.split("|", 3)
                # of a reduction over all dimensions the index is empty
                index = tuple(map(int, filter(None, block_index.split("."))))
                states.setdefault((int(position), name, index), {})[field] = value
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
        file.unlink()
        raise OSError(f"{file} was damaged and is removed: call again to compute it") from error
    return states
