"""Values as integers made of their bits: what is compared and added so is exact in any order."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

NONE = np.iinfo(np.int32).max  # the flat index of no point; a block has 2^28 points at most
MASK = 2**32 - 1
FRACTION = {"float32": 23, "float64": 52}  # bits of the fraction
UNITS = {4: 0, 11: -149, 68: -1074}  # limbs of a sum: exponent of its unit, the dtype's least
LIMBS = {"float32": 11, "float64": 68}  # and 4 for integers


def is_float(dtype: Any) -> bool:
    """Whether a dtype is one of the floats that are compared by their bits."""
    return str(dtype) in FRACTION


def word_of(dtype: Any) -> Any:
    """The signed integers that a dtype's values are compared as."""
    if is_float(dtype):
        return np.dtype(f"int{8 * np.dtype(dtype).itemsize}")
    if np.dtype(dtype).kind not in "biu" or dtype == np.uint64:
        raise ValueError(f"a value is {dtype}: must be float32, float64, int64 or less, or bool")
    return np.dtype("int64")


def greatest(dtype: Any) -> Any:
    """The greatest integer of a dtype."""
    return np.dtype(dtype).type(np.iinfo(dtype).max)


def bits_of(x: Any, xp: Any) -> Any:
    """x as signed integers: of floats the bits."""
    word = word_of(x.dtype)
    if not is_float(x.dtype):
        return x.astype(word)
    return x.view(word) if xp is np else lax.bitcast_convert_type(x, word)


def mirrored(bits: Any, xp: Any) -> Any:
    """Signed magnitude, as floats have it, to two's complement, and back; -0 becomes -1."""
    return xp.where(bits < 0, bits ^ greatest(bits.dtype), bits)


def rank(x: Any, flip: bool, xp: Any, one_zero: bool = False) -> Any:
    """Integers in the order of x, or in the reverse; one_zero: -0 and +0 have the same."""
    rank = bits_of(x, xp)
    if is_float(x.dtype):
        rank = mirrored(rank, xp)
        if one_zero:
            rank = xp.where(rank == -1, xp.zeros_like(rank), rank)
    rank = ~rank if flip else rank
    if xp is np and is_float(x.dtype):
        rank = np.where(np.isnan(x), greatest(rank.dtype), rank)
    return rank


def unrank(rank: jax.Array, flip: bool, dtype: Any) -> jax.Array:
    """The values with these ranks; the greatest rank, that of no float, is a NaN."""
    rank = ~rank if flip else rank
    if not is_float(dtype):
        return rank.astype(dtype)
    return lax.bitcast_convert_type(mirrored(rank, jnp), dtype)


def magnitude_of(x: jax.Array) -> jax.Array:
    """The bits of floats without their sign."""
    bits = bits_of(x, jnp)
    return bits & greatest(bits.dtype)


def infinity(dtype: Any) -> Any:
    """The bits of infinity."""
    return np.array(np.inf, dtype).view(word_of(dtype))[()]


def is_number(x: jax.Array, valid: jax.Array) -> jax.Array:
    """Which elements of x are neither padding nor NaN."""
    if not is_float(x.dtype):
        return jnp.broadcast_to(valid, x.shape)
    return valid & (magnitude_of(x) <= infinity(x.dtype))


def count_of(which: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """How many are true, over some axes."""
    return jnp.sum(which, axes, dtype=jnp.int64)


def least(value: jax.Array, which: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """The least of some integers; the dtype's greatest where there are none."""
    return jnp.min(jnp.where(which, value, greatest(value.dtype)), axes)


def kept_of(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """The lengths of the other axes."""
    return tuple(n for i, n in enumerate(shape) if i not in axes)


def flat_index(shape: tuple[int, ...], axes: tuple[int, ...]) -> jax.Array:
    """The place of each element within the dimensions to reduce, in C order."""
    index = jnp.zeros(shape, jnp.int32)
    for axis in axes:
        index = index * np.int32(shape[axis]) + lax.broadcasted_iota(jnp.int32, shape, axis)
    return index


def global_index(flat: np.ndarray, shape: Sequence[int], starts: Sequence[int]) -> np.ndarray:
    """Flat indices within a block as indices within the sweep, (..., dims); -1 for none."""
    index = np.empty((*flat.shape, len(shape)), np.int64)
    rest = flat.astype(np.int64)
    for i in reversed(range(len(shape))):
        rest, within = np.divmod(rest, shape[i])
        index[..., i] = within + starts[i]
    index[flat == NONE] = -1
    return index


def before(a: list[np.ndarray], b: list[np.ndarray]) -> np.ndarray:
    """Whether a comes before b, compared by their first arrays, then the second, and so on."""
    before = np.zeros(a[0].shape, bool)
    for one, other in zip(reversed(a), reversed(b), strict=True):
        before = (one < other) | ((one == other) & before)
    return before


def edge_ranks(edges: tuple[float, ...], dtype: Any) -> np.ndarray:
    """The rank of the least value of the dtype >= each edge, and > the last one."""
    exact = np.asarray(edges)
    if is_float(dtype):
        with np.errstate(all="ignore"):  # an edge may be greater than all values, or less
            near = exact.astype(dtype)
            up = np.where(near < exact, np.nextafter(near, near.dtype.type(np.inf)), near)
        ranks = rank(up, False, np, one_zero=True)
        closed = up[-1] == exact[-1]
    else:
        whole = [min(max(math.ceil(edge), -(2**63)), 2**63 - 2) for edge in edges]
        ranks = np.array(whole, np.int64)
        closed = whole[-1] == exact[-1]
    ranks[-1] += closed
    return ranks


def pieces_of(x: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
    """Finite x as sum_i piece_i 2^(32 (j + i)) units: j and the pieces, below 2^32 each.

    A float is m 2^e units, e >= 0, with j = e // 32: the pieces are those of m 2^(e % 32).
    """
    if not is_float(x.dtype):
        m = x.astype(jnp.int64)
        return jnp.zeros(x.shape, jnp.int32), [m & MASK, m >> 32]
    width = FRACTION[str(x.dtype)]
    magnitude = magnitude_of(x).astype(jnp.int64)
    exponent = magnitude >> width
    hidden = jnp.minimum(exponent, 1) << width  # subnormal numbers have none
    m, e = (magnitude & (2**width - 1)) | hidden, jnp.maximum(exponent, 1) - 1
    low = (m & MASK) << (e & 31)  # < 2^63
    high = ((m >> 32) << (e & 31)) + (low >> 32)
    sign = jnp.where(bits_of(x, jnp) < 0, jnp.int64(-1), jnp.int64(1))
    pieces = [sign * piece for piece in (low & MASK, high & MASK, high >> 32)]
    return (e >> 5).astype(jnp.int32), pieces[: 2 if x.dtype == jnp.float32 else 3]


def limbs_of(x: jax.Array, which: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """The sum of x as limbs, (kept, limbs): of 2^28 points, each is below 2^60."""
    number = LIMBS.get(str(x.dtype), 4)
    used = which & (bits_of(x, jnp) << 1 != 0 if is_float(x.dtype) else bits_of(x, jnp) != 0)
    place = pieces_of(x)[0]
    lowest = jnp.min(jnp.where(used, place, np.int32(number)), initial=number)
    highest = jnp.max(jnp.where(used, place, np.int32(-number)), initial=-number)

    def add(j, limbs):
        place, pieces = pieces_of(x)
        limb = jnp.zeros(x.shape, jnp.int64)
        for i, piece in enumerate(pieces):
            limb = jnp.where(used & (place == j - np.int32(i)), piece, limb)
        return lax.dynamic_update_index_in_dim(limbs, jnp.sum(limb, axes), j, 0)

    end = highest + np.int32(len(pieces_of(x)[1]))
    limbs = jnp.zeros((number, *kept_of(x.shape, axes)), jnp.int64)
    return jnp.moveaxis(lax.fori_loop(lowest, end, add, limbs), 0, -1)


def carried(limbs: np.ndarray, half: int) -> np.ndarray:
    """The same sum with limbs in [-half, 2^32 - half), but for the last."""
    limbs = limbs.copy()
    for j in range(limbs.shape[-1] - 1):
        carry = (limbs[..., j] + half) >> 32
        limbs[..., j] -= carry << 32
        limbs[..., j + 1] += carry
    return limbs
