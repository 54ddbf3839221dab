"""Labels of results: the dimensions, coordinates and units of what a function returns."""

import contextlib
import contextvars
import dataclasses
import functools
import math
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

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


class Labels(NamedTuple):
    """What is known of an array.

    attributes: texts by name, as units and long_name
    last_dimension: the name of its last axis, if that runs over E and I
    find_unit: of a function whose unit depends on its arguments, for which it returns the unit
    """

    attributes: Mapping[str, str]
    last_dimension: str = ""
    find_unit: Callable[..., str] | None = None

    def of_call(self, *args: Any, **kwargs: Any) -> "Labels":
        """Return the labels of what the function returns for these arguments."""
        if self.find_unit is None:
            return self
        attributes = {**self.attributes, "units": self.find_unit(*args, **kwargs)}
        return Labels(attributes, self.last_dimension)


_NO_LABELS = Labels({})
# of functions with `label`; no attribute, which functools.wraps would copy to other functions
_function_labels: dict[Callable[..., Any], Labels] = {}
_RecordedLabels = dict[int, tuple[weakref.ref[Any], Labels]]
# the labels of arrays by id; None outside of a `record_labels` block. Each thread has its own.
_recorded_labels: contextvars.ContextVar[_RecordedLabels | None] = contextvars.ContextVar(
    "recorded_labels", default=None
)
_JIT_METHODS = ("lower", "trace", "eval_shape", "clear_cache")
_JitFunction = type(jax.jit(lambda: None))


def label(
    last_dimension: str = "",
    find_unit: Callable[..., str] | None = None,
    **attributes: str,
) -> Callable[[Function], Function]:
    """Make a decorator that notes the attributes (units, long_name) of a function's result.

    In a `record_labels` block a call of the function records the labels of the array that it
    returns, or of all arrays in the object that it returns. So `label_result` finds them in
    whatever a lambda, a functools.partial or a function of the user returns that array.

    last_dimension: the name of the result's last axis, if that runs over E and I.
    find_unit: returns the unit for the arguments of a call, where it depends on them. The unit
        in `attributes` is the usual one.
    """
    labels = Labels(attributes, last_dimension, find_unit)

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def labelled(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            recorded = _recorded_labels.get()
            if recorded is not None:
                call_labels = labels.of_call(*args, **kwargs)
                for _, array, array_labels in _arrays("", result, call_labels):
                    # weak, so that no tracer outlives its trace; it also shows whether the
                    # array of a later look-up is this one, and not a new one of the same id
                    recorded[id(array)] = (weakref.ref(array), array_labels)
            return result

        # the methods of a compiled function are not in its __dict__, which `wraps` copies
        for name in _JIT_METHODS:
            if hasattr(function, name):
                setattr(labelled, name, getattr(function, name))
        _function_labels[labelled] = labels
        return cast(Function, labelled)

    return decorate


@contextlib.contextmanager
def record_labels() -> Iterator[None]:
    """Record the labels of what functions with `label` return, for `label_result` in the block."""
    token = _recorded_labels.set({})
    try:
        yield
    finally:
        _recorded_labels.reset(token)


def labelled_field(unit: str, long_name: str, last_dimension: str = "") -> Any:
    """Make a dataclass field for an array of a result, with its labels; unit "" is a pure number.

    A mapping in the field gives all of its arrays these labels.
    """
    metadata = {"unit": unit, "long_name": long_name, "last_dimension": last_dimension}
    return dataclasses.field(metadata=metadata)


def function_name(fn: Callable[..., Any]) -> str:
    """Return the name of a function; "result" for a lambda."""
    name = getattr(_innermost(fn), "__name__", "<lambda>")
    return "result" if name == "<lambda>" else name


def function_quantity(fn: Callable[..., Any], params: object) -> tuple[str, str]:
    """Return the long name and the unit of fn(params); else the name of fn, and "".

    The unit of a pure number is "".
    """
    labels = _function_labels.get(_innermost(fn), _NO_LABELS)
    # a partial calls its function with other arguments
    if not isinstance(fn, functools.partial):
        labels = labels.of_call(params)
    attributes = labels.attributes
    unit = attributes.get("units", "")
    return attributes.get("long_name", function_name(fn)), "" if unit == "1" else unit


def _innermost(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that a functools.partial or a compiled function calls."""
    while isinstance(fn, functools.partial | _JitFunction):
        fn = getattr(fn, "func" if isinstance(fn, functools.partial) else "__wrapped__")
    return fn


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


def label_result(
    fn: Callable[..., Any], result: object, as_array: Callable[[Any], Any] = jnp.asarray
) -> dict[str, Variable]:
    """Return what fn returned as variables by name.

    The labels of an array are those that the metadata of its dataclass field gives ("unit",
    "long_name", "last_dimension"; see `labelled_field`), those of fn, and those of the function
    with `label` that returned this very array in the same `record_labels` block. An array that
    was changed afterwards, or returned by a compiled function within fn, has none.

    Args:
        fn: the function; a result without names gets its name.
        result: an array, a mapping, a named tuple or a dataclass of arrays, an
            xarray.DataArray or an xarray.Dataset, whose labels are kept. A mapping or dataclass
            may hold others: their arrays are named by their path, "warnings.low_rate". Fields
            of a dataclass that are static, text or None are left out. An array that ends in
            (2, 2) gets the dimensions target and source; other dimensions are numbered.
        as_array: makes an array of what the result holds; numpy.asarray does not start JAX.

    Raises:
        ValueError: the result is or holds something else, which is named; two arrays have one
            name.
    """
    variables = {}
    # a compiled fn returns other arrays than the function with `label`
    fn_labels = _function_labels.get(_innermost(fn), _NO_LABELS)
    for path, array, holder_labels in _arrays("", result, fn_labels):
        name = path or str(getattr(result, "name", None) or function_name(fn))
        if name in variables:
            raise ValueError(f"two results are called {name!r}: rename one")
        array_labels = _find_recorded(array)
        attributes = {**array_labels.attributes, **holder_labels.attributes}
        if holder_labels is fn_labels:
            # what was recorded of a call knows its arguments, on which the unit may depend
            attributes.update(array_labels.attributes)
        merged = Labels(attributes, holder_labels.last_dimension or array_labels.last_dimension)
        variables[name] = _label_array(name, array, merged, as_array)
    return variables


def _find_recorded(array: object) -> Labels:
    """Return the labels that were recorded for this very array."""
    recorded = _recorded_labels.get() or {}
    reference, labels = recorded.get(id(array), (None, _NO_LABELS))
    return labels if reference is not None and reference() is array else _NO_LABELS


def _arrays(path: str, value: Any, labels: Labels) -> Iterator[tuple[str, Any, Labels]]:
    """Yield path, array and labels of each array in a result.

    labels: what is known of the value by its function or by the field that holds it
    """
    prefix = f"{path}." if path else ""
    # an xarray.Dataset is a mapping of its coordinates as well
    value = getattr(value, "data_vars", value)
    if hasattr(value, "_asdict"):  # a named tuple
        value = value._asdict()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            child = getattr(value, field.name)
            is_text = isinstance(child, str | bytes)
            if child is not None and not is_text and not field.metadata.get("static"):
                yield from _arrays(prefix + field.name, child, _field_labels(field))
    elif isinstance(value, Mapping):
        for key, child in value.items():
            yield from _arrays(f"{prefix}{key}", child, labels)
    else:
        yield path, value, labels


def _field_labels(field: dataclasses.Field[Any]) -> Labels:
    """Return the labels in the metadata of a field."""
    # other libraries use these keys for values of other types
    texts = {key: text for key, text in field.metadata.items() if isinstance(text, str)}
    attributes = {}
    if "unit" in texts:
        attributes["units"] = texts["unit"] or "1"
    if "long_name" in texts:
        attributes["long_name"] = texts["long_name"]
    return Labels(attributes, texts.get("last_dimension", ""))


def _label_array(
    name: str, array: object, labels: Labels, as_array: Callable[[Any], Any]
) -> Variable:
    if hasattr(array, "dims"):
        return _from_xarray(cast("xarray.DataArray", array), as_array)
    if not isinstance(array, Array | np.ndarray | np.generic | complex | float | int):
        raise ValueError(
            f"{name} is a {type(array).__name__}: a function must return an array, a mapping "
            "or dataclass of arrays, or an xarray object"
        )
    data = as_array(array)
    dimension = labels.last_dimension
    coords: Coordinates = ()
    if dimension and data.shape[-1:] == (2,):
        coords = ((dimension, (dimension,), ("E", "I")),)
    elif data.shape[-2:] == (2, 2):
        coords = MATRIX_COORDINATES
    named = tuple(coordinate[0] for coordinate in coords)
    numbered = tuple(f"{name}_dim_{i}" for i in range(data.ndim - len(named)))
    return Variable(data, (*numbered, *named), coords, tuple(labels.attributes.items()))


def _from_xarray(array: "xarray.DataArray", as_array: Callable[[Any], Any]) -> Variable:
    coords = []
    for name, coord in array.coords.items():
        if coord.ndim == 1:
            values = tuple(np.ravel(coord.values).tolist())
            coords.append((str(name), tuple(map(str, coord.dims)), values))
    attributes = tuple((str(name), str(value)) for name, value in array.attrs.items())
    dims = tuple(map(str, array.dims))
    return Variable(as_array(array.data), dims, tuple(coords), attributes)


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
    return encode_text(xr.Dataset(arrays, coords={**coords, **result_coords}, attrs=attrs))


def encode_text(dataset: "xarray.Dataset") -> "xarray.Dataset":
    """Return a dataset whose text coordinates xarray writes as strings of variable length.

    Zarr warns of NumPy's texts of fixed length, because its format 3 does not specify them.
    """
    for name in dataset.coords:
        # as dataset.coords[name] it would be a DataArray, which takes longer to make
        coord = dataset.variables[name]
        if coord.dtype.kind == "U":
            coord.encoding["dtype"] = np.dtypes.StringDType()
    return dataset
