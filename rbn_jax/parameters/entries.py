"""The entries of results by their labels, as EE, EI, IE and II of a matrix."""

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
    dataset: "xarray.Dataset | xarray.DataArray", name: str | None, with_numbers: bool = False
) -> "tuple[xarray.DataArray, dict[str, xarray.DataArray]]":
    """Return one variable, its numeric axes in ascending order, and its entries by label.

    A matrix has the entries "EE", "EI", "IE" and "II", rates have "E" and "I". A variable of
    single numbers is its only entry, with the label "".

    Args:
        dataset: an xarray.Dataset, or an xarray.DataArray, which is the variable itself.
        name: of the variable; None where there is only one.
        with_numbers: whether dimensions of a result that have no labels, as "charge_dim_0", tell
            entries apart, too: "0", "1" or "0,1".

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
        if dim not in RESULT_DIMENSIONS and (coordinates := axis_coordinates(array, dim)):
            array = array.sortby(coordinates[0])
    dims: list[Hashable] = [dim for dim in ENTRY_DIMENSIONS if dim in array.dims]
    separator = ""
    if with_numbers:
        numbered = [dim for dim in array.dims if str(dim).startswith(f"{array.name}_dim_")]
        separator = "," if numbered else ""
        dims += numbered
    entries = {}
    # without such dimensions there is one product, of no labels
    for labels in itertools.product(*(array[dim].values for dim in dims)):
        selection = dict(zip(dims, labels, strict=True))
        entries[separator.join(map(str, labels))] = array.sel(selection)
    return array, entries


def axis_coordinates(array: "xarray.DataArray", dim: Hashable) -> "list[xarray.DataArray]":
    """Return the coordinates that have the numbers along a dimension.

    It is the dimension's own coordinate, or, where it has none, those of all parameters along it,
    if these are equal. The list is empty where there are no such numbers.
    """
    coordinates = [array[dim]]
    if dim not in array.coords:
        coordinates = [coord for coord in array.coords.values() if coord.dims == (dim,)]
    if not all(np.array_equal(coord, coordinates[0]) for coord in coordinates):
        return []
    return coordinates if all(is_numeric(coord.values) for coord in coordinates) else []


def unit_text(array: "xarray.DataArray") -> str:
    """Return the unit; "" for a pure number."""
    unit = array.attrs.get("units", "")
    return "" if unit == "1" else unit


def is_numeric(coordinate: np.ndarray) -> bool:
    """Return whether values are ordinary real numbers, and no labels."""
    return coordinate.dtype.kind in "iuf"


def name_with_unit(name: object, array: "xarray.DataArray") -> str:
    """Return a name and the unit of an array in brackets, as "rates [spikes/s]"."""
    unit = unit_text(array)
    return f"{name} [{unit}]" if unit else str(name)
