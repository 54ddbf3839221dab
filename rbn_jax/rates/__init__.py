"""Firing rates from the weights, and parameters from firing rates."""

from rbn_jax.rates.calibrate import calibrate
from rbn_jax.rates.mean_field import MeanField, firing_rates, mean_field
from rbn_jax.rates.populations import Populations
from rbn_jax.rates.regime import REGIMES
from rbn_jax.rates.siegert import log_siegert_rate, siegert_rate
from rbn_jax.rates.solutions import FixedPoint, fixed_points

__all__ = [
    "REGIMES",
    "FixedPoint",
    "MeanField",
    "Populations",
    "calibrate",
    "firing_rates",
    "fixed_points",
    "log_siegert_rate",
    "mean_field",
    "siegert_rate",
]
