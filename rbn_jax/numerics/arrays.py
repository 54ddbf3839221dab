"""Dtypes and domains of the arrays that a formula takes."""

from collections.abc import Callable
from typing import TypeVar, cast

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

Function = TypeVar("Function", bound=Callable[..., object])


def jit(function: Function) -> Function:
    """Return `jax.jit(function)` with the type of the function, for type checkers and editors."""
    return cast(Function, jax.jit(function))


def as_floats(*values: ArrayLike) -> tuple[Array, ...]:
    """Convert to arrays of the common floating dtype; integers alone get JAX's default float."""
    arrays = []
    for value in values:
        arrays.append(jnp.asarray(value) if isinstance(value, list | tuple) else value)
    dtype = jnp.result_type(*arrays)
    if not jnp.issubdtype(dtype, jnp.floating):
        dtype = jnp.result_type(float)
    return tuple(jnp.asarray(array, dtype) for array in arrays)


def nan_unless(inside: Array, values: Array) -> Array:
    """Return the values where `inside` holds, and NaN elsewhere.

    The values are multiplied by NaN, not replaced by it: the derivatives of a constant would be 0.
    """
    return values * jnp.where(inside, jnp.ones_like(values), jnp.nan)


def positive(values: Array) -> Array:
    """Return the values that are positive, finite and not subnormal, and NaN elsewhere."""
    return nan_unless((values >= jnp.finfo(values.dtype).tiny) & (values < jnp.inf), values)
