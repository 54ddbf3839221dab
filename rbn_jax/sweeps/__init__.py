"""Parameter sweeps: axes in, one compiled evaluation, labelled results out, of any size."""

from rbn_jax.sweeps import reductions
from rbn_jax.sweeps.run import sweep
from rbn_jax.sweeps.samples import sample

__all__ = ["reductions", "sample", "sweep"]
