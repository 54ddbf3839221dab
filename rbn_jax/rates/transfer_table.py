"""Correction of Siegert's formula to the exact rate under noise from exponential synapses.

The variables, in units of the noise intensity sigma and the membrane time constant tau_m, are
y = (V_th - mu) / sigma, h = (V_th - V_r) / sigma, x = tau_syn / tau_m, k = sqrt(x),
Y = y sqrt(1 + x), H = h sqrt(1 + x), and r = exp(-t_ref / tau_syn), the correlation of the noise
before and after a refractory period. `tools/transfer_table.py` solves the Fokker-Planck equation
and writes `transfer_table.txt`: the coefficients of ln(T_shift / T) / x as a sum of products of
Chebyshev polynomials, where T is the mean passage time from reset to threshold and T_shift
that of Siegert's formula with shifted limits.
"""

import functools
import math
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jax import Array

from rbn_jax.numerics.siegert import SHIFT
from rbn_jax.rates.single_neuron import Neurons

TABLE = Path(__file__).with_name("transfer_table.txt")
SIZES = (12, 6, 6, 3)
"""Number of polynomials in Y, H, k and r."""


# orders relative to the highest of each variable; terms of high orders in several are left out
_RELATIVE_ORDERS = np.ix_(*(np.arange(size) / (size - 1) for size in SIZES))
ORDERS = tuple(map(tuple, np.argwhere(sum(_RELATIVE_ORDERS) <= 1.5).tolist()))
"""The orders in Y, H, k and r of each row of the table."""
MINIMUM_H = 0.8
MAXIMUM_TAU_RATIO = 1.5
MIDDLE_Y = 3.0
MIDDLE_H = 2.0
_MINIMUM_Y = -10.0
_MAXIMUM_Y = 4.6
RANGES = (
    (_MINIMUM_Y / math.hypot(_MINIMUM_Y, MIDDLE_Y), _MAXIMUM_Y / math.hypot(_MAXIMUM_Y, MIDDLE_Y)),
    ((MINIMUM_H - MIDDLE_H) / (MINIMUM_H + MIDDLE_H), 0.92),
    (0.07, math.sqrt(MAXIMUM_TAU_RATIO)),
)
"""Ranges of Y / sqrt(Y^2 + 9), (H - 2) / (H + 2) and k in which the equation was solved."""


def correction(neurons: Neurons) -> Array:
    """Return ln(T_shift / T) of the mean passage times of neurons, (..., n, networks).

    Above Y = 4.6, where rates are below 1e-9 / tau_m, it keeps its value at 4.6. Below Y = -10 it
    approaches that of neurons without noise, as 1 / Y^2. It is right where `covers` is true.
    """
    tau_m, t_ref, v_th, gap, mu, sigma, tau_ratio, _ = neurons
    y = (v_th - mu) / sigma
    h = gap / sigma
    # instantaneous synapses need no correction, and their k = 0 would have no finite slope
    is_filtered = tau_ratio > 0
    x = jnp.where(is_filtered, tau_ratio, 1)
    k = jnp.sqrt(x)
    scale = jnp.sqrt(1 + tau_ratio)
    is_below = y * scale < _MINIMUM_Y
    big_y = jnp.where(is_below, _MINIMUM_Y, jnp.minimum(y * scale, _MAXIMUM_Y))
    s, t, u = variables(big_y, h * scale, k)
    polynomials = _polynomials(2 * jnp.exp(-t_ref / (tau_m * x)) - 1, SIZES[3])
    series = jnp.tensordot(jnp.asarray(table(), tau_ratio.dtype), polynomials, 1)
    for variable, size in ((u, SIZES[2]), (t, SIZES[1])):
        series = (series * _polynomials(variable, size)).sum(-1 - variable.ndim)
    # the sum over the polynomials in s, by Clenshaw's recurrence: s alone differs between the
    # neurons of a population, and its polynomials would be 12 arrays of their number
    current = previous = jnp.zeros_like(s)
    for coefficient in series[:0:-1]:
        current, previous = coefficient + 2 * s * current - previous, current
    inside = tau_ratio * (series[0] + s * current - previous)
    y_edge = _MINIMUM_Y / scale
    y_below = jnp.where(is_below, y, y_edge)
    rest = (inside - _noiseless_correction(y_edge, h, k)) * jnp.square(y_edge / y_below)
    below = _noiseless_correction(y_below, h, k) + rest
    return jnp.where(is_filtered, jnp.where(is_below, below, inside), 0)


def _noiseless_correction(y: Array, h: Array, k: Array) -> Array:
    """Return ln(T_shift / T) of neurons that drift from y - h to y < 0: T = ln(1 - h / y)."""
    shifted = -y - SHIFT * k
    return jnp.log(jnp.log1p(h / shifted) / jnp.log1p(-h / y))


def covers(neurons: Neurons) -> Array:
    """Return whether the table was made for the resets and synapses of the neurons."""
    big_h = neurons.gap / neurons.sigma * jnp.sqrt(1 + neurons.tau_ratio)
    return (big_h >= MINIMUM_H) & (neurons.tau_ratio <= MAXIMUM_TAU_RATIO)


def variables(big_y: Array, big_h: Array, k: Array) -> tuple[Array, Array, Array]:
    """Return the variables of the polynomials for Y, H and k.

    Each is -1..1 over its range; that of H is 1 at infinity, that of k is -1 at 0. NumPy's arrays
    give NumPy's.
    """
    (minimum_s, maximum_s), (minimum_t, _), (_, maximum_k) = RANGES
    s = big_y / (big_y * big_y + MIDDLE_Y * MIDDLE_Y) ** 0.5
    t = (big_h - MIDDLE_H) / (big_h + MIDDLE_H)
    return (
        2 * (s - minimum_s) / (maximum_s - minimum_s) - 1,
        2 * (t - minimum_t) / (1 - minimum_t) - 1,
        2 * k / maximum_k - 1,
    )


@functools.cache
def table() -> np.ndarray:
    """Return the coefficients as an array with an axis for the order in each variable."""
    coefficients = np.zeros(SIZES)
    for *orders, coefficient in np.loadtxt(TABLE):
        coefficients[tuple(map(int, orders))] = coefficient
    return coefficients


def _polynomials(t: Array, size: int) -> Array:
    """Return the first Chebyshev polynomials of t, (size, ...)."""
    polynomials = [jnp.ones_like(t), t]
    for _ in range(size - 2):
        polynomials.append(2 * t * polynomials[-1] - polynomials[-2])
    return jnp.stack(polynomials)
