"""The blocks of a sweep: hyper-rectangles of whole chunks, counted in Python's integers."""

import dataclasses
import math

import jax

from rbn_jax.parameters.checks import to_whole_number

# The results of a block, in bytes. On a CPU, the C library reuses freed arrays of this size; larger
# ones go back to the system, which clears every page before it gives it out again.
_CPU_BLOCK_BYTES = 2**23
# On a GPU, launching kernels takes no noticeable time beside computing this much.
_GPU_BLOCK_BYTES = 2**28
_CHUNK_BYTES = 2**25
# A histogram counts the points of a block in 32 bits.
_MAX_BLOCK_POINTS = 2**28
# A reduction writes one file for each task: few enough files to look for all of them, and tasks
# short enough that little is lost when one is interrupted.
_MIN_TASK_BLOCKS = 8
_MAX_TASKS = 1024


@dataclasses.dataclass(frozen=True)
class Blocks:
    """Blocks of one shape that cover a grid; those at the far ends reach beyond it.

    Blocks are numbered in C order. A task is a run of consecutive blocks.

    sizes: points along each dimension
    shape: points of a block along each dimension, a multiple of `chunk`
    chunk: points of a chunk along each dimension
    task_length: blocks of a task
    """

    sizes: tuple[int, ...]
    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    task_length: int = 1

    @property
    def grid(self) -> tuple[int, ...]:
        """The number of blocks along each dimension."""
        return tuple(map(_ceil_div, self.sizes, self.shape))

    @property
    def count(self) -> int:
        """The number of blocks."""
        return math.prod(self.grid)

    def index(self, block: int) -> tuple[int, ...]:
        """Return the index of a block in the grid of blocks."""
        # np.unravel_index does not take numbers of more than 64 bits
        index = []
        for length in reversed(self.grid):
            block, position = divmod(block, length)
            index.append(position)
        return tuple(reversed(index))

    def region(self, block: int) -> tuple[slice, ...]:
        """Return the points of a block along each dimension, without those beyond the end."""
        region = []
        for position, step, size in zip(self.index(block), self.shape, self.sizes, strict=True):
            start = position * step
            region.append(slice(start, min(start + step, size)))
        return tuple(region)

    def lengths(self, block: int) -> tuple[int, ...]:
        """Return the number of points of a block along each dimension."""
        return tuple(points.stop - points.start for points in self.region(block))

    @property
    def task_name(self) -> str:
        """What tasks are called for the user."""
        return "blocks" if self.task_length == 1 else "parts"

    @property
    def task_count(self) -> int:
        """The number of tasks."""
        return _ceil_div(self.count, self.task_length)

    def task_blocks(self, task: int) -> range:
        """Return the blocks of a task."""
        first = task * self.task_length
        return range(first, min(first + self.task_length, self.count))

    def task_points(self, task: int) -> int:
        """Return the number of points of a task."""
        blocks = self.task_blocks(task)
        return self._points_before(blocks.stop) - self._points_before(blocks.start)

    def _points_before(self, block: int) -> int:
        """Return the number of points of all blocks before one, without a loop over them."""
        if block == self.count:
            return math.prod(self.sizes)
        points = 0
        # of the dimensions before this one, at the index of the block
        earlier = 1
        region = self.region(block)
        for axis, own in enumerate(region):
            points += earlier * own.start * math.prod(self.sizes[axis + 1 :])
            earlier *= own.stop - own.start
        return points

    def chunk_count(self, block: int) -> int:
        """Return the number of chunks of a block."""
        lengths = self.lengths(block)
        return math.prod(map(_ceil_div, lengths, self.chunk))

    def block_of_chunk(self, index: tuple[int, ...]) -> int | None:
        """Return the block of a chunk, whose index is given; None outside of the grid."""
        block = 0
        for position, chunk, length, size, count in zip(
            index, self.chunk, self.shape, self.sizes, self.grid, strict=True
        ):
            if position * chunk >= size:
                return None
            block = block * count + position * chunk // length
        return block


def plan_blocks(
    sizes: tuple[int, ...],
    point_bytes: int,
    block_size: int | None,
    shards: int = 1,
    group_blocks: bool = False,
) -> Blocks:
    """Plan blocks of about block_size points.

    By default they have a size that suits the device, and are small enough that every shard has
    work. group_blocks: whether a task is several blocks, as for a reduction; otherwise it is one.

    Raises:
        ValueError: block_size is no whole number from 1 to 2^28.
    """
    if block_size is None:
        on_cpu = jax.default_backend() == "cpu"
        block_bytes = _CPU_BLOCK_BYTES if on_cpu else _GPU_BLOCK_BYTES
        points_per_shard = math.prod(sizes) // shards
        block_size = min(block_bytes // point_bytes, points_per_shard, _MAX_BLOCK_POINTS)
        block_size = max(block_size, 1)
    block_size = to_whole_number("block_size", block_size, 1)
    if block_size > _MAX_BLOCK_POINTS:
        raise ValueError(f"block_size={block_size}: must be at most {_MAX_BLOCK_POINTS} points")
    chunk = _fill(sizes, max(min(block_size, _CHUNK_BYTES // point_bytes), 1))
    chunk_grid = tuple(map(_ceil_div, sizes, chunk))
    chunks_per_block = _fill(chunk_grid, max(block_size // math.prod(chunk), 1))
    shape = tuple(map(math.prod, zip(chunk, chunks_per_block, strict=True)))
    blocks = Blocks(sizes, shape, chunk)
    if not group_blocks:
        return blocks
    length = max(_MIN_TASK_BLOCKS, _ceil_div(blocks.count, _MAX_TASKS))
    return dataclasses.replace(blocks, task_length=min(length, max(blocks.count // shards, 1)))


def _fill(sizes: tuple[int, ...], limit: int) -> tuple[int, ...]:
    """Return a shape of up to `limit` points: the last dimensions first, each split evenly."""
    shape = []
    for size in reversed(sizes):
        shape.append(_ceil_div(size, _ceil_div(size, limit)))
        limit = max(limit // shape[-1], 1)
    return tuple(reversed(shape))


def _ceil_div(number: int, divisor: int) -> int:
    return -(-number // divisor)
