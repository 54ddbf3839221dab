"""Fit parameters to data by gradients, with standard errors and open directions."""

from rbn_jax.fitting.free_parameters import Free
from rbn_jax.fitting.result import FitResult
from rbn_jax.fitting.rows import FitRows
from rbn_jax.fitting.run import fit

__all__ = ["FitResult", "FitRows", "Free", "fit"]
