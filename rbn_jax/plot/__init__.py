"""Figures. Each function draws on the axes that are passed, or on new ones, and returns them."""

from rbn_jax.plot.clusters import plot_cluster_states
from rbn_jax.plot.dynamics import plot_dynamics
from rbn_jax.plot.maps import plot_elasticity, plot_rates, plot_sweep
from rbn_jax.plot.psp import plot_psp
from rbn_jax.plot.raster import raster_plot

__all__ = [
    "plot_cluster_states",
    "plot_dynamics",
    "plot_elasticity",
    "plot_psp",
    "plot_rates",
    "plot_sweep",
    "raster_plot",
]
