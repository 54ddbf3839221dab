"""What the shift of Siegert's limits lacks of the exact transfer function under coloured noise."""

import functools
import itertools
import math
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from rbn_jax.numerics.siegert import SHIFT

TABLE = Path(__file__).with_name("transfer_table.txt")
SIZES = (12, 6, 6, 3)  # orders in Y, H, k and r
ORDERS = tuple(
    orders
    for orders in itertools.product(*map(range, SIZES))
    if sum(order / (size - 1) for order, size in zip(orders, SIZES, strict=True)) <= 1.5
)
LEAST_H, MOST_X = 0.8, 1.5
MIDDLE_Y, MIDDLE_H = 3.0, 2.0
_LOW_Y, _HIGH_Y = -10.0, 4.6
RANGES = (  # of Y / sqrt(Y^2 + 9), (H - 2) / (H + 2) and k that were solved
    (_LOW_Y / math.hypot(_LOW_Y, MIDDLE_Y), _HIGH_Y / math.hypot(_HIGH_Y, MIDDLE_Y)),
    ((LEAST_H - MIDDLE_H) / (LEAST_H + MIDDLE_H), 0.92),
    (0.07, math.sqrt(MOST_X)),
)


def correction(y: Array, h: Array, x: Array, r: Array) -> Array:
    """ln(T_shift / T) of the mean passage times, by the table of `benchmarks/transfer.py`.

    Above Y = 4.6, at rates below 1e-9 / tau_m, it stays what it is there. Below Y = -10 it goes
    over into that of neurons without noise, as 1 / Y^2.

    Args:
        y: (..., n, networks) threshold, (V_th - mu) / sigma.
        h: (n, networks) distance of the reset, (V_th - V_r) / sigma; from 0.8 / sqrt(1 + x).
        x: (n, networks) tau_syn / tau_m, up to 1.5.
        r: (n, networks) what is left of the noise after the refractory period.
    """
    coloured = x > 0
    k = jnp.sqrt(jnp.where(coloured, x, 1))
    wide = jnp.sqrt(1 + x)
    big_y = y * wide
    low = big_y < _LOW_Y
    s, t, u = variables(jnp.where(low, _LOW_Y, jnp.minimum(big_y, _HIGH_Y)), h * wide, k)
    series = jnp.tensordot(jnp.asarray(table(), x.dtype), _polynomials(2 * r - 1, SIZES[3]), 1)
    for variable, size in ((u, SIZES[2]), (t, SIZES[1])):
        series = (series * _polynomials(variable, size)).sum(-1 - variable.ndim)
    here = after = jnp.zeros_like(s)
    for c in series[:0:-1]:
        here, after = c + 2 * s * here - after, here
    inner = x * (series[0] + s * here - after)
    edge, far = _LOW_Y / wide, jnp.where(low, y, _LOW_Y / wide)
    outer = _without_noise(far, h, k)
    outer += (inner - _without_noise(edge, h, k)) * jnp.square(edge / far)
    return jnp.where(coloured, jnp.where(low, outer, inner), 0)


def _without_noise(y: Array, h: Array, k: Array) -> Array:
    """ln(T_shift / T) of neurons that drift from y - h to y < 0: T = ln(1 - h / y)."""
    shifted = -y - SHIFT * k
    return jnp.log(jnp.log1p(h / shifted) / jnp.log1p(-h / y))


def covers(h: Array, x: Array) -> Array:
    """Whether the table was made for such resets and synapses."""
    return (h * jnp.sqrt(1 + x) >= LEAST_H) & (x <= MOST_X)


def variables(big_y: Any, big_h: Any, k: Any) -> tuple[Any, Any, Any]:
    """The variables of the polynomials, each -1..1 over its range; of H, as far as infinity."""
    (low_s, high_s), (low_t, _), (_, high_k) = RANGES
    s = big_y / (big_y * big_y + MIDDLE_Y * MIDDLE_Y) ** 0.5
    t = (big_h - MIDDLE_H) / (big_h + MIDDLE_H)
    return (
        2 * (s - low_s) / (high_s - low_s) - 1,
        2 * (t - low_t) / (1 - low_t) - 1,
        2 * k / high_k - 1,
    )


@functools.cache
def table() -> np.ndarray:
    """The coefficients, by their orders."""
    found = np.zeros(SIZES)
    rows = np.loadtxt(TABLE)
    found[tuple(rows[:, :4].astype(int).T)] = rows[:, 4]
    return found


def _polynomials(t: Array, size: int) -> Array:
    """Chebyshev's polynomials of t, (size, ...)."""
    found = [jnp.ones_like(t), t]
    for _ in range(size - 2):
        found.append(2 * t * found[-1] - found[-2])
    return jnp.stack(found)
