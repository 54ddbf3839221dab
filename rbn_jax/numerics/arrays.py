"""Dtypes and domains of the arrays that a formula takes."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

Function = TypeVar("Function", bound=Callable[..., Any])


def jit(function: Function) -> Function:
    """`jax.jit` with the type of the function kept for type checkers and editors."""
    return cast(Function, jax.jit(function))


def as_floats(*values: ArrayLike) -> tuple[Array, ...]:
    """Convert to arrays of the common floating dtype; integers alone get JAX's default float."""
    arrays = []
    for value in values:
        arrays.append(jnp.asarray(value) if isinstance(value, list | tuple) else value)
    dtype = jnp.result_type(*arrays)
    if not jnp.issubdtype(dtype, jnp.floating):
        dtype = jnp.result_type(float)
    return tuple(jnp.asarray(value, dtype) for value in arrays)


def nan_unless(inside: Array, x: Array) -> Array:
    """Return x where `inside` holds, and NaN elsewhere.

    x is multiplied by NaN, not replaced by it: so the derivatives in x are NaN there too.
    """
    return x * jnp.where(inside, jnp.ones_like(x), jnp.nan)


def positive(x: Array) -> Array:
    """Return x where it is positive, finite and not subnormal, and NaN elsewhere."""
    return nan_unless((x >= jnp.finfo(x.dtype).tiny) & (x < jnp.inf), x)
