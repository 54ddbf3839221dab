"""Parameter sweeps: axes in, one compiled evaluation, labelled results out, of any size."""

from rbn_jax.sweeps.run import sweep
from rbn_jax.sweeps.samples import sample
from rbn_jax.sweeps.store import store_status

__all__ = ["sample", "store_status", "sweep"]
