"""Labels of results: the dimensions, coordinates and units of what a function returns."""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from rbn_jax.parameters.optional import require

if TYPE_CHECKING:
    import xarray

Function = TypeVar("Function", bound=Callable[..., Any])
Coordinates = tuple[tuple[str, tuple[str, ...], tuple[Any, ...]], ...]
"""(name, dimensions, values) of each coordinate."""

MATRIX_COORDINATES: Coordinates = (
    ("target", ("target",), ("E", "I")),
    ("source", ("source",), ("E", "I")),
)
"""The coordinates of a (2, 2) matrix: rows are targets, columns sources."""

RESULT_DIMENSIONS = ("target", "source", "parameter", "population")
"""Names of the dimensions that results have themselves; no axis of a sweep has such a name."""


def label(last_dimension: str = "", **attributes: str) -> Callable[[Function], Function]:
    """Make a decorator that notes the attributes (units, long_name) of a function's result.

    last_dimension: the name of the result's last axis, if that runs over E and I.
    """

    def decorate(function: Function) -> Function:
        vars(function)["result_attributes"] = attributes
        vars(function)["last_dimension"] = last_dimension
        return function

    return decorate


def function_name(fn: Callable[..., Any]) -> str:
    """Return the name of a function; "result" for a lambda."""
    name = getattr(fn, "__name__", None)
    if name is None and hasattr(fn, "func"):  # functools.partial
        return function_name(fn.func)  # pyright: ignore[reportFunctionMemberAccess]
    return "result" if name in (None, "<lambda>") else name


@contextlib.contextmanager
def explain_trace_errors(fn: Callable[..., Any]) -> Iterator[None]:
    """Raise a ValueError with advice where fn does what JAX cannot trace."""
    try:
        yield
    except (
        jax.errors.ConcretizationTypeError,
        jax.errors.TracerArrayConversionError,
        jax.errors.TracerIntegerConversionError,
    ) as error:
        raise ValueError(
            f"{function_name(fn)} does what JAX cannot trace: compute with jax.numpy in place of "
            "numpy and jax.numpy.where in place of if, also in the constructor of its parameters"
        ) from error


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Variable:
    """An array with its labels, which are static, so that it passes through jit and vmap."""

    data: Any
    dims: tuple[str, ...] = dataclasses.field(metadata={"static": True})
    coords: Coordinates = dataclasses.field(default=(), metadata={"static": True})
    attrs: tuple[tuple[str, str], ...] = dataclasses.field(default=(), metadata={"static": True})

    def with_data(self, data: object) -> "Variable":
        """Return a variable with other data and the same labels."""
        return dataclasses.replace(self, data=data)

    @property
    def nbytes(self) -> int:
        """The bytes that the data take."""
        return math.prod(self.data.shape) * self.data.dtype.itemsize


def label_result(fn: Callable[..., Any], result: object) -> dict[str, Variable]:
    """Return what fn returned as variables by name.

    Args:
        fn: the function; its name and its attributes from `label` are used.
        result: an array, a mapping of arrays, an xarray.DataArray or an xarray.Dataset, whose
            labels are kept. An array that ends in (2, 2) gets the dimensions target and source;
            the dimensions of any other are numbered.

    Raises:
        ValueError: the result is something else.
    """
    # an xarray.Dataset is a mapping of its coordinates as well
    variables = getattr(result, "data_vars", result)
    if isinstance(variables, Mapping):
        return {str(name): _label_array(str(name), array) for name, array in variables.items()}
    name = str(getattr(result, "name", None) or function_name(fn))
    attributes = tuple(getattr(fn, "result_attributes", {}).items())
    last_dimension = getattr(fn, "last_dimension", "")
    return {name: _label_array(name, result, attributes, last_dimension)}


def _label_array(
    name: str,
    array: object,
    attributes: tuple[tuple[str, str], ...] = (),
    last_dimension: str = "",
) -> Variable:
    if hasattr(array, "dims"):
        return _from_xarray(cast("xarray.DataArray", array))
    if not isinstance(array, Array | np.ndarray | np.generic | float | int):
        raise ValueError(
            f"{name} is a {type(array).__name__}: a function must return an array, a mapping "
            "of arrays, or an xarray object"
        )
    data = jnp.asarray(array)
    coords: Coordinates = ()
    if last_dimension and data.shape[-1:] == (2,):
        coords = ((last_dimension, (last_dimension,), ("E", "I")),)
    elif data.shape[-2:] == (2, 2):
        coords = MATRIX_COORDINATES
    named = tuple(coordinate[0] for coordinate in coords)
    numbered = tuple(f"{name}_dim_{i}" for i in range(data.ndim - len(named)))
    return Variable(data, (*numbered, *named), coords, attributes)


def _from_xarray(array: "xarray.DataArray") -> Variable:
    coords = []
    for name, coord in array.coords.items():
        if coord.ndim == 1:
            values = tuple(np.ravel(coord.values).tolist())
            coords.append((str(name), tuple(map(str, coord.dims)), values))
    attributes = tuple((str(name), str(value)) for name, value in array.attrs.items())
    dims = tuple(map(str, array.dims))
    return Variable(jnp.asarray(array.data), dims, tuple(coords), attributes)


def to_dataset(
    variables: Mapping[str, Variable],
    dims: tuple[str, ...] = (),
    coords: Mapping[str, Any] | None = None,
    attrs: Mapping[str, str] | None = None,
) -> "xarray.Dataset":
    """Make an xarray.Dataset of variables whose first dimensions are `dims`.

    The arrays are read-only views of JAX's where that is possible, tracers under a trace.

    Raises:
        ValueError: two variables have different coordinates of one name; a variable has the name
            of one of its axes, or a dimension that is an axis of the sweep.
    """
    xr = require("xarray", "sweep")
    coords = dict(coords or {})
    result_coords: dict[str, tuple[tuple[str, ...], list[Any]]] = {}
    for variable in variables.values():
        for name, coord_dims, values in variable.coords:
            coordinate = (coord_dims, list(values))
            if result_coords.setdefault(name, coordinate) != coordinate:
                raise ValueError(f"results have different coordinates {name!r}: rename one")
    arrays = {}
    for name, variable in variables.items():
        if name in {*dims, *variable.dims, *coords, *result_coords}:
            raise ValueError(f"a result and one of its axes are both called {name!r}: rename one")
        if clash := set(dims) & set(variable.dims):
            raise ValueError(
                f"{name} has the dimension {clash.pop()!r}, which is an axis: rename it"
            )
        data = variable.data
        if not isinstance(data, Tracer):
            data = np.asarray(data)
        arrays[name] = ((*dims, *variable.dims), data, dict(variable.attrs))
    return xr.Dataset(arrays, coords={**coords, **result_coords}, attrs=attrs)
