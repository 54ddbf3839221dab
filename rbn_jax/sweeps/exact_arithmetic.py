"""Values as integers made of their bits, whose comparison and sum are exact in any order."""

import math
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import DTypeLike

# the flat index of no point; a block has 2^28 points at most
NO_INDEX = np.iinfo(np.int32).max
LOW_32_BITS = 2**32 - 1
# bits of the fraction of a float (IEEE 754)
FRACTION_BITS = {"float32": 23, "float64": 52}
# A sum of floats is a fixed-point number whose unit is the smallest subnormal number, 2^-149 or
# 2^-1074. It is held in limbs of 32 bits, as many as the largest float and 2^28 terms need.
LIMB_COUNT = {"float32": 11, "float64": 68}
INTEGER_LIMB_COUNT = 4
UNIT_EXPONENT = {INTEGER_LIMB_COUNT: 0, 11: -149, 68: -1074}


def is_float(dtype: DTypeLike) -> bool:
    """Return whether a dtype is one of the floats that are compared by their bits."""
    return str(dtype) in FRACTION_BITS


def integer_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """Return the signed integers as which the values of a dtype are compared."""
    if is_float(dtype):
        return np.dtype(f"int{8 * np.dtype(dtype).itemsize}")
    if np.dtype(dtype).kind not in "biu" or dtype == np.uint64:
        raise ValueError(f"a value is {dtype}: must be float32, float64, int64 or less, or bool")
    return np.dtype("int64")


def largest(dtype: DTypeLike) -> Any:
    """Return the largest integer of a dtype."""
    return np.dtype(dtype).type(np.iinfo(dtype).max)


def to_bits(values: Any, xp: ModuleType) -> Any:
    """Return values as signed integers; of floats, their bits."""
    dtype = integer_dtype(values.dtype)
    if not is_float(values.dtype):
        return values.astype(dtype)
    return values.view(dtype) if xp is np else lax.bitcast_convert_type(values, dtype)


def mirror_negative(bits: Any, xp: ModuleType) -> Any:
    """Convert the sign and magnitude of floats to two's complement, or back; -0 becomes -1."""
    return xp.where(bits < 0, bits ^ largest(bits.dtype), bits)


def to_rank(values: Any, reverse: bool, xp: ModuleType, equal_zeros: bool = False) -> Any:
    """Return integers in the order of the values, or in the reverse order.

    equal_zeros: give -0 and +0 the same rank
    """
    rank = to_bits(values, xp)
    if is_float(values.dtype):
        rank = mirror_negative(rank, xp)
        if equal_zeros:
            rank = xp.where(rank == -1, xp.zeros_like(rank), rank)
    rank = ~rank if reverse else rank
    if xp is np and is_float(values.dtype):
        rank = np.where(np.isnan(values), largest(rank.dtype), rank)
    return rank


def from_rank(rank: Array, reverse: bool, dtype: DTypeLike) -> Array:
    """Return the values of these ranks; the largest rank, which no float has, gives a NaN."""
    rank = ~rank if reverse else rank
    if not is_float(dtype):
        return rank.astype(dtype)
    return lax.bitcast_convert_type(mirror_negative(rank, jnp), dtype)


def magnitude_bits(values: Array) -> Array:
    """Return the bits of floats without the sign."""
    bits = to_bits(values, jnp)
    return bits & largest(bits.dtype)


def infinity_bits(dtype: DTypeLike) -> Any:
    """Return the bits of infinity."""
    return np.array(np.inf, dtype).view(integer_dtype(dtype))[()]


def is_number(values: Array, valid: Array) -> Array:
    """Return which values are neither padding nor NaN."""
    if not is_float(values.dtype):
        return jnp.broadcast_to(valid, values.shape)
    return valid & (magnitude_bits(values) <= infinity_bits(values.dtype))


def count_true(flags: Array, axes: tuple[int, ...]) -> Array:
    """Return how many flags are true, over some axes."""
    return jnp.sum(flags, axes, dtype=jnp.int64)


def smallest_where(integers: Array, where: Array, axes: tuple[int, ...]) -> Array:
    """Return the smallest of some integers; the largest of the dtype where there is none."""
    return jnp.min(jnp.where(where, integers, largest(integers.dtype)), axes)


def kept_shape(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """Return the lengths of the axes that are not reduced."""
    return tuple(length for axis, length in enumerate(shape) if axis not in axes)


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


def is_before(first: list[np.ndarray], second: list[np.ndarray]) -> np.ndarray:
    """Return where `first` is less than `second`: by the first arrays, if equal by the next."""
    before = np.zeros(first[0].shape, bool)
    for a, b in zip(reversed(first), reversed(second), strict=True):
        before = (a < b) | ((a == b) & before)
    return before


def edge_ranks(edges: tuple[float, ...], dtype: DTypeLike) -> np.ndarray:
    """Return the rank of the smallest value of the dtype >= each edge, and > the last one."""
    exact = np.asarray(edges)
    if is_float(dtype):
        # an edge may be beyond all values of the dtype
        with np.errstate(all="ignore"):
            nearest = exact.astype(dtype)
            next_up = np.nextafter(nearest, nearest.dtype.type(np.inf))
        rounded_up = np.where(nearest < exact, next_up, nearest)
        ranks = to_rank(rounded_up, False, np, equal_zeros=True)
        is_value = rounded_up[-1] == exact[-1]
    else:
        integers = [min(max(math.ceil(edge), -(2**63)), 2**63 - 2) for edge in edges]
        ranks = np.array(integers, np.int64)
        is_value = integers[-1] == exact[-1]
    # the last bin is closed
    ranks[-1] += is_value
    return ranks


def to_limbs(values: Array) -> tuple[Array, list[Array]]:
    """Split finite values into sum_i limb_i 2^(32 (position + i)) units, |limb_i| < 2^32.

    A float is m 2^e units, e >= 0, and position = e // 32: the limbs are those of m 2^(e % 32).
    """
    if not is_float(values.dtype):
        integers = values.astype(jnp.int64)
        return jnp.zeros(values.shape, jnp.int32), [integers & LOW_32_BITS, integers >> 32]
    width = FRACTION_BITS[str(values.dtype)]
    magnitude = magnitude_bits(values).astype(jnp.int64)
    biased_exponent = magnitude >> width
    # the leading bit of a normal number is not stored; subnormal numbers have none
    leading_bit = jnp.minimum(biased_exponent, 1) << width
    m = (magnitude & (2**width - 1)) | leading_bit
    e = jnp.maximum(biased_exponent, 1) - 1
    # m has 53 bits, so m 2^(e % 32) needs 85: it is shifted in two parts below 2^63
    low = (m & LOW_32_BITS) << (e & 31)
    high = ((m >> 32) << (e & 31)) + (low >> 32)
    sign = jnp.where(to_bits(values, jnp) < 0, jnp.int64(-1), jnp.int64(1))
    limbs = [sign * (low & LOW_32_BITS), sign * (high & LOW_32_BITS), sign * (high >> 32)]
    return (e >> 5).astype(jnp.int32), limbs[: 2 if values.dtype == jnp.float32 else 3]


def sum_limbs(values: Array, where: Array, axes: tuple[int, ...]) -> Array:
    """Return the sum of some values as limbs, (kept, limbs): of 2^28 values, each < 2^60."""
    count = LIMB_COUNT.get(str(values.dtype), INTEGER_LIMB_COUNT)
    bits = to_bits(values, jnp)
    # the sign bit is shifted out: -0 adds nothing either
    is_nonzero = where & (bits << 1 != 0 if is_float(values.dtype) else bits != 0)
    position, limbs = to_limbs(values)
    lowest = jnp.min(jnp.where(is_nonzero, position, np.int32(count)), initial=count)
    highest = jnp.max(jnp.where(is_nonzero, position, np.int32(-count)), initial=-count)

    def add_limb(j, sums):
        # computed again in each step: as arrays kept over the loop the limbs would take memory
        position, limbs = to_limbs(values)
        terms = jnp.zeros(values.shape, jnp.int64)
        for i, limb in enumerate(limbs):
            terms = jnp.where(is_nonzero & (position == j - np.int32(i)), limb, terms)
        return lax.dynamic_update_index_in_dim(sums, jnp.sum(terms, axes), j, 0)

    # only the limbs that some value reaches
    end = highest + np.int32(len(limbs))
    sums = jnp.zeros((count, *kept_shape(values.shape, axes)), jnp.int64)
    return jnp.moveaxis(lax.fori_loop(lowest, end, add_limb, sums), 0, -1)


def carry(limbs: np.ndarray, half: int) -> np.ndarray:
    """Return the same sum with limbs in [-half, 2^32 - half), except for the last."""
    limbs = limbs.copy()
    for j in range(limbs.shape[-1] - 1):
        carried = (limbs[..., j] + half) >> 32
        limbs[..., j] -= carried << 32
        limbs[..., j + 1] += carried
    return limbs
