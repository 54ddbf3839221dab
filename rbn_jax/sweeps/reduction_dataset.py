"""The results of reductions as a labelled dataset."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from rbn_jax.parameters.labels import Variable
from rbn_jax.parameters.optional import require
from rbn_jax.sweeps.evaluator import Evaluator
from rbn_jax.sweeps.reductions import LabelledArray, Reduction, Source, State

if TYPE_CHECKING:
    import xarray

StateKey = tuple[int, str, tuple[int, ...]]
"""The position of a reduction, the name of what is reduced, and the index of a block along the
dimensions that are kept."""


def reduction_dataset(
    evaluator: Evaluator,
    reductions: tuple[Reduction, ...],
    states: Mapping[StateKey, State],
    attrs: dict[str, str],
) -> "xarray.Dataset":
    """Return a dataset of every reduction of every variable of a sweep."""
    xr = require("xarray", "sweep")
    states_by_source: dict[tuple[int, str], dict[tuple[int, ...], State]] = {}
    for (position, name, block_index), state in states.items():
        states_by_source.setdefault((position, name), {})[block_index] = state
    variables: dict[str, LabelledArray] = {}
    coords: dict[str, Any] = {}
    for (position, name), block_states in states_by_source.items():
        variables |= _labelled_result(evaluator, reductions[position], name, block_states)
        coords |= reductions[position].coords()
    for variable in evaluator.template.values():
        for name, dims, values in variable.coords:
            coords[name] = (dims, list(values))
    coords |= evaluator.axes.labels()
    dataset = xr.Dataset(variables, attrs=attrs)
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
