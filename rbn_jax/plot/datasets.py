"""Positions of a dataset along the axes of a figure."""

from collections.abc import Hashable
from typing import TYPE_CHECKING

import numpy as np

from rbn_jax.parameters.entries import is_numeric

if TYPE_CHECKING:
    import xarray


def axis_coordinates(
    array: "xarray.DataArray", dim: Hashable
) -> "tuple[np.ndarray, list[xarray.DataArray]]":
    """Return the values along a dimension, and the coordinates that have these values.

    They are those of the dimension's own coordinate, or, where it has none, those of all
    parameters along it if these are equal. Else they are indices, and the dimension itself.
    """
    coordinates = [array[dim]]
    if dim not in array.coords:
        along = [coord for coord in array.coords.values() if coord.dims == (dim,)]
        if along and all(np.array_equal(coord, along[0]) for coord in along):
            coordinates = along
    values = coordinates[0].values
    if not is_numeric(values):
        return np.arange(values.size), [array[dim]]
    return values, coordinates


def axis_values(array: "xarray.DataArray", dim: Hashable) -> np.ndarray:
    """Return the positions along a dimension, as `axis_coordinates` has them."""
    return axis_coordinates(array, dim)[0]


def is_log_spaced(positions: np.ndarray) -> bool:
    """Return whether the logarithms are evenly spaced, and the positions are not."""
    if positions.size < 3 or not np.all(positions > 0):
        return False
    return _is_evenly_spaced(np.log(positions)) and not _is_evenly_spaced(positions)


def _is_evenly_spaced(positions: np.ndarray) -> bool:
    steps = np.diff(positions)
    return np.allclose(steps / steps.mean(), 1, rtol=1e-5)
