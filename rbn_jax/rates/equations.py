"""The stationary, asynchronous state of populations, from their parameters alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rbn_jax.numerics.newton import root
from rbn_jax.rates.populations import Couplings, Input, Populations, couplings, recurrent_input
from rbn_jax.rates.single_neuron import colour_shift, log_rate
from rbn_jax.rates.transfer_table import correction, covers

THEORIES = ("white", "shift", "quenched", "exact")
DISORDERED = ("quenched", "exact")  # whose neurons differ
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(12)
_LOG_WEIGHTS = np.log(_WEIGHTS / _WEIGHTS.sum())
_STARTS = (  # spikes/s of the first population and of the others
    *((4.0, 4.0), (0.1, 0.1), (1e-3, 0.5), (30.0, 30.0), (1e-6, 8.0), (200.0, 200.0)),
    *((1e-12, 20.0), (1e-5, 0.05), (100.0, 10.0), (0.3, 3.0)),
    *((1e-9, 1.5), (3e-3, 5.0), (0.3, 0.05), (300.0, 200.0), (150.0, 120.0)),
    *((3e-3, 2.0), (3.0, 0.05), (0.3, 1.0), (1e-4, 1.0), (3.0, 8.0), (1e-5, 0.2)),
    (1e-12, 1e-12),
    *((800.0, 550.0), (500.0, 300.0), (250.0, 160.0), (120.0, 80.0)),  # near saturation
)


def state(c: Couplings, theory: str) -> Array:
    """The unknowns (m, networks) of `residual` at its root; NaN where none is known."""
    return where_known(self_consistent(c, theory), c, theory)


def self_consistent(c: Couplings, theory: str) -> Array:
    """The root, also beyond the theory's table; NaN where none is found."""
    rates = [(first, *(others,) * (len(c.tau_m) - 1)) for first, others in _STARTS]
    begin = tuple(map(tuple, starts(theory, np.array(rates)).tolist()))
    return root(_RESIDUALS[theory], begin, c)


def coupled(p: Populations, theory: str) -> Couplings:
    """The couplings that the theory sees."""
    return couplings(p, own=theory in DISORDERED)


def where_known(x: Array, c: Couplings, theory: str) -> Array:
    """The state x where the theory's neurons are known, else NaN."""
    if theory != "exact":
        return x
    given = received(x, c, theory)
    known = covers(c.gap / given.sigma, given.colour).all(0)
    return jnp.where(known, x, jnp.nan)


def starts(theory: str, rates: np.ndarray) -> np.ndarray:
    """Unknowns (k, m) to start from at rates (k, n) [spikes/s]."""
    logs = np.log(rates)
    return np.hstack([logs, np.full_like(logs, 0.5)]) if theory in DISORDERED else logs


def residual(x: Array, c: Couplings, theory: str) -> Array:
    """Zero where the rates that the neurons answer with are those that they receive.

    x is ln of the rates [spikes/s], and where neurons differ ln(<nu^2> / <nu>^2) below it.
    """
    given = received(x, c, theory)
    if theory not in DISORDERED:
        return answer(c, given, given.mu, theory) - x
    mean, square = averages(c, given, theory)
    n = len(c.tau_m)
    return jnp.concatenate([mean - x[:n], square - 2 * mean - x[n:]])


_RESIDUALS = {theory: functools.partial(residual, theory=theory) for theory in THEORIES}


def received(x: Array, c: Couplings, theory: str) -> Input:
    """The input in the state x."""
    rates = jnp.exp(x[: len(c.tau_m)]) / 1000
    if theory not in DISORDERED:
        return recurrent_input(c, rates, jnp.zeros_like(rates))
    variance = jnp.square(rates) * jnp.expm1(x[len(c.tau_m) :])
    return recurrent_input(c, rates, variance)


def averages(c: Couplings, given: Input, theory: str) -> tuple[Array, Array]:
    """ln <nu> and ln <nu^2> over neurons whose mean input is normally distributed."""
    nodes, shares = (jnp.asarray(x, given.mu.dtype)[:, None, None] for x in (_NODES, _LOG_WEIGHTS))
    each = answer(c, given, given.mu + given.spread * nodes, theory)
    top = jax.lax.stop_gradient(each.max(0))
    mean, square = (jnp.log(jnp.exp(k * (each - top) + shares).sum(0)) for k in (1, 2))
    return top + mean, 2 * top + square


def answer(c: Couplings, given: Input, mu: Array, theory: str) -> Array:
    """ln of the rate of neurons with the mean input mu."""
    shift = colour_shift(given.colour)
    shift = jnp.zeros_like(shift) if theory == "white" else shift
    lacking = jnp.zeros_like(mu)
    if theory == "exact":
        y, h = (c.V_th - mu) / given.sigma, c.gap / given.sigma
        left = jnp.exp(-c.t_ref / (c.tau_m * jnp.where(given.colour > 0, given.colour, 1)))
        lacking = correction(y, h, given.colour, left)
    return log_rate(mu, given.sigma, c.tau_m, c.t_ref, c.V_th, c.gap, shift, lacking)
