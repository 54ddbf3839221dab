"""Parameters from data, by gradient: with standard errors, and what the data cannot tell."""

from rbn_jax.fitting.free_parameters import Free
from rbn_jax.fitting.result import FitResult
from rbn_jax.fitting.rows import FitRows
from rbn_jax.fitting.run import fit

__all__ = ["FitResult", "FitRows", "Free", "fit"]
