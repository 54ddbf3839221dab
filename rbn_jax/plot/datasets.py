"""Choose what to draw of a dataset."""

import itertools
from collections.abc import Hashable
from typing import TYPE_CHECKING

import numpy as np

from rbn_jax.parameters.labels import RESULT_DIMENSIONS

if TYPE_CHECKING:
    import xarray

ENTRY_DIMENSIONS = ("target", "source", "population")
"""The dimensions whose labels name the entries of a result."""


def choose_entries(
    dataset: "xarray.Dataset | xarray.DataArray", name: str | None
) -> "tuple[xarray.DataArray, dict[str, xarray.DataArray]]":
    """Return one variable, its numeric axes in ascending order, and its entries by label.

    A matrix has the entries "EE", "EI", "IE" and "II", rates have "E" and "I". A variable of
    single numbers is its only entry, with the label "".

    Args:
        dataset: an xarray.Dataset, or an xarray.DataArray, which is the variable itself.
        name: of the variable; None where there is only one.

    Raises:
        ValueError: no xarray object, or no variable of this name.
    """
    # attributes are tested, not classes: xarray is optional, and may be missing here
    if hasattr(dataset, "to_dataset") and not hasattr(dataset, "data_vars"):
        dataset = dataset.to_dataset(name=dataset.name or "result")
    variables = getattr(dataset, "data_vars", None)
    if variables is None:
        raise ValueError(f"dataset is a {type(dataset).__name__}: must be an xarray.Dataset")
    if name is None and len(variables) == 1:
        name = str(next(iter(variables)))
    if name not in variables:
        raise ValueError(f"name={name!r}: must be one of {', '.join(map(str, variables))}")
    array = dataset[name]
    for dim in array.dims:
        if dim not in RESULT_DIMENSIONS and _is_numeric(array[dim].values):
            array = array.sortby(dim)
    dims = [dim for dim in ENTRY_DIMENSIONS if dim in array.dims]
    entries = {}
    # without such dimensions there is one product, of no labels
    for labels in itertools.product(*(array[dim].values for dim in dims)):
        selection = dict(zip(dims, labels, strict=True))
        entries["".join(map(str, labels))] = array.sel(selection)
    return array, entries


def axis_values(array: "xarray.DataArray", dim: Hashable) -> np.ndarray:
    """Return the coordinate of a dimension, or its indices if the coordinate is not numeric."""
    coordinate = array[dim].values
    return coordinate if _is_numeric(coordinate) else np.arange(coordinate.size)


def is_log_spaced(positions: np.ndarray) -> bool:
    """Return whether the logarithms are evenly spaced, and the positions are not."""
    if positions.size < 3 or not np.all(positions > 0):
        return False
    return _is_evenly_spaced(np.log(positions)) and not _is_evenly_spaced(positions)


def _is_numeric(coordinate: np.ndarray) -> bool:
    return coordinate.dtype.kind in "iuf"


def _is_evenly_spaced(positions: np.ndarray) -> bool:
    steps = np.diff(positions)
    return np.allclose(steps / steps.mean(), 1, rtol=1e-5)
