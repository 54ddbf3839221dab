"""The stationary, asynchronous state of populations, from their parameters alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rbn_jax._siegert import once
from rbn_jax.rates.populations import Input, Populations, recurrent_input
from rbn_jax.rates.root import root
from rbn_jax.rates.siegert import colour_shift, log_rate
from rbn_jax.rates.transfer import correction, covers

THEORIES = ("white", "shift", "quenched", "exact")
DISORDERED = ("quenched", "exact")  # whose neurons differ
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(12)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()
_STARTS = (  # spikes/s of the first population and of the others
    *((4.0, 4.0), (0.1, 0.1), (1e-3, 0.5), (30.0, 30.0), (1e-6, 8.0), (200.0, 200.0)),
    *((1e-12, 20.0), (1e-5, 0.05), (100.0, 10.0), (0.3, 3.0)),
    *((1e-9, 1.5), (3e-3, 5.0), (0.3, 0.05), (300.0, 200.0), (150.0, 120.0)),
    *((3e-3, 2.0), (3.0, 0.05), (0.3, 1.0), (1e-4, 1.0), (3.0, 8.0), (1e-5, 0.2)),
    (1e-12, 1e-12),
)


def state(p: Populations, theory: str) -> Array:
    """The unknowns (m, networks) of `residual` at its root; NaN where none is found."""
    rates = [(first, *(others,) * (len(p.tau_m) - 1)) for first, others in _STARTS]
    begin = tuple(map(tuple, starts(theory, np.array(rates)).tolist()))
    return where_known(root(_RESIDUALS[theory], begin, p), p, theory)


def where_known(x: Array, p: Populations, theory: str) -> Array:
    """The state x where the theory's neurons are known, else NaN."""
    if theory != "exact":
        return x
    given = received(x, p, theory)
    known = covers((p.V_th - p.V_r) / given.sigma, given.tau_syn / p.tau_m).all(0)
    return jnp.where(known, x, jnp.nan)


def starts(theory: str, rates: np.ndarray) -> np.ndarray:
    """Unknowns (k, m) to start from at rates (k, n) [spikes/s]."""
    logs = np.log(rates)
    return np.hstack([logs, np.full_like(logs, 0.5)]) if theory in DISORDERED else logs


def residual(x: Array, p: Populations, theory: str) -> Array:
    """Zero where the rates that the neurons answer with are those that they receive.

    x is ln of the rates [spikes/s], and where neurons differ ln(<nu^2> / <nu>^2) below it.
    """
    given = received(x, p, theory)
    if theory not in DISORDERED:
        return answer(p, given, given.mu, theory) - x
    mean, square = averages(p, given, theory)
    n = len(p.tau_m)
    return jnp.concatenate([mean - x[:n], square - 2 * mean - x[n:]])


_RESIDUALS = {theory: functools.partial(residual, theory=theory) for theory in THEORIES}


def received(x: Array, p: Populations, theory: str) -> Input:
    """The input in the state x."""
    rates = jnp.exp(x[: len(p.tau_m)]) / 1000
    if theory not in DISORDERED:
        return recurrent_input(p, rates, jnp.zeros_like(rates), own=False)
    variance = jnp.square(rates) * jnp.expm1(x[len(p.tau_m) :])
    return recurrent_input(p, rates, variance, own=True)


def averages(p: Populations, given: Input, theory: str) -> tuple[Array, Array]:
    """ln <nu> and ln <nu^2> over neurons whose mean input is normally distributed."""
    nodes, weights = (jnp.asarray(x, given.mu.dtype)[:, None, None] for x in (_NODES, _WEIGHTS))
    each = once(answer(p, given, given.mu + given.spread * nodes, theory))
    top = jax.lax.stop_gradient(each.max(0))
    share = jnp.exp(each - top)
    mean, square = (jnp.log((weights * x).sum(0)) for x in (share, share * share))
    return top + mean, 2 * top + square


def answer(p: Populations, given: Input, mu: Array, theory: str) -> Array:
    """ln of the rate of neurons with the mean input mu."""
    shift = colour_shift(given.tau_syn, p.tau_m)
    shift = jnp.zeros_like(shift) if theory == "white" else shift
    gap, lacking = p.V_th - p.V_r, jnp.zeros_like(mu)
    if theory == "exact":
        y, h = (p.V_th - mu) / given.sigma, gap / given.sigma
        left = jnp.exp(-p.t_ref / jnp.where(given.tau_syn > 0, given.tau_syn, 1))
        lacking = correction(y, h, given.tau_syn / p.tau_m, left)
    return log_rate(mu, given.sigma, p.tau_m, p.t_ref, p.V_th, gap, shift, lacking)
