"""Firing rates from the parameters of a network, and parameters from firing rates."""

from rbn_jax.rates.active_clusters import (
    ClusterState,
    cluster_rate_cv,
    cluster_state,
    critical_rep,
)
from rbn_jax.rates.calibration import calibrate
from rbn_jax.rates.cluster_datasets import cluster_branches, cluster_states
from rbn_jax.rates.groups import clustered
from rbn_jax.rates.multistability import FixedPoint, fixed_points
from rbn_jax.rates.populations import Populations
from rbn_jax.rates.single_neuron import log_siegert_rate, siegert_rate
from rbn_jax.rates.stationary import MeanField, cluster_gain, firing_rates, mean_field
from rbn_jax.rates.theories import MeanFieldTheory, Theory
from rbn_jax.rates.validity import REGIMES

__all__ = [
    "REGIMES",
    "ClusterState",
    "FixedPoint",
    "MeanField",
    "MeanFieldTheory",
    "Populations",
    "Theory",
    "calibrate",
    "cluster_branches",
    "cluster_gain",
    "cluster_rate_cv",
    "cluster_state",
    "cluster_states",
    "clustered",
    "critical_rep",
    "firing_rates",
    "fixed_points",
    "log_siegert_rate",
    "mean_field",
    "siegert_rate",
]
