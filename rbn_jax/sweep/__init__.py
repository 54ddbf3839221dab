"""Parameter sweeps: axes in, one compiled evaluation, labelled results out, of any size."""

from rbn_jax.sweep import reductions
from rbn_jax.sweep.run import sweep
from rbn_jax.sweep.samples import sample

__all__ = ["reductions", "sample", "sweep"]
