"""Parameters from data, by gradient: with standard errors, and what the data cannot tell."""

from rbn_jax.fit.free import Free
from rbn_jax.fit.result import FitResult
from rbn_jax.fit.rows import FitRows
from rbn_jax.fit.run import fit

__all__ = ["FitResult", "FitRows", "Free", "fit"]
