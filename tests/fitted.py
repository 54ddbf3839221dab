"""Functions, bounds and noisy data that the tests of fit share."""

import jax
import jax.numpy as jnp
import numpy as np

import rbn_jax as rbn
from rbn_jax import NetworkParams

NET = NetworkParams()
WEIGHTS = rbn.calculate_RBN_weights
TIMES = np.linspace(0.5, 80, 60)
TRUTH = {"weight": 90.0, "tau_m": 15.0, "tau_syn": 3.0}
BOUNDS = {"weight": (1, 1000), "tau_m": (5, 60), "tau_syn": (0.2, 4.9)}
SYMMETRIC_BOUNDS = {"weight": (1, 1000), "tau_m": (0.5, 60), "tau_syn": (0.5, 60)}


def psp(p):
    return p["weight"] * rbn.psp_waveform(np.array(TIMES), p["tau_m"], p["tau_syn"], 250.0)


def numpy_psp(t, weight, tau_m, tau_syn):
    rise = np.exp(-t / tau_syn) - np.exp(-t / tau_m)
    return weight * tau_m * tau_syn / (250 * (tau_syn - tau_m)) * rise


def line(p):
    return p["a"] + p["b"] * jnp.arange(6.0)


def evaluate(fn, p):
    with jax.enable_x64(True):
        return np.asarray(fn(p))


def noisy_trace(seed=0, sigma=0.005):
    noise = np.random.default_rng(seed).standard_normal(TIMES.size)
    return evaluate(psp, TRUTH) + sigma * noise
