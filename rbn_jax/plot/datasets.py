"""Positions of a dataset along the axes of a figure."""

from collections.abc import Hashable
from typing import TYPE_CHECKING

import numpy as np

from rbn_jax.parameters.entries import axis_coordinates

if TYPE_CHECKING:
    import xarray


def axis_values(array: "xarray.DataArray", dim: Hashable) -> np.ndarray:
    """Return the numbers along a dimension, or indices where it has none."""
    coordinates = axis_coordinates(array, dim)
    return coordinates[0].values if coordinates else np.arange(array.sizes[dim])


def is_log_spaced(positions: np.ndarray) -> bool:
    """Return whether the logarithms are evenly spaced, and the positions are not."""
    if positions.size < 3 or not np.all(positions > 0):
        return False
    return _is_evenly_spaced(np.log(positions)) and not _is_evenly_spaced(positions)


def _is_evenly_spaced(positions: np.ndarray) -> bool:
    steps = np.diff(positions)
    return np.allclose(steps / steps.mean(), 1, rtol=1e-5)
