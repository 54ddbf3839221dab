"""Figures. Each function draws on the axes that are passed, or on new ones, and returns them."""

from rbn_jax.plot.lines import plot_psp
from rbn_jax.plot.maps import plot_rates, plot_sweep
from rbn_jax.plot.raster import raster_plot
from rbn_jax.plot.tables import plot_elasticity

__all__ = ["plot_elasticity", "plot_psp", "plot_rates", "plot_sweep", "raster_plot"]
