"""A sweep in a Zarr store, whose chunk files are the record of what is done."""

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rbn_jax.parameters.labels import to_dataset
from rbn_jax.parameters.optional import require
from rbn_jax.sweeps import store_directory
from rbn_jax.sweeps.blocks import Blocks
from rbn_jax.sweeps.evaluator import Evaluator
from rbn_jax.sweeps.sinks import BlockResult, StoredSink

if TYPE_CHECKING:
    import xarray

# the CRC-32C at the end of a chunk
_CHECKSUM_BYTES = 4


class ArrayStoreSink(StoredSink):
    """The arrays of a sweep in a Zarr store, each block a whole number of chunks.

    Zarr writes a chunk under another name and renames it, and chunks are not compressed: so a
    block is done when all of its files have the one size that they can have. No record is kept
    beside the data, and processes that share a store cannot disturb one another.
    """

    def __init__(self, evaluator: Evaluator, path: Path):
        self.evaluator = evaluator
        self.path = path

    def fill(self, path: Path, attrs: dict[str, str]) -> None:
        """Write a store without blocks into an empty directory."""
        zarr = require("zarr", "sweep")
        sizes = self.evaluator.sizes
        variables = {}
        for name, variable in self.evaluator.template.items():
            zero = np.zeros((), variable.data.dtype)
            # a view of one element, whatever the shape
            zeros = np.broadcast_to(zero, (*sizes, *variable.data.shape))
            variables[name] = variable.with_data(zeros)
        axes = self.evaluator.axes
        dataset = to_dataset(variables, axes.dims, axes.labels(), attrs)
        store_directory.write_dataset(dataset.drop_vars(list(variables)), path)
        group = zarr.open_group(path, mode="r+")
        for name, array in dataset.data_vars.items():
            group.create_array(
                name,
                shape=array.shape,
                chunks=(*self.evaluator.blocks.chunk, *array.shape[len(sizes) :]),
                dtype=array.dtype,
                compressors=[zarr.codecs.Crc32cCodec()],
                fill_value=np.nan if array.dtype.kind == "f" else 0,
                dimension_names=array.dims,
                attributes=array.attrs,
            )

    def has(self, task: int) -> bool:
        """Return whether every chunk of a block is complete."""
        variables = store_directory.describe_variables(self.evaluator)
        return has_block(self.path, self.evaluator.blocks, variables, task)

    def run(self, task: int) -> BlockResult:
        """Evaluate a block and write it."""
        arrays, nan_names = self.evaluator.fetch(task)
        region = self.evaluator.blocks.region(task)
        for name, array in arrays.items():
            self._arrays[name][region] = array
        return BlockResult(task, sum(array.nbytes for array in arrays.values()), nan_names)

    @functools.cached_property
    def _arrays(self) -> dict[str, Any]:
        """The Zarr arrays by name, opened once in a process."""
        zarr = require("zarr", "sweep")
        # A chunk that holds only fill values would not be written, and never count as done.
        with zarr.config.set({"array.write_empty_chunks": True}):
            group = zarr.open_group(self.path, mode="r+")
            return {name: group[name] for name in self.evaluator.template}

    def result(self) -> "xarray.Dataset":
        """Return the dataset, whose arrays are lazy."""
        return store_directory.read_dataset(self.path)


def has_block(
    path: Path, blocks: Blocks, variables: Mapping[str, Sequence[Any]], block: int
) -> bool:
    """Return whether every chunk file of a block has the size of a complete one.

    variables: (dimensions, shape, dtype) of fn's result at a point, by name
    """
    chunks = []
    for points, length in zip(blocks.region(block), blocks.chunk, strict=True):
        chunks.append(range(points.start // length, -(-points.stop // length)))
    for name, (_, shape, dtype) in variables.items():
        values = math.prod(blocks.chunk) * math.prod(shape)
        chunk_bytes = values * np.dtype(dtype).itemsize + _CHECKSUM_BYTES
        for index in itertools.product(*chunks):
            # a chunk holds the dimensions of the result at a point completely
            file = path.joinpath(name, "c", *map(str, index), *["0"] * len(shape))
            try:
                if file.stat().st_size != chunk_bytes:
                    return False
            except FileNotFoundError:
                return False
    return True
