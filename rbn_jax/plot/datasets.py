"""Label and scale the axes of a figure of a dataset."""

from collections.abc import Hashable
from typing import TYPE_CHECKING, Literal

import numpy as np

from rbn_jax.parameters.entries import is_numeric, unit_text

if TYPE_CHECKING:
    import xarray

_UNIT_LABELS = {"pA*sqrt(N)": r"pA$\,\sqrt{N}$"}


def axis_values(array: "xarray.DataArray", dim: Hashable) -> np.ndarray:
    """Return the coordinate of a dimension, or its indices if the coordinate is not numeric."""
    coordinate = array[dim].values
    return coordinate if is_numeric(coordinate) else np.arange(coordinate.size)


def is_log_spaced(positions: np.ndarray) -> bool:
    """Return whether the logarithms are evenly spaced, and the positions are not."""
    if positions.size < 3 or not np.all(positions > 0):
        return False
    return _is_evenly_spaced(np.log(positions)) and not _is_evenly_spaced(positions)


def axis_properties(
    array: "xarray.DataArray", dim: Hashable, axis: Literal["x", "y"]
) -> dict[str, str]:
    """Return the keywords of `Axes.set` that label and scale an axis for a dimension."""
    properties = {f"{axis}label": plain_label(dim) + unit_label(array[dim])}
    # a linear scale is not set, so that a scale that the caller has chosen stays
    if is_log_spaced(axis_values(array, dim)):
        properties[f"{axis}scale"] = "log"
    return properties


def variable_label(array: "xarray.DataArray") -> str:
    """Return name, selected entry of a matrix and unit, as "synaptic weight EI [pA]"."""
    entry = ""
    for dim in ("target", "source"):
        if dim in array.coords and dim not in array.dims:
            entry += str(array[dim].values)
    name = array.attrs.get("long_name", array.name)
    return plain_label(f"{name} {entry}".rstrip()) + unit_label(array)


def plain_label(name: object) -> str:
    """Return a name as a label; its dollar signs do not begin a formula of Matplotlib's."""
    return str(name).replace("$", r"\$")


def unit_label(array: "xarray.DataArray") -> str:
    """Return the unit in brackets after a space, as Matplotlib has it; "" for a pure number."""
    unit = unit_text(array)
    return f" [{_UNIT_LABELS.get(unit, plain_label(unit))}]" if unit else ""


def _is_evenly_spaced(positions: np.ndarray) -> bool:
    steps = np.diff(positions)
    return np.allclose(steps / steps.mean(), 1, rtol=1e-5)
