"""From the biophysics of a balanced random network to its synaptic weights, differentiably."""

from rbn_jax.fit import FitResult, FitRows, Free, fit
from rbn_jax.params import NetworkParams
from rbn_jax.psp import (
    postsynaptic_current_to_potential,
    postsynaptic_potential_to_current,
    psp_time_to_peak,
    psp_waveform,
)
from rbn_jax.sensitivity import elasticity, jacobian
from rbn_jax.sweep import reductions, sample, sweep
from rbn_jax.weights import calculate_RBN_weights, rheobase_current

__all__ = [
    "FitResult",
    "FitRows",
    "Free",
    "NetworkParams",
    "calculate_RBN_weights",
    "elasticity",
    "fit",
    "jacobian",
    "postsynaptic_current_to_potential",
    "postsynaptic_potential_to_current",
    "psp_time_to_peak",
    "psp_waveform",
    "reductions",
    "rheobase_current",
    "sample",
    "sweep",
]
