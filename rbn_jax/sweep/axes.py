"""The axes of a sweep: what varies, along which dimension, checked before anything runs."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from rbn_jax import _fields as f
from rbn_jax._labels import NAMED
from rbn_jax.params import FIELDS, NetworkParams, complaints

_ADVICE = "Nothing was computed; correct the axes or the parameters named."


@dataclasses.dataclass(frozen=True)
class Axes:
    """Values of the parameters that vary, and the dimensions they vary along.

    values: 1-D float64 values by parameter name
    layout: (dimension, names of the parameters along it), in the order of the result
    coords: what an axis brought along from xarray, by name
    """

    values: dict[str, np.ndarray]
    layout: tuple[tuple[str, tuple[str, ...]], ...]
    coords: dict[str, Any]

    @property
    def dims(self) -> tuple[str, ...]:
        """The names of the dimensions, in the order of the result."""
        return tuple(dim for dim, _ in self.layout)

    def labels(self) -> dict[str, Any]:
        """Every coordinate with its unit, as xarray takes them."""
        found = dict(self.coords)
        for dim, along in self.layout:
            for name in along:
                found[name] = (dim, self.values[name], units(name))
        return found


def units(name: str) -> dict[str, str]:
    """The unit of a parameter, as the attributes of an array; none for a pure number."""
    unit = FIELDS[name][0] if name in FIELDS else ""
    return {"units": unit} if unit else {}


def read_axes(params: Any, axes: Mapping[str, Any]) -> Axes:
    """The axes of a sweep over params: arrays, xarray.DataArrays or the texts of `spaced`.

    Raises:
        ValueError: an unknown name; values that are not a 1-D array of finite numbers, nor a
            text "start:stop:num" or "start:stop:num:log", or outside the parameter's domain;
            two axes of one name, or of one dimension and different lengths; parameters that
            are arrays, or no network.
    """
    if not isinstance(axes, Mapping):
        raise ValueError(f"axes is a {type(axes).__name__}: must map parameter names to values")
    f.check_numbers(params)
    valid = f.names(params)
    for name in axes:
        if name not in valid:
            raise f.unknown_name(str(name), valid, "axis")
    values = {name: _values(name, axis) for name, axis in axes.items()}
    layout = _layout(axes, values, valid)
    _check(params, values, layout)
    return Axes(values, layout, _coords(axes, params))


def spaced(text: str) -> np.ndarray:
    """The num values of "start:stop:num", evenly spaced from start to stop, both included.

    "start:stop:num:log" is spaced evenly on a logarithmic scale.

    Raises:
        ValueError: another text, limits that are not finite, or not > 0 on a log axis, num < 1.

    >>> spaced("0:1:3").tolist(), spaced("1:4:3:log").tolist()
    ([0.0, 0.5, 1.0], [1.0, 2.0, 4.0])
    """
    parts = text.split(":")
    if len(parts) not in (3, 4) or (len(parts) == 4 and parts[3] != "log"):
        raise ValueError("must be start:stop:num or start:stop:num:log")
    limits = []
    for part in parts[:2]:
        try:
            limits.append(float(part))
        except ValueError:
            raise ValueError(f"{part!r} is not a number") from None
    if not np.isfinite(limits).all():
        raise ValueError("start and stop must be finite")
    if not parts[2].isdecimal() or int(parts[2]) < 1:
        raise ValueError(f"num={parts[2]!r} must be a whole number >= 1")
    if len(parts) == 4 and not min(limits) > 0:
        raise ValueError("start and stop must be > 0 on a log axis")
    space = np.geomspace if len(parts) == 4 else np.linspace
    return space(limits[0], limits[1], int(parts[2]))


def _values(name: str, axis: Any) -> np.ndarray:
    if isinstance(axis, str):
        try:
            return spaced(axis)
        except ValueError as error:
            raise ValueError(f"axis {name}={axis!r}: {error}") from None
    try:
        array = np.asarray(axis)
    except ValueError as error:
        raise ValueError(f"axis {name}: must be a 1-D array or an xarray.DataArray") from error
    if array.dtype.kind not in "iuf":
        raise ValueError(f"axis {name} holds {array.dtype} values: must be numbers")
    if array.ndim != 1 or not array.size:
        raise ValueError(
            f"axis {name} has the shape {array.shape}: must be a 1-D array of one value or more, "
            "as in [1.5]"
        )
    return array.astype(float)


def _layout(
    axes: Mapping[str, Any], values: Mapping[str, np.ndarray], taken: tuple[str, ...]
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """A dimension a plain axis, of its name; one a shared dimension of xarray.DataArrays."""
    along: dict[str, list[str]] = {}
    plain = {name for name, axis in axes.items() if not hasattr(axis, "dims")}
    for name, axis in axes.items():
        dim = name if name in plain else str(axis.dims[0])
        along.setdefault(dim, []).append(name)
        if dim in NAMED:
            raise ValueError(f"axis {name} has the dimension {dim!r}, which results use: rename it")
        if dim in taken and dim not in axes:
            raise ValueError(
                f"axis {name} has the dimension {dim!r}, but {dim} is no axis: rename it"
            )
    for dim, sharing in along.items():
        if len(sharing) > 1 and plain.intersection(sharing):
            raise ValueError(
                f"two axes of one name, {dim!r}: {' and '.join(sharing)}; give paired values as "
                "xarray.DataArrays that share a dimension of another name"
            )
        sizes = {name: values[name].size for name in sharing}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"axes along {dim!r} differ in length: {sizes}")
    return tuple((dim, tuple(sharing)) for dim, sharing in along.items())


def _check(params: Any, values: Mapping[str, np.ndarray], layout: Any) -> None:
    """Every axis within its domain, and every network of the sweep one that can be."""
    for name in f.names(params):
        if name not in values and np.ndim(f.read(params, name)):
            raise ValueError(
                f"{name} has the shape {np.shape(f.read(params, name))}: give a sweep one network, "
                "and what varies as an axis"
            )
    found = []
    for name, axis in values.items():
        field = f.MATRIX if name in f.ENTRIES else name
        unit, domain = FIELDS.get(field, ("", f.REAL))
        found.append(f.complaint(name, axis, domain, unit))
    f.raise_all(found, _ADVICE)
    spread = {}
    for position, (_, along) in enumerate(layout):
        shape = [-1 if i == position else 1 for i in range(len(layout))]
        fields = (name for name in along if name not in f.ENTRIES)  # one by one, above
        spread |= {name: values[name].reshape(shape) for name in fields}
    network = f.write(params, spread)
    if isinstance(network, NetworkParams):
        network.check()
    else:
        f.raise_all(complaints(network), _ADVICE)


def _coords(axes: Mapping[str, Any], params: Any) -> dict[str, Any]:
    """The other 1-D coordinates of the axes that are DataArrays, such as a sample's number."""
    found: dict[str, Any] = {}
    for axis in axes.values():
        for name, coord in getattr(axis, "coords", {}).items():
            if name in axes or coord.ndim != 1:
                continue
            if name in f.names(params):
                raise ValueError(
                    f"an axis has the coordinate {name!r}, but {name} is no axis: drop it"
                )
            if name in found and not found[name].equals(coord.variable):
                raise ValueError(f"two axes have different coordinates {name!r}")
            found[str(name)] = coord.variable
    return found
