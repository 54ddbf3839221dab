"""Recordings of PSPs as a laboratory has them: seeded, with noise, failures and gaps."""

import dataclasses

import jax.numpy as jnp
import numpy as np

import rbn_jax as rbn

TIMES = np.linspace(-10, 100, 1101)  # ms
SIGMA = 0.05  # mV
START = rbn.PspTrace(baseline=-65.0, slope=0.0, amplitude=1.0, onset=5.0, tau_m=15.0, tau_syn=2.0)
FREE = {
    "baseline": (-80.0, -50.0),
    "slope": (-0.1, 0.1),
    "amplitude": (-5.0, 5.0),
    "onset": (0.0, 20.0),
    "tau_m": (5.0, 60.0),
    "tau_syn": (0.2, 5.0),
}
NAMES = tuple(FREE)


def compute(p: rbn.PspTrace) -> jnp.ndarray:
    """Return the trace of one set of parameters, as `rbn_jax.fit` takes it."""
    return rbn.psp_trace(np.array(TIMES), p)


def numpy_trace(t, baseline, slope, amplitude, onset, tau_m, tau_syn):
    """Return the same in NumPy, as one writes it for `scipy.optimize.curve_fit`."""
    peak_time = np.log(tau_m / tau_syn) * tau_m * tau_syn / (tau_m - tau_syn)
    peak = np.exp(-peak_time / tau_m) - np.exp(-peak_time / tau_syn)
    since = np.maximum(t - onset, 0)
    wave = (np.exp(-since / tau_m) - np.exp(-since / tau_syn)) / peak
    return baseline + slope * t + amplitude * wave


def make_traces(n: int = 60, seed: int = 2026) -> tuple[np.ndarray, list[rbn.PspTrace]]:
    """Return traces (n, samples) and their true parameters.

    One in ten is a failure, without a response; one in six has a gap of NaN.
    """
    rng = np.random.default_rng(seed)
    traces, truths = [], []
    for i in range(n):
        truth = rbn.PspTrace(
            baseline=rng.normal(-65, 2),
            slope=rng.normal(0, 0.003),
            amplitude=0.0 if i % 10 == 9 else rng.lognormal(-0.2, 0.4),
            onset=rng.uniform(2, 8),
            tau_m=rng.uniform(10, 25),
            tau_syn=rng.uniform(1, 4),
        )
        values = dataclasses.asdict(truth).values()
        trace = numpy_trace(TIMES, *values) + SIGMA * rng.standard_normal(TIMES.size)
        if i % 6 == 5:
            begin = rng.integers(0, TIMES.size - 200)
            trace[begin : begin + rng.integers(20, 200)] = np.nan
        traces.append(trace)
        truths.append(truth)
    return np.array(traces), truths
