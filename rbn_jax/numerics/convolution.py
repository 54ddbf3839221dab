"""Convolutions of exponential decays, with derivatives of every order.

The response of a chain of n filters that decay with the rates r_1, ..., r_n to an event at t = 0 is

    W(t; r_1, ..., r_n) = t^(n-1) exp[-r_1 t, ..., -r_n t],

where f[x_1, ..., x_n] is the divided difference of a function f. It is symmetric in the rates and
smooth where some of them are equal. All of its derivatives are responses of other chains:

    dW/dr_i = -W(t; r_1, ..., r_n, r_i)    dW/dt = W(t; all rates but r_i) - r_i W(t; all rates)

No W is below 0, and it is computed from sums of positive numbers only, and from differences of
numbers that are not nearly equal. So it has nearly all digits for any rates.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array, lax

# A divided difference whose points are farther apart is the quotient of two of lower order, in
# which less than two bits are lost; others are sums of a series.
_LARGEST_SPREAD = 3.0
# the first term of the series that is left out is 3^20 / 20! = 1e-9, or 3^33 / 33! = 6e-22
_TERMS = {"float32": 20, "float64": 33}


def response(t: Array, rates: Sequence[Array]) -> Array:
    """Return W(t; rates) at times t >= 0, and 0 before the event.

    All are arrays of one floating dtype, that broadcast.
    """
    t, *rates = jnp.broadcast_arrays(t, *rates)
    is_before = t < 0
    after = _response(jnp.where(is_before, 0, t), jnp.stack(rates))
    return after * jnp.where(is_before, jnp.zeros_like(t), 1)


def response_and_slope(t: Array, rates: Sequence[Array]) -> tuple[Array, Array]:
    """Return W and dW/dt at times t >= 0."""
    t, *rates = jnp.broadcast_arrays(t, *rates)
    stacked = jnp.stack(rates)
    value = _response(t, stacked)
    return value, _slope(t, stacked, value)


def sorted_arrays(arrays: Sequence[Array]) -> list[Array]:
    """Return arrays with the elements of these in rising order.

    Elements are exchanged, by comparisons: the derivatives of a minimum and a maximum at equal
    values are those of their mean, whose second derivatives are others.
    """
    arrays = list(arrays)
    for i in range(1, len(arrays)):
        for j in range(i, 0, -1):
            low, high = arrays[j - 1], arrays[j]
            exchange = high < low
            arrays[j - 1] = jnp.where(exchange, high, low)
            arrays[j] = jnp.where(exchange, low, high)
    return arrays


@jax.custom_jvp
def _response(t: Array, rates: Array) -> Array:
    """Return W for times (...) and rates (n, ...)."""
    slowest, *others = sorted_arrays(list(rates))
    distances = [jnp.zeros_like(t + slowest)]
    for rate in others:
        distances.append((rate - slowest) * t)
    power = lax.integer_pow(t, len(others)) if others else 1
    return power * (jnp.exp(-slowest * t) * _divided_difference(distances))


@_response.defjvp
def _response_jvp(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
    t, rates = primals
    t_tangent, rate_tangents = tangents
    # (n + 1, n, ...) rates of the n chains that have one filter twice: one evaluation of all
    # compiles faster than n of them
    chains = jnp.broadcast_to(rates[:, None], (len(rates), *rates.shape))
    slopes = -_response(jnp.broadcast_to(t, rates.shape), jnp.concatenate([chains, rates[None]]))
    value = _response(t, rates)
    return value, _slope(t, rates, value) * t_tangent + (slopes * rate_tangents).sum(0)


def _slope(t: Array, rates: Array, value: Array) -> Array:
    """Return dW/dt from the value of W, in the form that subtracts the smallest terms."""
    slowest, *others = sorted_arrays(list(rates))
    decay = slowest * value
    return _response(t, jnp.stack(others)) - decay if others else -decay


def _divided_difference(distances: list[Array]) -> Array:
    """Return exp[-d_1, ..., -d_n] for 0 = d_1 <= d_2 <= ... <= d_n.

    differences[i, j] is the divided difference of the points from i to j. That of two points has a
    formula. That of more points is the quotient of two differences of fewer points, or a series.
    """
    n = len(distances)
    decays = [jnp.exp(-d) for d in distances]
    if n == 1:
        return decays[0]
    near = _near_differences(distances, decays) if n > 2 else {}
    differences = {}
    for i in range(n - 1):
        spread = distances[i + 1] - distances[i]
        is_zero = spread == 0
        mean = -jnp.expm1(-spread) / jnp.where(is_zero, 1, spread)
        differences[i, i + 1] = decays[i] * jnp.where(is_zero, 1, mean)
    for order in range(2, n):
        for i in range(n - order):
            j = i + order
            spread = distances[j] - distances[i]
            is_near = spread < _LARGEST_SPREAD
            change = differences[i, j - 1] - differences[i + 1, j]
            far = change / jnp.where(is_near, 1, spread)
            differences[i, j] = jnp.where(is_near, near[i, j], far)
    return differences[0, n - 1]


def _near_differences(distances: list[Array], decays: list[Array]) -> dict[tuple[int, int], Array]:
    """Return exp[-d_i, ..., -d_j] for all i < j, right where d_j - d_i is small.

    For each j they are the last column of the exponential of a matrix with e_i = d_j - d_i on its
    diagonal and ones above it, times exp(-d_j): a sum of powers of a matrix that has no entry
    below 0.
    """
    pairs = [(i, j) for j in range(2, len(distances)) for i in range(j)]
    # the limit only keeps sums finite that are not used
    diagonal = {(i, j): jnp.minimum(distances[j] - distances[i], _LARGEST_SPREAD) for i, j in pairs}
    ones = jnp.ones_like(distances[0])
    n_terms = _TERMS[ones.dtype.name]

    def add_term(k: Array, entries: dict[tuple[int, int], Array]) -> dict[tuple[int, int], Array]:
        # with the sum in the form 1 + M/1 (1 + M/2 (1 + ...)), from the inside
        divisor = (n_terms - k).astype(ones.dtype)
        result = {}
        for i, j in pairs:
            below = entries[i + 1, j] if i + 1 < j else ones
            result[i, j] = (diagonal[i, j] * entries[i, j] + below) / divisor
        return result

    entries = lax.fori_loop(0, n_terms, add_term, {pair: jnp.zeros_like(ones) for pair in pairs})
    return {(i, j): decays[j] * entry for (i, j), entry in entries.items()}
