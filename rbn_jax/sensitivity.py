"""Derivatives of any function of the parameters, labelled as a sweep labels its results."""

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import Array

from rbn_jax.parameters.access import Location, Parameters, read_parameters
from rbn_jax.parameters.labels import (
    Variable,
    explain_trace_errors,
    label_result,
    record_labels,
    to_dataset,
)

if TYPE_CHECKING:
    import xarray

_MAX_SELECTS = 6
"""Number of arrays up to which `_stack` uses selects."""


def jacobian(
    fn: Callable[[Any], Any], params: object, wrt: str | Sequence[str]
) -> "xarray.Dataset":
    """Return the derivatives dy/dx of all results of fn with respect to each named parameter.

    Args:
        fn: a function of the parameters as `sweep` takes it.
        params: one network, a mapping of numbers, a dataclass or any pytree.
        wrt: names of parameters; "synapse.tau" within others, "w[0]" in an array,
            "baseline_conn_prob_EI" in a matrix.

    Returns:
        An `xarray.Dataset` of fn's variables with a last dimension `parameter`, whose
        coordinate `parameter_unit` holds the unit that the function's own is divided by. Units
        are "pA*sqrt(N)/ms", and "pA*sqrt(N)/parameter_unit" where the parameters have several.
        In a function that is swept it can be returned as it is.

    Raises:
        ValueError: an unknown or a repeated name, or a parameter that is an array.
        ImportError: xarray is missing.

    >>> from rbn_jax import NetworkParams, calculate_RBN_weights
    >>> slopes = jacobian(calculate_RBN_weights, NetworkParams(), ["tau_syn_ex", "gei"])
    >>> slopes["calculate_RBN_weights"].dims
    ('target', 'source', 'parameter')
    """
    return _differentiate(fn, params, wrt, relative=False)


def elasticity(
    fn: Callable[[Any], Any], params: object, wrt: str | Sequence[str]
) -> "xarray.Dataset":
    """Return d ln|y| / d ln x = (x / y) dy/dx: per cent of change in y for one per cent in x.

    Arguments, result and errors are those of `jacobian`; the result has no unit. It is 0
    where x is 0, and NaN where y is.

    >>> from rbn_jax import NetworkParams, calculate_RBN_weights
    >>> shares = elasticity(calculate_RBN_weights, NetworkParams(), ["tau_E", "tau_syn_ex"])
    >>> print(shares["calculate_RBN_weights"].sel(target="E", source="E").values.round(4))
    [-0.2828 -0.7172]
    """
    return _differentiate(fn, params, wrt, relative=True)


def _differentiate(
    fn: Callable[[Any], Any], params: object, wrt: str | Sequence[str], relative: bool
) -> "xarray.Dataset":
    """Return the derivatives of fn, or with `relative` those of logarithms."""
    names = (wrt,) if isinstance(wrt, str) else tuple(wrt)
    parameters = read_parameters(params)
    locations = tuple(parameters.locate_scalar(name) for name in names)
    if not names or len(set(locations)) < len(locations):
        raise ValueError(f"wrt={list(names)}: must name one parameter or more, each once")
    with explain_trace_errors(fn):
        values, derivatives = _derivatives(fn, locations, parameters, relative)
    units = tuple(parameters.field(location).unit or "1" for location in locations)
    divisor = units[0] if len(set(units)) == 1 else "parameter_unit"
    coords = (
        ("parameter", ("parameter",), names),
        ("parameter_unit", ("parameter",), units),
    )
    variables = {}
    for name, value in values.items():
        if "parameter" in value.dims:
            raise ValueError("fn returns derivatives already: give it the function itself")
        attributes = dict(value.attrs)
        if relative:
            attributes = {"units": "1", "long_name": "elasticity"}
        else:
            attributes["long_name"] = f"slope of {attributes.get('long_name', name)}"
            if "units" in attributes and divisor != "1":
                attributes["units"] += f"/{divisor}"
        variables[name] = Variable(
            derivatives[name],
            (*value.dims, "parameter"),
            value.coords + coords,
            tuple(attributes.items()),
        )
    return to_dataset(variables)


@functools.partial(jax.jit, static_argnames=("fn", "locations", "relative"))
def _derivatives(
    fn: Callable[[Any], Any],
    locations: tuple[Location, ...],
    parameters: Parameters,
    relative: bool,
) -> tuple[dict[str, Variable], dict[str, Array]]:
    """Return fn's variables, and for each its derivatives along a last axis, one for a location.

    Each derivative is a jvp of its own, in which no other parameter has a tangent: so zeros that
    follow from the structure of fn are not computed.
    """

    def evaluate(location: Location, number: Array) -> dict[str, Variable]:
        return label_result(fn, fn(parameters.replace_at({location: number}).build()))

    tangents = []
    for location in locations:
        number = parameters.read(location)
        number = jnp.asarray(number, jnp.result_type(float, number))
        function = functools.partial(evaluate, location)
        tangents.append(jax.jvp(function, (number,), (jnp.ones_like(number),))[1])
    with record_labels():
        values = label_result(fn, fn(parameters.build()))
    derivatives = {}
    for name, value in values.items():
        dtype = value.data.dtype
        if not jnp.issubdtype(dtype, jnp.inexact):
            raise ValueError(f"{name} holds {dtype} numbers, which have no derivatives")
        columns = [tangent[name].data for tangent in tangents]
        if relative:
            numbers = map(parameters.read, locations)
            columns = [x * slope / value.data for x, slope in zip(numbers, columns, strict=True)]
        derivatives[name] = _stack(columns)
    return values, derivatives


def _stack(arrays: list[Array]) -> Array:
    """Stack arrays along a new last axis.

    A few arrays are stacked by selects, which XLA on a CPU computes in half the time.
    """
    if len(arrays) > _MAX_SELECTS:
        return jnp.stack(arrays, axis=-1)
    columns = [array[..., None] for array in arrays]
    stacked = columns[-1]
    for i in reversed(range(len(columns) - 1)):
        stacked = jnp.where(jnp.arange(len(columns)) == i, columns[i], stacked)
    return stacked
