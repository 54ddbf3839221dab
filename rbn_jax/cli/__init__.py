"""The command line, a module for each command."""

from rbn_jax.cli import bench, fit, raster, rates, sweep, weights  # noqa: F401  importing one adds its commands
from rbn_jax.cli.app import run

__all__ = ["run"]
