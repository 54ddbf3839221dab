"""The stationary, asynchronous state of populations, from their parameters alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import logsumexp

from rbn_jax.rates.populations import Input, Populations, recurrent_input
from rbn_jax.rates.root import root
from rbn_jax.rates.siegert import colour_shift, log_rate

THEORIES = ("white", "shift", "quenched")
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(12)
_LOG_WEIGHTS = np.log(_WEIGHTS / _WEIGHTS.sum())
_STARTS = (  # spikes/s of the first population and of the others
    *((4.0, 4.0), (0.1, 0.1), (1e-3, 0.5), (30.0, 30.0), (1e-6, 8.0), (200.0, 200.0)),
    *((1e-12, 20.0), (1e-5, 0.05), (100.0, 10.0), (0.3, 3.0)),
)


@functools.partial(jax.jit, static_argnums=1)
def state(p: Populations, theory: str) -> Array:
    """The unknowns (m, networks) of `residual` at its root; NaN where none is found."""
    rates = [(first, *(others,) * (len(p.tau_m) - 1)) for first, others in _STARTS]
    begin = tuple(map(tuple, starts(theory, np.array(rates)).tolist()))
    return root(_RESIDUALS[theory], begin, p)


def starts(theory: str, rates: np.ndarray) -> np.ndarray:
    """Unknowns (k, m) to start from at rates (k, n) [spikes/s]."""
    logs = np.log(rates)
    return np.hstack([logs, np.full_like(logs, 0.5)]) if theory == "quenched" else logs


def residual(x: Array, p: Populations, theory: str) -> Array:
    """Zero where the rates that the neurons answer with are those that they receive.

    x is ln of the rates [spikes/s]; for "quenched" with ln(<nu^2> / <nu>^2) below it.
    """
    given = received(x, p, theory)
    if theory != "quenched":
        return answer(p, given, given.mu, theory) - x
    mean, square = averages(p, given)
    n = len(p.tau_m)
    return jnp.concatenate([mean - x[:n], square - 2 * mean - x[n:]])


_RESIDUALS = {theory: functools.partial(residual, theory=theory) for theory in THEORIES}


def received(x: Array, p: Populations, theory: str) -> Input:
    """The input in the state x."""
    rates = jnp.exp(x[: len(p.tau_m)]) / 1000
    if theory != "quenched":
        return recurrent_input(p, rates, jnp.zeros_like(rates), own=False)
    variance = jnp.square(rates) * jnp.expm1(x[len(p.tau_m) :])
    return recurrent_input(p, rates, variance, own=True)


def averages(p: Populations, given: Input) -> tuple[Array, Array]:
    """ln <nu> and ln <nu^2> over neurons whose mean input is normally distributed."""
    nodes, weights = (jnp.asarray(x, given.mu.dtype)[:, None, None] for x in (_NODES, _LOG_WEIGHTS))
    each = answer(p, given, given.mu + given.spread * nodes, "quenched")
    return logsumexp(weights + each, 0), logsumexp(weights + 2 * each, 0)


def answer(p: Populations, given: Input, mu: Array, theory: str) -> Array:
    """ln of the rate of neurons with the mean input mu."""
    shift = colour_shift(given.tau_syn, p.tau_m)
    shift = jnp.zeros_like(shift) if theory == "white" else shift
    return log_rate(mu, given.sigma, p.tau_m, p.t_ref, p.V_th, p.V_th - p.V_r, shift)
