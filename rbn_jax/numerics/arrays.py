"""Dtypes and domains of the arrays that a formula takes."""

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

Function = TypeVar("Function", bound=Callable[..., object])


def formula(function: Function) -> Function:
    """Compile a formula of arrays, and let it take all real dtypes.

    The formula itself computes in float32 or float64; see `in_single_precision`. The result has
    the type of the function, for type checkers and editors. An argument `synapse` is the name of
    one, for each of which the formula is compiled.
    """
    has_synapse = "synapse" in inspect.signature(function).parameters
    choices = ["synapse"] if has_synapse else []
    # the dtypes are looked at while JAX traces the function, which takes no time in later calls
    return cast(Function, jax.jit(in_single_precision(function), static_argnames=choices))


def in_single_precision(function: Function) -> Function:
    """Let a function compute in float32 where its arguments are in half precision.

    Arguments are arrays, and pytrees and lists of them. Those in float16 and bfloat16 become
    float32. If the common dtype of all arguments, as JAX promotes them, is one of these, the
    floating arrays of the result get it.

    Raises:
        TypeError: an argument is complex; the message has its name.
    """

    @functools.wraps(function)
    def compute(*args: Any, **kwargs: Any) -> Any:
        leaves, tree = jax.tree.flatten((args, kwargs))
        if any(_is_complex(leaf) for leaf in leaves):
            refuse_complex(**inspect.signature(function).bind_partial(*args).arguments, **kwargs)
        if not any(_is_half(leaf) for leaf in leaves):
            return function(*args, **kwargs)
        values = []
        for argument in (*args, *kwargs.values()):
            # a list is one array, whose numbers do not adapt to the dtype of the others
            values += jax.tree.leaves(argument, is_leaf=lambda node: type(node) in (list, tuple))
        dtype = _common_dtype(value for value in values if _is_number(value))
        leaves = [_to_single(leaf) if _is_half(leaf) else leaf for leaf in leaves]
        args, kwargs = jax.tree.unflatten(tree, leaves)
        result = function(*args, **kwargs)
        if dtype.itemsize >= 4:
            return result
        return jax.tree.map(lambda leaf: leaf.astype(dtype) if _is_floating(leaf) else leaf, result)

    return cast(Function, compute)


def refuse_complex(**arguments: object) -> None:
    """Raise a TypeError that names the arguments that hold complex numbers, if there are any."""
    names = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(arguments):
        if _is_complex(leaf):
            names.append(jax.tree_util.keystr(path, simple=True, separator="."))
    if names:
        raise TypeError(f"{', '.join(names)}: complex numbers, where real ones are needed")


def _dtype(leaf: object) -> Any:
    """Return the dtype of an array, or the type of a Python number."""
    return getattr(leaf, "dtype", type(leaf))


def _is_number(value: object) -> bool:
    return hasattr(value, "dtype") or isinstance(value, list | tuple | complex | float | int)


def _is_complex(leaf: object) -> bool:
    return _is_number(leaf) and jnp.issubdtype(_dtype(leaf), jnp.complexfloating)


def _is_floating(leaf: object) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(_dtype(leaf), jnp.floating)


def _is_half(leaf: object) -> bool:
    """Return whether an array is floating with fewer bits than float32."""
    return _is_floating(leaf) and _dtype(leaf).itemsize < 4


def _to_single(leaf: Any) -> Any:
    return leaf.astype(np.float32)


def _common_dtype(values: Iterable[Any]) -> np.dtype:
    """Return the floating dtype that JAX promotes the values to; of integers alone its default."""
    arrays = []
    for value in values:
        arrays.append(jnp.asarray(value) if isinstance(value, list | tuple) else value)
    dtype = jnp.result_type(*arrays)
    if jnp.issubdtype(dtype, jnp.complexfloating):
        raise TypeError("complex numbers, where real ones are needed")
    return dtype if jnp.issubdtype(dtype, jnp.floating) else jnp.result_type(float)


def as_floats(*values: ArrayLike) -> tuple[Array, ...]:
    """Convert to arrays of the common floating dtype; integers alone get JAX's default float.

    Numbers in half precision alone get float32, for which the kernels have coefficients.

    Raises:
        TypeError: a value is complex.
    """
    dtype = _common_dtype(values)
    if dtype.itemsize < 4:
        dtype = np.dtype(np.float32)
    arrays = []
    for value in values:
        arrays.append(jnp.asarray(value, dtype))
    return tuple(arrays)


def same_rank(*arrays: Array) -> tuple[Array, ...]:
    """Return the arrays with axes of length 1 in front: all have one rank, but numbers have none.

    Formulas then broadcast under `jax_numpy_rank_promotion="raise"`. `broadcast_any_rank` is not
    enough for derivative rules, which JAX may call after the function has returned.
    """
    ndim = max(array.ndim for array in arrays)
    results = []
    for array in arrays:
        missing = ndim - array.ndim if array.ndim else 0
        results.append(jnp.expand_dims(array, range(missing)))
    return tuple(results)


def broadcast_any_rank(function: Function) -> Function:
    """Let arrays of different ranks broadcast in a function, whatever JAX is set to."""

    @functools.wraps(function)
    def compute(*args: Any, **kwargs: Any) -> Any:
        with jax.numpy_rank_promotion("allow"):
            return function(*args, **kwargs)

    return cast(Function, compute)


def nan_unless(inside: Array, values: Array) -> Array:
    """Return the values where `inside` holds, and NaN elsewhere.

    The values are multiplied by NaN, not replaced by it: the derivatives of a constant would be 0.
    """
    return values * jnp.where(inside, jnp.ones_like(values), jnp.nan)


def positive(values: Array) -> Array:
    """Return the values that are positive, finite and not subnormal, and NaN elsewhere."""
    return nan_unless((values >= jnp.finfo(values.dtype).tiny) & (values < jnp.inf), values)
