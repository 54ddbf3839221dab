"""Indices of points in a block and in the sweep, and what of a block is counted."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from numpy.typing import DTypeLike

# The flat index of no point. A block has at most 2^28 points, so that no point has this index.
NO_INDEX = np.iinfo(np.int32).max


def is_float(dtype: DTypeLike) -> bool:
    """Return whether a dtype is float32 or float64.

    Raises:
        ValueError: values of the dtype cannot be compared in 64 bits.
    """
    dtype = np.dtype(dtype)
    if dtype in (np.float32, np.float64):
        return True
    if dtype.kind not in "biu" or dtype == np.uint64:
        raise ValueError(f"a value is {dtype}: must be float32, float64, int64 or less, or bool")
    return False


def is_number(values: Array, valid: Array) -> Array:
    """Return which elements are neither padding nor NaN."""
    if is_float(values.dtype):
        return valid & ~jnp.isnan(values)
    return jnp.broadcast_to(valid, values.shape)


def first_index(where: Array, axes: tuple[int, ...]) -> Array:
    """Return the smallest flat index where a condition holds; NO_INDEX where it never does."""
    index = flat_index(where.shape, axes)
    return jnp.min(jnp.where(where, index, NO_INDEX), axes)


def flat_index(shape: tuple[int, ...], axes: tuple[int, ...]) -> Array:
    """Return the index of each element within the reduced axes, counted in C order."""
    index = jnp.zeros(shape, jnp.int32)
    for axis in axes:
        index = index * np.int32(shape[axis]) + lax.broadcasted_iota(jnp.int32, shape, axis)
    return index


def global_index(flat: np.ndarray, shape: Sequence[int], starts: Sequence[int]) -> np.ndarray:
    """Convert flat indices in a block to indices in the sweep, (..., dims); -1 for no point."""
    index = np.stack(np.unravel_index(np.where(flat == NO_INDEX, 0, flat), shape), -1)
    index += np.asarray(starts)
    index[flat == NO_INDEX] = -1
    return index


def is_index_before(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return where an index (..., dims) comes before another in C order."""
    before = np.zeros(first.shape[:-1], bool)
    for dim in reversed(range(first.shape[-1])):
        a, b = first[..., dim], second[..., dim]
        before = (a < b) | ((a == b) & before)
    return before
