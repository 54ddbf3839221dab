"""Reductions as a labelled dataset: names, dimensions, units, and the points that they found."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from rbn_jax.parameters.optional import require
from rbn_jax.sweeps.evaluator import Job
from rbn_jax.sweeps.reductions import Reduction, State

Array = tuple[tuple[str, ...], np.ndarray, dict[str, str]]


def summary(job: Job, reductions: Any, states: Any, attrs: dict[str, str]) -> Any:
    """An xarray.Dataset of every reduction of every variable of a sweep."""
    found: dict[str, Array] = {}
    coords: dict[str, Any] = {}
    by_reduction: dict[tuple[int, str], dict[tuple[int, ...], State]] = {}
    for (number, name, place), state in states.items():
        by_reduction.setdefault((number, name), {})[place] = state
    for (number, name), pieces in by_reduction.items():
        reduction = reductions[number]
        found.update(_arrays(job, reduction, name, pieces))
        if reduction.kind == "histogram":
            bins = np.asarray(reduction.bins)
            coords |= {"bin_left": ("bin", bins[:-1]), "bin_right": ("bin", bins[1:])}
    used = {dim for dims, _, _ in found.values() for dim in dims}
    for variable in job.found.values():
        coords |= {x: (dims, list(values)) for x, dims, values in variable.coords}
    for name, coord in job.axes.labels().items():
        coords[name] = coord
    dims_of = {n: c[0] if isinstance(c, tuple) else c.dims for n, c in coords.items()}
    kept = {
        name: coords[name]
        for name, dims in dims_of.items()
        if {dims} <= used or (not isinstance(dims, str) and set(dims) <= used)
    }
    return require("xarray", "sweep").Dataset(found, coords=kept, attrs=attrs)


def names_of(job: Job, reductions: tuple[Reduction, ...]) -> list[str]:
    """The names of the results' families, for a check that each is there once."""
    found = []
    for x in reductions:
        of = [x.name] if hasattr(x, "condition") else list(job.found)  # pyright: ignore[reportAttributeAccessIssue]
        found += [f"{name}_{x.kind}" for name in of]
    return found


def _arrays(job: Job, reduction: Any, name: str, pieces: Any) -> Iterator[tuple[str, Array]]:
    dims = job.axes.dims
    over = reduction.axes(dims)
    kept = [i for i in range(len(dims)) if i not in over]
    state = _whole(job, kept, pieces)
    values = reduction.result(state, math.prod(job.sizes[i] for i in over))
    variable = job.found.get(name)
    of = tuple(dims[i] for i in kept)
    if variable is not None and not hasattr(reduction, "condition"):
        of += variable.dims
    label = f"{name}_{reduction.kind}"
    if reduction.kind in ("argmin", "argmax"):
        yield from _points(job, over, label, of, values)
    elif reduction.kind == "examples":
        found = int((values[..., 0] >= 0).sum(-1).max(initial=0))
        yield from _points(job, over, label, (*of, "example"), values[..., :found, :])
    elif reduction.kind in ("minimum", "maximum", "mean"):
        yield label, (of, values, dict(variable.attrs) if variable else {})
    else:
        yield label, ((*of, "bin") if reduction.kind == "histogram" else of, values, {})


def _points(
    job: Job, over: tuple[int, ...], label: str, dims: tuple[str, ...], indices: np.ndarray
) -> Iterator[tuple[str, Array]]:
    """The parameters at global indices (..., dimensions reduced); NaN for no point."""
    for position, axis in enumerate(over):
        index = indices[..., position]
        for name in job.axes.layout[axis][1]:
            values = np.where(index < 0, np.nan, job.axes.values[name][index])
            yield f"{label}_{name}", (dims, values, job.axes.attributes(name))


def _whole(job: Job, kept: list[int], pieces: dict[tuple[int, ...], State]) -> State:
    """The states of all kept blocks as arrays over the kept dimensions."""
    whole: State = {}
    sizes = tuple(job.sizes[axis] for axis in kept)
    for place, state in pieces.items():
        starts = [i * job.blocks.shape[axis] for i, axis in zip(place, kept, strict=True)]
        for field, value in state.items():
            if field not in whole:
                whole[field] = np.empty((*sizes, *value.shape[len(kept) :]), value.dtype)
            inside = zip(starts, value.shape, strict=False)
            whole[field][tuple(slice(start, start + n) for start, n in inside)] = value
    return whole
