"""Spike recordings as one 2xN array, times [ms] in row 0 and neuron IDs in row 1."""

from rbn_jax.spikes.files import load_spikes
from rbn_jax.spikes.recorded import as_spiketimes

__all__ = ["as_spiketimes", "load_spikes"]
