"""A sweep on disk: a Zarr store whose chunk files are the record of what is done."""

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np

from rbn_jax.parameters.labels import to_dataset
from rbn_jax.parameters.optional import require
from rbn_jax.sweeps import store_directory as folder
from rbn_jax.sweeps.blocks import Blocks
from rbn_jax.sweeps.evaluator import Job
from rbn_jax.sweeps.memory_sink import evaluate
from rbn_jax.sweeps.sinks import Done, Stored

_CHECKSUM = 4  # bytes of CRC-32C at the end of a chunk


class Store(Stored):
    """The arrays of a sweep in a Zarr store, each block a whole number of chunks.

    Zarr writes a chunk under another name and renames it, and chunks are not compressed: a
    block is done when all of its files have the one size that they can have. So no record has
    to be kept beside the data, and processes that share a store cannot harm each other.
    """

    def __init__(self, job: Job, path: Path):
        self.job, self.path = job, path

    def fill(self, path: Path, attrs: dict[str, str]) -> None:
        """Make the store, without a block, in an empty folder."""
        zarr = require("zarr", "sweep")
        found = {}
        for name, x in self.job.found.items():
            shape = (*self.job.sizes, *x.data.shape)
            found[name] = x.with_data(np.broadcast_to(np.zeros((), x.data.dtype), shape))
        empty = to_dataset(found, self.job.axes.dims, self.job.axes.labels(), attrs)
        folder.write(empty.drop_vars(list(found)), path)
        group = zarr.open_group(path, mode="r+")
        for name, array in empty.data_vars.items():
            own = array.shape[len(self.job.sizes) :]
            group.create_array(
                name,
                shape=array.shape,
                chunks=(*self.job.blocks.chunk, *own),
                dtype=array.dtype,
                compressors=[zarr.codecs.Crc32cCodec()],
                fill_value=np.nan if array.dtype.kind == "f" else 0,
                dimension_names=array.dims,
                attributes=array.attrs,
            )

    @property
    def extra(self) -> dict[str, Any]:
        """Nothing: the job is all."""
        return {}

    @property
    def bytes_needed(self) -> int:
        """What all blocks take."""
        return self.job.points * self.job.point_bytes

    @property
    def bytes_missing(self) -> int:
        """What the blocks that are not there will take."""
        if not (self.path / "zarr.json").exists():
            return self.bytes_needed
        missing = (unit for unit in range(self.units) if not self.has(unit))
        return sum(map(self.points, missing)) * self.job.point_bytes

    def has(self, unit: int) -> bool:
        """Whether every chunk of a block is there, whole."""
        return has_block(self.path, self.job.blocks, self._arrays_written(), unit)

    def work(self, unit: int) -> Done:
        """Evaluate a block and write it."""
        found, nan = evaluate(self.job, unit)
        region = self.job.blocks.region(unit)
        for name, data in found.items():
            self._open()[name][region] = data
        return Done(unit, sum(data.nbytes for data in found.values()), nan)

    def _arrays_written(self) -> dict[str, tuple[int, int]]:
        return {name: (x.data.ndim, x.nbytes) for name, x in self.job.found.items()}

    def _open(self) -> Any:
        if not hasattr(self, "_arrays"):
            zarr = require("zarr", "sweep")
            # a chunk of nothing but fill values is done as well: write it
            with zarr.config.set({"array.write_empty_chunks": True}):
                group = zarr.open_group(self.path, mode="r+")
                self._arrays = {name: group[name] for name in self.job.found}
        return self._arrays

    def accept(self, done: Done) -> None:
        """Everything is on disk already."""

    def result(self) -> Any:
        """The dataset, lazy."""
        return folder.read(self.path)


def has_block(path: Path, blocks: Blocks, arrays: dict[str, tuple[int, int]], number: int) -> bool:
    """Whether every chunk file of a block has its size; arrays: own dimensions, bytes a point."""
    ranges = []
    for part, chunk in zip(blocks.region(number), blocks.chunk, strict=True):
        ranges.append(range(part.start // chunk, -(-part.stop // chunk)))
    for name, (dims, point_bytes) in arrays.items():
        size = math.prod(blocks.chunk) * point_bytes + _CHECKSUM
        for place in itertools.product(*ranges):
            file = path.joinpath(name, "c", *map(str, place), *["0"] * dims)
            try:
                if file.stat().st_size != size:
                    return False
            except FileNotFoundError:
                return False
    return True
