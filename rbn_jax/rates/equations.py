"""The equations of the stationary, asynchronous state of populations, and their solution.

The unknowns of m = n rates are ln of the rates [ln(spikes/s)]. Where the neurons of a population
differ there are m = 2 n: below the rates ln(<nu^2> / <nu>^2) of every population.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rbn_jax.numerics.newton import Comparison, lowest_stable_root, map_batch
from rbn_jax.numerics.single_search import SingleSystem
from rbn_jax.rates.couplings import Couplings
from rbn_jax.rates.single_neuron import Neurons
from rbn_jax.rates.theories import MeanFieldTheory

# 12 nodes average over the normal distribution of the mean input, along a new first axis
_NODES, _WEIGHTS = np.reshape(np.polynomial.hermite_e.hermegauss(12), (2, 12, 1, 1))
_LOG_WEIGHTS = np.log(_WEIGHTS / _WEIGHTS.sum())
# ln(<nu^2> / <nu>^2) from which every search starts
_START_LOG_RATIO = 0.5

# Rates [spikes/s] of the first and of all other populations from which a root is searched, in this
# order. The first one leads to the usual states in few steps, and the second one to a low state
# where there is one. The next ones found the lowest stable states of most random networks with
# several states. The others leave few random networks without a root (benchmarks/rates.py found).
_START_RATES = np.array(
    [
        (4.0, 4.0), (1e-3, 2.0),
        # where there may be several states
        (1e-4, 1.0), (0.3, 1.0), (1e-3, 0.5), (0.015, 2.0), (3e-3, 5.0), (1e-4, 0.2), (0.1, 0.1),
        (1e-6, 8.0), (1e-12, 1e-12), (30.0, 30.0), (200.0, 200.0),
        (1e-12, 20.0), (1e-5, 0.05), (100.0, 10.0), (0.3, 3.0), (1e-9, 1.5),
        (0.3, 0.05), (300.0, 200.0), (150.0, 120.0), (3.0, 0.05),
        (3.0, 8.0), (1e-5, 0.2),
        # near saturation
        (800.0, 550.0), (500.0, 300.0), (250.0, 160.0), (120.0, 80.0),
    ]
)  # fmt: skip
# ln of rates that underflow in float64
_SILENT_LOG_RATE = -750.0
# A network that fires faster than 50 spikes/s often has a low state, too, which few starts find.
_COMPARISON = Comparison(always=2, ambiguous=13, high=math.log(50.0))


def find_state(couplings: Couplings) -> tuple[Array, Array, Array]:
    """Return the lowest stable root, whether it is stable, and whether several were found.

    The theory need not be known there. The root is NaN where none is found.
    """
    n, *batch = couplings.tau_m.shape
    starts = _search_starts(couplings)
    root, stable, several = lowest_stable_root(residual, starts, _COMPARISON, couplings, len(batch))
    silent, is_silent = map_batch(silent_state, len(batch))(couplings)
    # the silent state is the lowest one, and stable, as its rates are 0 also in other inputs of 0
    fires = (root[:n] > _SILENT_LOG_RATE).any(0)
    is_other = is_silent & jnp.isfinite(root).all(0) & fires
    return jnp.where(is_silent, silent, root), stable | is_silent, several | is_other


def find_single_state(couplings: Couplings) -> tuple[np.ndarray, bool, bool]:
    """Return what `find_state` does, for one network in float64: the root (m,) and two flags.

    Much less is compiled for it.
    """
    n = len(couplings.tau_m)
    starts = _search_starts(couplings)
    system = SingleSystem(residual, couplings)
    root, stable, several = system.lowest_stable_root(starts, _COMPARISON)
    # exp of these unknowns is 0
    log_no_rates = 2 * _SILENT_LOG_RATE
    unknowns = np.zeros_like(root)
    unknowns[:n] = log_no_rates
    # the residual is the logarithm of the mean rates that neurons have without each other, less
    # the unknowns
    log_mean_rates = system.residual_at(unknowns)[:n] + log_no_rates
    # `silent_state` looks at the neurons nearest to threshold, so it need not be compiled where
    # the mean over all neurons does not underflow
    if np.all(log_mean_rates < _SILENT_LOG_RATE):
        silent, is_silent = compiled_silent_state(couplings)
        if is_silent[0]:
            fires = np.isfinite(root).all() and np.any(root[:n] > _SILENT_LOG_RATE)
            return np.asarray(silent)[:, 0], True, bool(several or fires)
    return root, stable, several


def _search_starts(couplings: Couplings) -> tuple[tuple[float, ...], ...]:
    log_rates = np.log(expand_pairs(_START_RATES, len(couplings.tau_m)))
    return start_unknowns(log_rates, couplings.theory)


def silent_state(couplings: Couplings) -> tuple[Array, Array]:
    """Return unknowns of rates that underflow to 0, and where external input causes no others.

    Newton steps from usual rates do not lead there: ln of the rates is below -10,000 in networks
    without external noise. No derivatives pass, as those of rates that underflow are 0.
    """
    couplings = jax.lax.stop_gradient(couplings)
    no_rates = jnp.zeros_like(couplings.tau_m)
    neurons = couplings.neurons(no_rates, no_rates)
    # the neurons that are nearest to threshold; all 12 nodes would take 12 times as long
    highest_mu = neurons.mu + neurons.spread * _NODES.max().astype(no_rates.dtype)
    log_rates = couplings.theory.log_rates(neurons._replace(mu=highest_mu))
    unknowns = log_rates
    if couplings.theory.neurons_differ:
        unknowns = jnp.concatenate([log_rates, no_rates])
    return unknowns, (log_rates < _SILENT_LOG_RATE).all(0)


compiled_silent_state = jax.jit(silent_state)


def nan_outside_theory(unknowns: Array, couplings: Couplings) -> Array:
    """Return the unknowns, and NaN for networks in which the theory's neurons are not known."""
    covers = couplings.theory.covers
    if covers is None:
        return unknowns
    is_known = map_batch(covers, unknowns.ndim - 1)(neurons_at(unknowns, couplings)).all(0)
    return jnp.where(is_known, unknowns, jnp.nan)


def expand_pairs(rates: np.ndarray, n: int) -> np.ndarray:
    """Return rates (k, n) from those (k, 2) of the first and of all other populations."""
    return rates[:, np.minimum(np.arange(n), 1)]


def start_unknowns(starts: np.ndarray, theory: MeanFieldTheory) -> tuple[tuple[float, ...], ...]:
    """Return the starts of a search as `root` takes them, from the first n unknowns (k, n).

    Where neurons differ, the other n start from a constant ln(<nu^2> / <nu>^2).
    """
    if theory.neurons_differ:
        starts = np.hstack([starts, np.full_like(starts, _START_LOG_RATIO)])
    return tuple(map(tuple, starts.tolist()))


def rates_at(unknowns: Array, n: int) -> tuple[Array, Array]:
    """Return the rates [spikes/s] and <nu^2> / <nu>^2 - 1, which is 0 if neurons do not differ."""
    rates = jnp.exp(unknowns[:n])
    if len(unknowns) == n:
        return rates, jnp.zeros_like(rates)
    return rates, jnp.expm1(unknowns[n:])


def moments_at(unknowns: Array, n: int) -> tuple[Array, Array]:
    """Return the rates [spikes/ms] and their variances across neurons [(spikes/ms)^2]."""
    rates, relative_variance = rates_at(unknowns, n)
    rates_per_ms = rates / 1000
    return rates_per_ms, jnp.square(rates_per_ms) * relative_variance


def neurons_at(unknowns: Array, couplings: Couplings) -> Neurons:
    """Return the neurons with the input that they receive at these unknowns."""
    return couplings.neurons(*moments_at(unknowns, len(couplings.tau_m)))


def residual(unknowns: Array, couplings: Couplings) -> Array:
    """Return how far the rates that neurons have are from those that cause their input.

    The result has the shape of the unknowns, and is 0 in a stationary state.
    """
    theory = couplings.theory
    neurons = neurons_at(unknowns, couplings)
    if not theory.neurons_differ:
        return theory.log_rates(neurons) - unknowns
    # the first two moments over neurons whose mean inputs are normally distributed
    nodes = jnp.asarray(_NODES, unknowns.dtype)
    log_weights = jnp.asarray(_LOG_WEIGHTS, unknowns.dtype)
    log_rates = theory.log_rates(neurons._replace(mu=neurons.mu + neurons.spread * nodes))
    # relative to the largest rate, since exp of the logarithms themselves may underflow to 0
    log_largest = jax.lax.stop_gradient(log_rates.max(0))
    relative = log_rates - log_largest
    log_mean = log_largest + jnp.log(jnp.exp(relative + log_weights).sum(0))
    log_square = 2 * log_largest + jnp.log(jnp.exp(2 * relative + log_weights).sum(0))
    return jnp.concatenate([log_mean, log_square - 2 * log_mean]) - unknowns
