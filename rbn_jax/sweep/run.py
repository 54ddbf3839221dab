"""Evaluate a function of the parameters over axes, in one compiled call, and label the result."""

import contextlib
import functools
import importlib.metadata
import json
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rbn_jax import _fields as f
from rbn_jax._labels import Variable, dataset, name_of, variables
from rbn_jax.params import FIELDS, NetworkParams
from rbn_jax.sweep.axes import Axes, read_axes

_DTYPES = ("float32", "float64")


def sweep(
    fn: Callable[[Any], Any],
    params: NetworkParams | Mapping[str, Any],
    axes: Mapping[str, Any],
    *,
    dtype: Any = None,
) -> Any:
    """fn of the parameters at every point of a grid, or of a list of samples.

    fn is compiled once and mapped along one dimension after the other, so that each part of
    it is evaluated only over the dimensions it depends on: over n values of each of four time
    constants the weights cost n^2 peaks, not n^4. The grid is never stored as inputs; only
    several entries of the matrix as axes make a matrix for each of their combinations.

    Args:
        fn: a function of one argument like `params` that JAX can trace and that returns an
            array, a mapping of arrays or an xarray object: its dimensions, attributes and 1-D
            coordinates are kept. JAX compiles each function once: pass the same one again.
        params: the network whose other parameters are held fixed; or a mapping of numbers.
        axes: values by parameter name. A 1-D array is a dimension of that name; several
            `xarray.DataArray`s along one dimension vary together. `baseline_conn_prob_EI`
            names an entry of the matrix. No axes: one point.
        dtype: "float32" or "float64"; None for JAX's default. It needs no other setting.

    Returns:
        An `xarray.Dataset`: the function's result under the function's name, or under the
        names in its mapping; the axes as coordinates with their units; results that end in
        (2, 2) along `target` and `source` = "E", "I". `attrs` holds the function's name, the
        parameters as JSON, the dtype and the versions. The arrays are read-only.

    Raises:
        ValueError: fn is no function; as in `check` for the parameters; an axis that is
            unknown, empty, not 1-D, not finite or outside its domain; two axes, or an axis and
            a result, of one name; an unknown dtype.
        ImportError: xarray is missing.

    >>> from rbn_jax import calculate_RBN_weights
    >>> axes = {"tau_syn_ex": [2.0, 5.0], "gei": [1.0, 1.5, 2.0]}
    >>> weights = sweep(calculate_RBN_weights, NetworkParams(), axes)["calculate_RBN_weights"]
    >>> dict(weights.sizes)
    {'tau_syn_ex': 2, 'gei': 3, 'target': 2, 'source': 2}
    >>> round(weights.sel(target="E", source="E", tau_syn_ex=5.0, gei=1.0).item(), 3)
    15.874
    """
    if not callable(fn):
        raise ValueError(f"fn is a {type(fn).__name__}: must be a function of the parameters")
    checked = read_axes(params, axes)
    with _precision(dtype) as resolved:
        values = {name: jnp.asarray(axis, resolved) for name, axis in checked.values.items()}
        found = _evaluate(fn, checked.layout, _numbers(params, resolved), values)
        jax.block_until_ready(found)
    return dataset(found, checked.dims, _coords(checked), _attrs(fn, params, resolved))


@contextlib.contextmanager
def _precision(dtype: Any) -> Any:
    """The floating dtype asked for, in a context in which JAX has it."""
    if dtype is None:
        yield jnp.result_type(float)
        return
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = str(dtype)
    if name not in _DTYPES:
        raise ValueError(f"dtype={dtype!r}: must be {' or '.join(_DTYPES)}")
    context = jax.enable_x64(True) if name == "float64" else contextlib.nullcontext()
    with context:
        yield jnp.dtype(name)


def _numbers(params: Any, dtype: Any) -> Any:
    """The parameters with every number as an array of one dtype."""
    if isinstance(params, Mapping):
        params = dict(params)
        if f.MATRIX in params:
            params[f.MATRIX] = f.as_matrix(f.MATRIX, params[f.MATRIX])
    return jax.tree.map(lambda value: jnp.asarray(value, dtype), params)


@functools.partial(jax.jit, static_argnames=("fn", "layout"))
def _evaluate(fn: Any, layout: Any, params: Any, values: dict[str, Any]) -> dict[str, Variable]:
    """fn's variables over the axes: one vmap a dimension, the first outermost."""

    def point(changes: dict[str, Any]) -> dict[str, Variable]:
        return variables(fn, fn(f.write(params, changes)))

    for _, along in reversed(layout):
        point = jax.vmap(point, in_axes=({name: 0 if name in along else None for name in values},))
    return point(values)


def _coords(axes: Axes) -> dict[str, Any]:
    coords = dict(axes.coords)
    for dim, along in axes.layout:
        for name in along:
            unit = FIELDS[name][0] if name in FIELDS else ""
            coords[name] = (dim, axes.values[name], {"units": unit} if unit else {})
    return coords


def _attrs(fn: Callable[[Any], Any], params: Any, dtype: Any) -> dict[str, str]:
    versions = {name: importlib.metadata.version(name) for name in ("rbn_jax", "jax")}
    return {
        "function": name_of(fn),
        "params": json.dumps(f.plain(params)),
        "dtype": str(dtype),
        "versions": json.dumps(versions),
    }
