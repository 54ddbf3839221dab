"""From the biophysics of a balanced random network to its synaptic weights, differentiably."""

from rbn_jax.fit import FitResult, FitRows, Free, fit
from rbn_jax.params import NetworkParams
from rbn_jax.psp import (
    postsynaptic_current_to_potential,
    postsynaptic_potential_to_current,
    psp_time_to_peak,
    psp_waveform,
)
from rbn_jax.rates import (
    MeanField,
    Populations,
    calibrate,
    firing_rates,
    fixed_points,
    mean_field,
    siegert_rate,
)
from rbn_jax.sensitivity import elasticity, jacobian
from rbn_jax.sweep import reductions, sample, sweep
from rbn_jax.weights import calculate_RBN_weights, rheobase_current

__all__ = [
    "FitResult",
    "FitRows",
    "Free",
    "MeanField",
    "NetworkParams",
    "Populations",
    "calculate_RBN_weights",
    "calibrate",
    "elasticity",
    "firing_rates",
    "fit",
    "fixed_points",
    "jacobian",
    "mean_field",
    "postsynaptic_current_to_potential",
    "postsynaptic_potential_to_current",
    "psp_time_to_peak",
    "psp_waveform",
    "reductions",
    "rheobase_current",
    "sample",
    "siegert_rate",
    "sweep",
]
