"""Arrays that are given in the form in which a function returns its result."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from rbn_jax.parameters.checks import unknown_name_error
from rbn_jax.parameters.labels import Variable


def read_arrays(
    arrays: Any, template: Mapping[str, Variable], what: str, row_dim: str | None = None
) -> dict[str, np.ndarray]:
    """Return float arrays by name; masked elements are NaN.

    Args:
        arrays: an array, a mapping or an xarray object, whose dimensions and labels are put in
            the order of the result. They may have other axes in front.
        template: what the function returns.
        what: the word for the arrays in error messages.
        row_dim: the dimension along which an xarray object may have one number for each result.

    Raises:
        ValueError: an unknown name, no numbers, or other labels than those of the result.
    """
    if hasattr(arrays, "data_vars"):
        arrays = {str(name): array for name, array in arrays.data_vars.items()}
    if not isinstance(arrays, Mapping):
        if len(template) > 1:
            raise ValueError(f"{what}: fn returns {', '.join(template)}: give a mapping of these")
        arrays = {next(iter(template)): arrays}
    numbers = {}
    for name, array in arrays.items():
        if name not in template:
            raise unknown_name_error(name, template, f"name in the {what}")
        array = _align(array, template[name], f"{what} {name}", row_dim)
        try:
            numbers[name] = np.asarray(fill_masked(array), float)
        except (TypeError, ValueError):
            raise ValueError(f"the {what} {name} is no array of numbers: {array!r}") from None
    if not numbers:
        raise ValueError(f"{what}={arrays!r}: must hold {', '.join(template)}")
    return numbers


def fill_masked(array: Any) -> Any:
    """Return a masked array with NaN in place of masked elements, anything else as it is."""
    if isinstance(array, np.ma.MaskedArray):
        return np.ma.filled(array.astype(float), np.nan)
    return array


def _align(array: Any, variable: Variable, what: str, row_dim: str | None) -> Any:
    """Put dimensions and labels of an xarray object in the order of the function's result."""
    dims = getattr(array, "dims", ())
    if not {*variable.dims, row_dim} & set(dims):
        return array
    array = array.expand_dims([dim for dim in variable.dims if dim not in dims])
    array = array.transpose(..., *variable.dims)
    for name, coord_dims, labels in variable.coords:
        if (name,) != coord_dims or name not in array.indexes:
            continue
        index = array.indexes[name]
        if set(index) != set(labels):
            raise ValueError(f"the {what} has {name} {list(index)}: fn {list(labels)}")
        array = array.sel({name: list(labels)})
    return array
