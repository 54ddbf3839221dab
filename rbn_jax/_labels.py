"""Names on numbers: the dimensions, coordinates and units of what a function returns."""

import contextlib
import dataclasses
import importlib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

F = TypeVar("F", bound=Callable[..., Any])
Coords = tuple[tuple[str, tuple[str, ...], tuple[Any, ...]], ...]

POPULATIONS = (("target", ("target",), ("E", "I")), ("source", ("source",), ("E", "I")))
"""The coordinates of a (2, 2) matrix: rows are targets, columns sources."""

NAMED = ("target", "source", "parameter", "population")
"""The dimensions that results have of their own; no axis is called so."""


def require(module: str, extra: str) -> Any:
    """An optional module, or an ImportError that names the extra to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f"{module} is missing: pip install 'rbn_jax[{extra}]'") from error


def labels(last: str = "", **attrs: str) -> Callable[[F], F]:
    """A decorator that notes the attributes (units, long_name) of a function's result.

    last: the name of the result's last axis if it runs over E and I.
    """

    def note(function: F) -> F:
        vars(function)["labels"], vars(function)["last"] = attrs, last
        return function

    return note


def name_of(fn: Callable[..., Any]) -> str:
    """The function's name; "result" for one that has none."""
    name = getattr(fn, "__name__", None) or name_of(getattr(fn, "func", lambda: None))
    return "result" if name == "<lambda>" else name


@contextlib.contextmanager
def traced(fn: Callable[..., Any]) -> Iterator[None]:
    """Where JAX traces a function: ValueError if it does what JAX cannot trace."""
    try:
        yield
    except (
        jax.errors.ConcretizationTypeError,
        jax.errors.TracerArrayConversionError,
        jax.errors.TracerIntegerConversionError,
    ) as error:
        raise ValueError(
            f"{name_of(fn)} does what JAX cannot trace: compute with jax.numpy in place of numpy, "
            "and with jax.numpy.where in place of if"
        ) from error


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Variable:
    """An array with its labels, which are static, so that it passes through jit and vmap."""

    data: Any
    dims: tuple[str, ...] = dataclasses.field(metadata={"static": True})
    coords: Coords = dataclasses.field(default=(), metadata={"static": True})
    attrs: tuple[tuple[str, str], ...] = dataclasses.field(default=(), metadata={"static": True})

    def like(self, data: Any) -> "Variable":
        """Other data with the same labels."""
        return dataclasses.replace(self, data=data)

    @property
    def nbytes(self) -> int:
        """The bytes that the data take."""
        return math.prod(self.data.shape) * self.data.dtype.itemsize


def variables(fn: Callable[..., Any], result: Any) -> dict[str, Variable]:
    """What fn returned, by name: an array, a mapping of arrays, or either as xarray has it.

    The labels of an xarray object are kept. An array that ends in (2, 2) has the dimensions
    target and source; any other is numbered.
    """
    if hasattr(result, "data_vars"):
        return {str(name): _from_xarray(array) for name, array in result.data_vars.items()}
    if isinstance(result, Mapping):
        return {str(name): _variable(str(name), value, ()) for name, value in result.items()}
    attrs = tuple(getattr(fn, "labels", {}).items())
    name = getattr(result, "name", None) or name_of(fn)
    return {str(name): _variable(str(name), result, attrs, getattr(fn, "last", ""))}


def _variable(
    name: str, value: Any, attrs: tuple[tuple[str, str], ...], last: str = ""
) -> Variable:
    if hasattr(value, "dims"):
        return _from_xarray(value)
    if not isinstance(value, jax.Array | np.ndarray | np.generic | float | int):
        raise ValueError(
            f"{name} is a {type(value).__name__}: a function must return an array, a mapping "
            "of arrays, or an xarray object"
        )
    data = jnp.asarray(value)
    if last and data.shape[-1:] == (2,):
        batch = tuple(f"{name}_dim_{i}" for i in range(data.ndim - 1))
        return Variable(data, (*batch, last), ((last, (last,), ("E", "I")),), attrs)
    if data.shape[-2:] != (2, 2):
        return Variable(data, tuple(f"{name}_dim_{i}" for i in range(data.ndim)), (), attrs)
    batch = tuple(f"{name}_dim_{i}" for i in range(data.ndim - 2))
    return Variable(data, (*batch, "target", "source"), POPULATIONS, attrs)


def _from_xarray(array: Any) -> Variable:
    coords = tuple(
        (str(name), tuple(map(str, coord.dims)), tuple(np.ravel(coord.values).tolist()))
        for name, coord in array.coords.items()
        if coord.ndim == 1
    )
    attrs = tuple((str(name), str(value)) for name, value in array.attrs.items())
    return Variable(jnp.asarray(array.data), tuple(map(str, array.dims)), coords, attrs)


def dataset(
    found: Mapping[str, Variable],
    dims: tuple[str, ...] = (),
    coords: Mapping[str, Any] | None = None,
    attrs: Mapping[str, str] | None = None,
) -> Any:
    """An xarray.Dataset of variables whose first dimensions are `dims`.

    The arrays are read-only views of JAX's where that is possible, tracers under a trace.
    """
    xr = require("xarray", "sweep")
    own: dict[str, Any] = {}
    for name, dims_of, values in (coord for x in found.values() for coord in x.coords):
        if own.setdefault(name, (dims_of, list(values))) != (dims_of, list(values)):
            raise ValueError(f"results have different coordinates {name!r}: rename one")
    for name, x in found.items():
        for taken in (*dims, *x.dims, *(coords or {}), *own):
            if taken == name:
                raise ValueError(
                    f"a result and one of its axes are both called {name!r}: rename one"
                )
        if clash := set(dims) & set(x.dims):
            raise ValueError(
                f"{name} has the dimension {clash.pop()!r}, which is an axis: rename it"
            )
    arrays = {name: ((*dims, *x.dims), _array(x.data), dict(x.attrs)) for name, x in found.items()}
    return xr.Dataset(arrays, coords={**(coords or {}), **own}, attrs=attrs)


def _array(data: Any) -> Any:
    return data if isinstance(data, Tracer) else np.asarray(data)
