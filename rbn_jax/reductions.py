"""Reductions for `sweep(..., reduce=...)`: what a sweep too large to store keeps of its values."""

from rbn_jax.sweeps.reductions import *  # noqa: F403
from rbn_jax.sweeps.reductions import __all__ as __all__
