"""Parameter sweeps: axes in, one compiled evaluation, labelled results out."""

from rbn_jax.sweep.run import sweep

__all__ = ["sweep"]
