"""Derivatives of any function of the parameters, labelled as a sweep labels its results."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from rbn_jax import _fields as f
from rbn_jax._labels import Variable, dataset, traced, variables
from rbn_jax.params import FIELDS, NetworkParams

_FEW = 6


def jacobian(
    fn: Callable[[Any], Any],
    params: NetworkParams | Mapping[str, Any],
    wrt: str | Sequence[str],
) -> Any:
    """dy/dx of everything fn returns, in each parameter named.

    Args:
        fn: a function of the parameters as `sweep` takes it.
        params: one network, or a mapping of numbers.
        wrt: names of parameters, or of entries as in `baseline_conn_prob_EI`.

    Returns:
        An `xarray.Dataset` of fn's variables with a last dimension `parameter`, whose
        coordinate `parameter_unit` holds the unit that the function's own is divided by.
        In a function that is swept it can be returned as it is.

    Raises:
        ValueError: an unknown or a repeated name, or a parameter that is an array.
        ImportError: xarray is missing.

    >>> from rbn_jax import calculate_RBN_weights
    >>> slopes = jacobian(calculate_RBN_weights, NetworkParams(), ["tau_syn_ex", "gei"])
    >>> slopes["calculate_RBN_weights"].dims
    ('target', 'source', 'parameter')
    """
    wrt = _names(params, wrt)
    with traced(fn):
        values, slopes = _derivatives(fn, wrt, params)
    found = {}
    for name, value in values.items():
        attrs = dict(value.attrs)
        attrs["long_name"] = f"slope of {attrs.get('long_name', name)}"
        attrs["units"] = f"{attrs.get('units', '1')}/parameter_unit"
        labelled = dataclasses.replace(value, attrs=tuple(attrs.items()))
        found[name] = _along(wrt, labelled, slopes[name])
    return dataset(found)


def elasticity(
    fn: Callable[[Any], Any],
    params: NetworkParams | Mapping[str, Any],
    wrt: str | Sequence[str],
) -> Any:
    """d ln|y| / d ln x = (x / y) dy/dx: per cent of change in y for one per cent in x.

    Arguments, result and errors are those of `jacobian`; the result has no unit. It is 0
    where x is 0, and NaN where y is.

    >>> from rbn_jax import calculate_RBN_weights
    >>> shares = elasticity(calculate_RBN_weights, NetworkParams(), ["tau_E", "tau_syn_ex"])
    >>> print(shares["calculate_RBN_weights"].sel(target="E", source="E").values.round(4))
    [-0.2828 -0.7172]
    """
    wrt = _names(params, wrt)
    with traced(fn):
        values, slopes = _derivatives(fn, wrt, params)
    found = {}
    for name, value in values.items():
        scaled = [
            f.read(params, x) * dy / value.data for x, dy in zip(wrt, slopes[name], strict=True)
        ]
        plain = dataclasses.replace(value, attrs=(("units", "1"), ("long_name", "elasticity")))
        found[name] = _along(wrt, plain, scaled)
    return dataset(found)


def _names(params: Any, wrt: str | Sequence[str]) -> tuple[str, ...]:
    f.check_numbers(params)
    wrt = (wrt,) if isinstance(wrt, str) else tuple(wrt)
    valid = f.names(params)
    for name in wrt:
        if name not in valid:
            raise f.unknown_name(str(name), valid)
        if jnp.ndim(f.read(params, name)):
            raise ValueError(f"{name} is an array: take one network, and sweep over the rest")
    if not wrt or len(set(wrt)) < len(wrt):
        raise ValueError(f"wrt={list(wrt)}: must name one parameter or more, each once")
    return wrt


@functools.partial(jax.jit, static_argnames=("fn", "wrt"))
def _derivatives(fn: Any, wrt: tuple[str, ...], params: Any) -> tuple[dict[str, Variable], Any]:
    """fn's variables, and for each its derivatives in the order of wrt.

    One tangent at a time, and no other parameter has one: zeros that follow from the
    structure are then never computed.
    """

    def at(name: str, x: Any) -> dict[str, Variable]:
        return variables(fn, fn(f.write(params, {name: x})))

    def slopes(name: str) -> dict[str, Variable]:
        x = jnp.asarray(f.read(params, name), jnp.result_type(float, f.read(params, name)))
        return jax.jvp(functools.partial(at, name), (x,), (jnp.ones_like(x),))[1]

    here, each = variables(fn, fn(params)), [slopes(name) for name in wrt]
    return here, {name: [slope[name].data for slope in each] for name in here}


def _along(wrt: tuple[str, ...], like: Variable, slopes: list[Any]) -> Variable:
    units = tuple(FIELDS[name][0] or "1" if name in FIELDS else "1" for name in wrt)
    if "parameter" in like.dims:
        raise ValueError("fn returns derivatives already: give it the function itself")
    if not jnp.issubdtype(like.data.dtype, jnp.inexact):
        raise ValueError(f"fn returns {like.data.dtype} numbers, which have no derivatives")
    own = (("parameter", ("parameter",), wrt), ("parameter_unit", ("parameter",), units))
    data = _stacked(slopes)
    return Variable(data, (*like.dims, "parameter"), (*like.coords, *own), like.attrs)


def _stacked(arrays: list[Any]) -> Any:
    """Arrays along a new last axis; a few by selects, which XLA on a CPU does in half the time."""
    if len(arrays) > _FEW:
        return jnp.stack(arrays, axis=-1)
    *rest, found = (x[..., None] for x in arrays)
    for i, x in reversed(list(enumerate(rest))):
        found = jnp.where(jnp.arange(len(arrays)) == i, x, found)
    return found
