"""Convolutions of exponential decays, with derivatives of every order.

The response of a chain of n filters that decay with the rates r_1, ..., r_n to an event at t = 0 is

    W(t; r_1, ..., r_n) = t^(n-1) exp[-r_1 t, ..., -r_n t],

where f[x_1, ..., x_n] is the divided difference of a function f. It is symmetric in the rates and
smooth where some of them are equal. All of its derivatives are responses of other chains:

    dW/dr_i = -W(t; r_1, ..., r_n, r_i)    dW/dt = W(t; all rates but r_i) - r_i W(t; all rates)

No W is below 0, and it is computed from sums of positive numbers only, and from differences of
numbers that are not nearly equal. So it has nearly all digits for any rates.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array, lax

# A divided difference whose points are farther apart is the quotient of two of lower order, in
# which less than two bits are lost; others are sums of a series.
_LARGEST_SPREAD = 3.0
# the first term of the series that is left out is 3^20 / 20! = 1e-9, or 3^33 / 33! = 6e-22
_TERMS = {"float32": 20, "float64": 33}


def sorted_arrays(values: Sequence[Array]) -> list[Array]:
    """Return the values in rising order.

    They are exchanged, by comparisons: the derivatives of a minimum and a maximum at equal values
    are those of their mean, whose second derivatives are others.
    """
    values = list(values)
    for i in range(1, len(values)):
        for j in range(i, 0, -1):
            low, high = values[j - 1], values[j]
            exchange = high < low
            values[j - 1] = jnp.where(exchange, high, low)
            values[j] = jnp.where(exchange, low, high)
    return values


def _divided_difference(distances: Sequence[Array]) -> Array:
    """Return exp[-d_1, ..., -d_n] for 0 = d_1 <= d_2 <= ... <= d_n.

    It follows from the divided differences of fewer neighbouring points. column[i] is that of the
    points from i to the last one of those that were included.
    """
    column = [jnp.exp(-distances[0])]
    for j in range(1, len(distances)):
        last = jnp.exp(-distances[j])
        near = _series(distances[: j + 1], last)
        new_column = [last]
        for i in range(j - 1, -1, -1):
            spread = distances[j] - distances[i]
            is_near = spread < _LARGEST_SPREAD
            quotient = (column[i] - new_column[0]) / jnp.where(is_near, 1, spread)
            new_column.insert(0, jnp.where(is_near, near[i], quotient))
        column = new_column
    return column[0]


def _series(distances: Sequence[Array], last: Array) -> list[Array]:
    """Return exp[-d_i, ..., -d_n] for each i, where d_n - d_i is small.

    They are the last column of the exponential of a matrix with e_i = d_n - d_i on its diagonal
    and ones above it, times exp(-d_n): a sum of powers of the matrix, which has no entry below 0.
    """
    # the limit only keeps sums finite that are not used
    diagonal = [jnp.minimum(distances[-1] - d, _LARGEST_SPREAD) for d in distances[:-1]]

    def add_term(k: Array, column: list[Array]) -> list[Array]:
        # with the sum in the form 1 + M/1 (1 + M/2 (1 + ...)), from the inside
        divisor = (n_terms - k).astype(last.dtype)
        result = []
        for e, entry, below in zip(diagonal, column, [*column[1:], ones], strict=True):
            result.append((e * entry + below) / divisor)
        return result

    ones = jnp.ones_like(last)
    n_terms = _TERMS[last.dtype.name]
    column = lax.fori_loop(0, n_terms, add_term, [jnp.zeros_like(last)] * len(diagonal))
    return [last * entry for entry in column]


def response(t: Array, rates: Sequence[Array]) -> Array:
    """Return W(t; rates) at times t >= 0, and 0 before the event.

    All are arrays of one floating dtype, that broadcast.
    """
    return _response(jnp.maximum(t, 0), tuple(rates)) * (t >= 0)


@jax.custom_jvp
def _response(t: Array, rates: tuple[Array, ...]) -> Array:
    slowest, *others = sorted_arrays(jnp.broadcast_arrays(*rates))
    distances = [jnp.zeros_like(t + slowest)]
    for rate in others:
        distances.append((rate - slowest) * t)
    power = lax.integer_pow(t, len(others)) if others else 1
    return power * (jnp.exp(-slowest * t) * _divided_difference(distances))


@_response.defjvp
def _response_jvp(
    primals: tuple[Array, tuple[Array, ...]], tangents: tuple[Array, tuple[Array, ...]]
) -> tuple[Array, Array]:
    t, rates = primals
    t_tangent, rate_tangents = tangents
    value = _response(t, rates)
    tangent = response_slope(t, rates) * t_tangent
    for rate, rate_tangent in zip(rates, rate_tangents, strict=True):
        tangent = tangent - _response(t, (*rates, rate)) * rate_tangent
    return value, tangent


def response_slope(t: Array, rates: Sequence[Array]) -> Array:
    """Return dW/dt.

    Of its forms this is the one that subtracts terms that are as small as possible.
    """
    slowest, *others = sorted_arrays(rates)
    decay = slowest * _response(t, tuple(rates))
    return _response(t, tuple(others)) - decay if others else -decay
