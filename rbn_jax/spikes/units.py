"""Times in milliseconds from arrays that have a unit, whichever package made them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

_MS_PER_UNIT = {
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds"), 1.0),
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1e3),
    # the two letters are U+00B5 (micro sign) and U+03BC (Greek letter)
    **dict.fromkeys(("us", "\u00b5s", "\u03bcs", "microsecond", "microseconds"), 1e-3),
}


def unit_of(values: Any) -> str | None:
    """Return the unit of values as text, "" if they are dimensionless, None if they have none.

    It is found without importing the packages that make such values: Neo, quantities and pint
    have `units`, astropy has `unit`, Brian 2 has `dim`, xarray and h5py have attributes, and
    NumPy has types for durations.
    """
    # before `units`, as xarray gives access to attributes by name too
    attributes = getattr(values, "attrs", None)
    if isinstance(attributes, Mapping) and "units" in attributes:
        text = unit_text(attributes["units"])
        return "" if text in ("1", "dimensionless") else text
    for name in ("units", "unit", "dim"):
        unit = getattr(values, name, None)
        # the method Tensor.dim of PyTorch is not a unit
        if unit is not None and not callable(unit):
            dimensionality = getattr(unit, "dimensionality", unit)
            is_plain = str(dimensionality) in ("1", "dimensionless")
            return "" if is_plain else str(unit)
    dtype = getattr(values, "dtype", None)
    if getattr(dtype, "kind", None) == "m":
        return str(dtype)
    # pint-pandas keeps the unit of a column in its type
    dtype_unit = getattr(dtype, "units", None)
    if dtype_unit is not None:
        return str(dtype_unit)
    # a DataArray may hold a quantity of pint; `dims` first, as `data` of NumPy's dates raises
    if hasattr(values, "dims") and hasattr(values, "data"):
        return unit_of(values.data)
    return None


def unit_text(attribute: object) -> str:
    """Return the unit in an attribute as text; h5py gives str, bytes, or an array of one."""
    if isinstance(attribute, np.ndarray) and attribute.size == 1:
        attribute = attribute.item()
    return attribute.decode("utf-8", "replace") if isinstance(attribute, bytes) else str(attribute)


def ms_per_unit(unit: str) -> float | None:
    """Return how many milliseconds a unit of time is, or None for an unknown unit."""
    return _MS_PER_UNIT.get(unit.strip())


def check_values(name: str, values: object) -> None:
    """Raise a ValueError that has the name, if any value is masked or missing."""
    if isinstance(values, np.ma.MaskedArray) and np.ma.getmaskarray(values).any():
        raise ValueError(
            f"{name} is a masked array with masked values, which would be taken for spikes: "
            "remove them, as with compressed() if there is one array, or fill them"
        )
    isna = getattr(values, "isna", None)
    if callable(isna) and np.any(np.asarray(isna())):
        raise ValueError(f"{name} has missing values (NA): remove these rows, as with dropna()")


def plain_array(name: str, values: Any) -> np.ndarray:
    """Return values that must have no unit as an array."""
    check_values(name, values)
    unit = unit_of(values)
    if unit:
        raise ValueError(f"{name} has the unit {unit}: must be plain numbers")
    return np.asarray(values)


def times_in_ms(name: str, values: Any) -> np.ndarray:
    """Return times [ms] as an array; without a unit, the numbers are milliseconds.

    Raises:
        ValueError: masked or missing values, a unit that is not one of time, or a kind of unit
            that is unknown here.
    """
    check_values(name, values)
    unit = unit_of(values)
    if unit is None:
        return np.asarray(values)
    dtype = getattr(values, "dtype", None)
    if getattr(dtype, "kind", None) == "m":
        return np.asarray(values) / np.timedelta64(1, "ms")
    try:
        if hasattr(values, "rescale"):  # Neo and quantities
            return np.asarray(values.rescale("ms").magnitude)
        if hasattr(values, "to_value"):  # astropy
            return np.asarray(values.to_value("ms"))
        if hasattr(values, "to") and hasattr(values, "magnitude"):  # pint
            return np.asarray(values.to("ms").magnitude)
    # each package has its own class for this: ValueError, UnitConversionError, DimensionalityError
    except Exception as error:
        raise ValueError(f"{name} has the unit {unit}: must be a unit of time ({error})") from error
    factor = ms_per_unit(unit)
    if factor is None or not isinstance(getattr(values, "attrs", None), Mapping):
        raise ValueError(
            f"{name} has the unit {unit}, which cannot be converted here: "
            "convert it to plain numbers in ms"
        )
    return np.asarray(values) * factor
