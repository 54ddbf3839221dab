"""The axes of a sweep: what varies, along which dimension, checked before anything runs."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from rbn_jax.parameters.access import Location, Parameters, read_parameters
from rbn_jax.parameters.checks import (
    ParameterSet,
    check_domain,
    raise_if_any,
    to_number_array,
)
from rbn_jax.parameters.labels import RESULT_DIMENSIONS
from rbn_jax.parameters.optional import require
from rbn_jax.parameters.spacing import spaced

if TYPE_CHECKING:
    import pandas

    AxesArgument = (
        Mapping[str, ArrayLike] | Mapping[str | tuple[str, ...], ArrayLike] | pandas.DataFrame
    )

_ADVICE = "Nothing was computed; correct the axes or the parameters named."

Layout = tuple[tuple[str, tuple[str, ...]], ...]
"""(dimension, names of the parameters along it) of each dimension, in the order of the result."""


@dataclasses.dataclass(frozen=True)
class Axes:
    """Values of the parameters that vary, and the dimensions they vary along.

    values: 1-D float64 values by parameter name
    attrs: units and long_name of each parameter, where they are known, by name
    layout: the dimensions and the parameters along each
    coords: other coordinates of axes given as xarray.DataArrays, by name
    """

    values: dict[str, np.ndarray]
    attrs: dict[str, dict[str, str]]
    layout: Layout
    coords: dict[str, Any]

    @property
    def dims(self) -> tuple[str, ...]:
        """The names of the dimensions, in the order of the result."""
        return tuple(dim for dim, _ in self.layout)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of points along each dimension."""
        return tuple(self.values[names[0]].size for _, names in self.layout)

    def parameters_along(self, axis: int) -> dict[str, tuple[np.ndarray, dict[str, str]]]:
        """Return values and attributes of the parameters along a dimension, by name."""
        _, names = self.layout[axis]
        return {name: (self.values[name], self.attrs[name]) for name in names}

    def describe(self, region: tuple[slice, ...]) -> str:
        """Describe a region as in "tau_E 5 to 10 ms, gei 1.5"."""
        ranges = []
        for (_, names), points in zip(self.layout, region, strict=True):
            for name in names:
                values = self.values[name][points]
                low, high = f"{values.min():g}", f"{values.max():g}"
                span = low if low == high else f"{low} to {high}"
                unit = self.attrs[name].get("units", "").removeprefix("1")
                ranges.append(f"{name} {span} {unit}".rstrip())
        return ", ".join(ranges) or "one point"

    def labels(self) -> dict[str, Any]:
        """Return every coordinate with its unit, as xarray takes them."""
        labels = dict(self.coords)
        for dim, names in self.layout:
            for name in names:
                labels[name] = (dim, self.values[name], self.attrs[name])
        return labels


def read_axes(params: object, axes: object) -> Axes:
    """Read the axes of a sweep: arrays, xarray.DataArrays, frames or texts as in `spaced`.

    Raises:
        ValueError: an unknown name; values that are not a 1-D array of finite numbers, nor a
            text "start:stop:num" or "start:stop:num:log", or outside the parameter's domain;
            two axes of one name, or of one dimension and different lengths; parameters that
            are arrays, or no network.
    """
    axes = _expand_pairs(axes)
    parameters = read_parameters(params)
    locations = {name: _locate(parameters, name) for name in axes}
    if len(set(locations.values())) < len(locations):
        raise ValueError(f"axes {', '.join(axes)}: two of them name the same number")
    values = {name: _read_values(name, axis) for name, axis in axes.items()}
    layout = _read_layout(axes, values, parameters.names())
    _check_values(parameters, values, locations, layout)
    attrs: dict[str, dict[str, str]] = {name: {} for name in axes}
    for name, location in locations.items():
        field = parameters.field(location)
        if field.unit or field.long_name:
            attrs[name]["units"] = field.unit or "1"
        if field.long_name:
            # "EI" or "[0]" tells the entries of an array apart
            entry = name.removeprefix(location.path).lstrip("_")
            attrs[name]["long_name"] = f"{field.long_name} {entry}".rstrip()
    return Axes(values, attrs, layout, _read_coords(axes, parameters.names()))


def _expand_pairs(axes: Any) -> dict[str, Any]:
    """Return each axis by name, paired samples as DataArrays along one dimension.

    Two inputs give paired axes: the columns of a DataFrame, along its key, or the name of its
    index; and a tuple of names, along the names joined by "_".
    """
    if hasattr(axes, "columns"):
        axes = {axes.index.name or "sample": axes}
    if not isinstance(axes, Mapping):
        raise ValueError(
            f"axes is a {type(axes).__name__}: must map parameter names to values, or be a "
            "pandas.DataFrame"
        )
    expanded: dict[str, Any] = {}
    for key, axis in axes.items():
        names, arrays, coords, dim = (key,), (axis,), None, None
        if hasattr(axis, "columns"):
            if axis.index.nlevels > 1 or not len(axis.columns):
                raise ValueError(
                    f"the frame {key!r} has {len(axis.columns)} columns and an index of "
                    f"{axis.index.nlevels} levels: must be one column or more, and one level; "
                    "see reset_index"
                )
            # what is no number becomes text, as not every store and file holds times
            index = axis.index.to_numpy()
            index = index if index.dtype.kind in "biuf" else list(map(str, axis.index))
            names, dim, coords = tuple(axis.columns), str(key), {str(key): index}
            arrays = [axis.iloc[:, column].to_numpy() for column in range(len(names))]
        elif isinstance(key, tuple):
            names, dim = key, "_".join(map(str, key))
            arrays = list(axis) if hasattr(axis, "__iter__") else [axis]
        if len(arrays) != len(names):
            raise ValueError(f"axes {names} have {len(arrays)} arrays: must be one for each name")
        for name, values in zip(names, arrays, strict=True):
            if not isinstance(name, str):
                raise ValueError(f"axis {name!r}: its name must be text")
            if name in expanded:
                raise ValueError(f"two axes of one name, {name!r}")
            if dim is not None:
                array = _read_values(name, values)
                values = require("xarray", "sweep").DataArray(array, coords, [dim])
            expanded[name] = values
    return expanded


def _locate(parameters: Parameters, name: str) -> Location:
    """Return where the number is that an axis varies.

    The axis takes the place of an array of values where the field is for a single number.
    """
    location = parameters.locate(name, "axis")
    if "/" in name:
        raise ValueError(f"axis {name}: xarray takes no '/' in the name of a coordinate: rename it")
    if parameters.field(location).ndim == 0:
        return location
    return parameters.locate_scalar(name, "axis")


def _read_values(name: str, axis: Any) -> np.ndarray:
    if isinstance(axis, str):
        try:
            return spaced(axis)
        except ValueError as error:
            raise ValueError(f"axis {name}={axis!r}: {error}") from None
    array = to_number_array(f"axis {name}", axis)
    if array.ndim != 1 or not array.size:
        raise ValueError(
            f"axis {name} has the shape {array.shape}: must be a 1-D array of one value or more, "
            "as in [1.5]"
        )
    return array.astype(float)


def _read_layout(
    axes: Mapping[str, Any], values: Mapping[str, np.ndarray], parameter_names: tuple[str, ...]
) -> Layout:
    """Return the dimensions: one for each plain axis, one for DataArrays that share theirs."""
    names_along: dict[str, list[str]] = {}
    plain_axes = {name for name, axis in axes.items() if not hasattr(axis, "dims")}
    for name, axis in axes.items():
        dim = name if name in plain_axes else str(axis.dims[0])
        names_along.setdefault(dim, []).append(name)
        if "/" in dim:
            raise ValueError(f"the dimension {dim!r} of axis {name}: must have no '/': rename it")
        if dim in RESULT_DIMENSIONS:
            raise ValueError(f"axis {name} has the dimension {dim!r}, which results use: rename it")
        if dim in parameter_names and dim not in axes:
            raise ValueError(
                f"axis {name} has the dimension {dim!r}, but {dim} is no axis: rename it"
            )
    for dim, names in names_along.items():
        if len(names) > 1 and plain_axes.intersection(names):
            raise ValueError(
                f"two axes of one name, {dim!r}: {' and '.join(names)}; give paired values as "
                "xarray.DataArrays that share a dimension of another name"
            )
        sizes = {name: values[name].size for name in names}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"axes along {dim!r} differ in length: {sizes}")
    return tuple((dim, tuple(names)) for dim, names in names_along.items())


def _check_values(
    parameters: Parameters,
    values: Mapping[str, np.ndarray],
    locations: Mapping[str, Location],
    layout: Layout,
) -> None:
    """Check every axis against its domain, and every network of the sweep.

    Raises:
        ValueError: a value is outside its domain, or a network of the sweep cannot be.
    """
    varied = {location.path for location in locations.values() if location.index is None}
    for path, value in parameters.numbers.items():
        ndim = parameters.field(Location(path)).ndim
        if ndim is not None and np.ndim(value) > ndim and path not in varied:
            raise ValueError(
                f"{path} has the shape {np.shape(value)}: give a sweep one network, and what "
                "varies as an axis"
            )
    messages = []
    for name, axis in values.items():
        field = parameters.field(locations[name])
        messages.append(check_domain(name, axis, field.domain, field.unit))
    raise_if_any(messages, _ADVICE)
    params = parameters.build()
    if not isinstance(params, ParameterSet):
        return
    # each axis along a dimension of its own, so that the check sees every combination
    broadcast = {}
    for position, (_, names) in enumerate(layout):
        shape = [1] * len(layout)
        shape[position] = -1
        for name in names:
            # the entries of a matrix are checked one by one, above
            if locations[name].index is None:
                broadcast[locations[name]] = values[name].reshape(shape)
    parameters.replace_at(broadcast).build().check()


def _read_coords(axes: Mapping[str, Any], parameter_names: tuple[str, ...]) -> dict[str, Any]:
    """Return the other 1-D coordinates of the axes that are DataArrays, as a sample's number."""
    coords: dict[str, Any] = {}
    for axis in axes.values():
        for name, coord in getattr(axis, "coords", {}).items():
            if name in axes or coord.ndim != 1:
                continue
            if name in parameter_names:
                raise ValueError(
                    f"an axis has the coordinate {name!r}, but {name} is no axis: drop it"
                )
            if name in coords and not coords[name].equals(coord.variable):
                raise ValueError(f"two axes have different coordinates {name!r}")
            coords[str(name)] = coord.variable
    return coords
