"""How a sweep is split: hyper-rectangular blocks of whole chunks, on Python's integers."""

import dataclasses
import math
from typing import Any

import jax
import numpy as np

_CPU_BYTES = 2**23  # a C library reuses arrays of this size, and keeps little of them when freed
_GPU_BYTES = 2**28  # large enough that launching kernels costs nothing beside them
_CHUNK_BYTES = 2**25
_MOST_POINTS = 2**28  # so that counts and exact sums of one block fit 32 and 64 bits


@dataclasses.dataclass(frozen=True)
class Blocks:
    """Blocks of one shape that cover a grid; those at the far ends reach beyond it.

    sizes: points along each dimension
    shape: points of a block along each, a multiple of `chunk`
    chunk: points of a chunk along each
    """

    sizes: tuple[int, ...]
    shape: tuple[int, ...]
    chunk: tuple[int, ...]

    @property
    def grid(self) -> tuple[int, ...]:
        """Blocks along each dimension."""
        return tuple(map(_ceil_div, self.sizes, self.shape))

    @property
    def count(self) -> int:
        """Blocks in all."""
        return math.prod(self.grid)

    def index(self, number: int) -> tuple[int, ...]:
        """Place of a block in the grid of blocks, counted in C order."""
        place = []
        for length in reversed(self.grid):
            number, i = divmod(number, length)
            place.append(i)
        return tuple(reversed(place))

    def region(self, number: int) -> tuple[slice, ...]:
        """The points of a block, those beyond the end left out."""
        return tuple(
            slice(i * step, min((i + 1) * step, size))
            for i, step, size in zip(self.index(number), self.shape, self.sizes, strict=True)
        )

    def points(self, number: int) -> int:
        """How many points a block has."""
        return math.prod(part.stop - part.start for part in self.region(number))


def plan(sizes: tuple[int, ...], point_bytes: int, block_size: Any) -> Blocks:
    """Blocks of about block_size points, by default of a size that suits the device.

    Raises:
        ValueError: a block_size that is no whole number from 1 to 2^28.
    """
    if block_size is None:
        room = _CPU_BYTES if jax.default_backend() == "cpu" else _GPU_BYTES
        block_size = min(max(room // point_bytes, 1), _MOST_POINTS)
    whole = isinstance(block_size, int | np.integer) and not isinstance(block_size, bool)
    if not whole or not 1 <= block_size <= _MOST_POINTS:
        raise ValueError(
            f"block_size={block_size!r}: must be a whole number of points from 1 to {_MOST_POINTS}"
        )
    block_size = int(block_size)
    chunk = _fill(sizes, max(min(block_size, _CHUNK_BYTES // point_bytes), 1))
    steps = tuple(map(_ceil_div, sizes, chunk))
    times = _fill(steps, max(block_size // math.prod(chunk), 1))
    return Blocks(sizes, tuple(c * t for c, t in zip(chunk, times, strict=True)), chunk)


def whole(sizes: tuple[int, ...]) -> Blocks:
    """One block of everything."""
    return Blocks(sizes, sizes, sizes)


def _fill(sizes: tuple[int, ...], limit: int) -> tuple[int, ...]:
    """A shape of up to `limit` points, the last dimensions whole and each split evenly."""
    shape = []
    for size in reversed(sizes):
        shape.append(_ceil_div(size, _ceil_div(size, limit)))
        limit = max(limit // shape[-1], 1)
    return tuple(reversed(shape))


def _ceil_div(number: int, divisor: int) -> int:
    return -(-number // divisor)
