"""Create, identify and lock the store directory of a sweep, and tell which tasks are done.

The files of the results are the only record of what is done. Zarr writes a chunk under another
name and renames it, and chunks are not compressed: so a block is done when each of its chunk files
has the one size that it can have. A reduction writes one file for each task, in the same way. So
processes that share a store cannot disturb one another.
"""

import collections
import contextlib
import dataclasses
import itertools
import json
import math
import os
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from rbn_jax.parameters.labels import encode_text, to_dataset
from rbn_jax.parameters.optional import require
from rbn_jax.reductions import REDUCTION_CLASSES, Reduction
from rbn_jax.sweeps.blocks import Blocks
from rbn_jax.sweeps.evaluator import SweptFunction
from rbn_jax.sweeps.identity import (
    Identity,
    check_identity,
    identity_attributes,
    make_identity,
    read_identity,
)
from rbn_jax.system.files import DRAFT_PREFIX, atomic_directory, copy_changes, lock_directory

if TYPE_CHECKING:
    import xarray

# the CRC-32C at the end of a chunk
_CHECKSUM_BYTES = 4
# of the numbers that a status lists
_MAX_MISSING = 100_000


class StoreStatus(TypedDict):
    """What of a sweep is done; units: "blocks", or "parts" (runs of blocks)."""

    function: str
    units: str
    count: int
    done: int
    points: int
    points_done: int
    missing: list[int]


def store_status(store: str | os.PathLike[str]) -> StoreStatus:
    """Return what of a sweep in a store is done, from its files alone.

    Returns:
        A dictionary: the name of the `function`; how many `units` ("blocks", or for a reduction
        "parts", which are runs of blocks) there are, `count`, and are `done`; the numbers of
        those that are `missing`, at most the first 100,000; the number of `points`, and of
        `points_done`.

    Raises:
        ValueError: the directory holds no sweep.

    >>> import tempfile
    >>> import rbn_jax as rbn
    >>> axes = {"tau_E": [5.0, 10.0, 20.0]}
    >>> with tempfile.TemporaryDirectory() as store:
    ...     network = rbn.NetworkParams()
    ...     _ = rbn.sweep(rbn.calculate_RBN_weights, network, axes, store=store, shard=(0, 3))
    ...     status = rbn.store_status(store)
    >>> status["points_done"], status["missing"]
    (1, [1, 2])
    """
    directory = StoreDirectory.read(checked_path(store))
    blocks = directory.blocks
    done = directory.done_tasks()
    is_done = set(done)
    missing = (task for task in range(blocks.task_count) if task not in is_done)
    return {
        "function": directory.identity.function,
        "units": blocks.task_name,
        "count": blocks.task_count,
        "done": len(done),
        "points": math.prod(blocks.sizes),
        "points_done": sum(map(blocks.task_points, done)),
        "missing": list(itertools.islice(missing, _MAX_MISSING)),
    }


@dataclasses.dataclass(frozen=True)
class StoreDirectory:
    """A directory that a sweep has made, and the identity of the sweep, which it holds."""

    path: Path
    identity: Identity

    @classmethod
    def read(cls, path: Path) -> "StoreDirectory":
        """Return the directory at a path.

        Raises:
            ValueError: there is no directory, it holds something else, or is damaged.
        """
        return cls(path, read_identity(path))

    @property
    def blocks(self) -> Blocks:
        """The blocks of the sweep."""
        return self.identity.blocks

    @property
    def is_reduction(self) -> bool:
        """Whether the store holds parts of reductions, and no blocks."""
        return self.identity.reduce is not None

    def part_file(self, task: int) -> Path:
        """Return the file of a task of a reduction."""
        return self.path / "parts" / f"{task}.npz"

    def has(self, task: int) -> bool:
        """Return whether the files of a task are complete."""
        if self.is_reduction:
            # it has an end, which a truncated file lacks
            return zipfile.is_zipfile(self.part_file(task))
        sizes = self._chunk_sizes()
        for name, file in self._chunk_files(task):
            try:
                if file.stat().st_size != sizes[name]:
                    return False
            except FileNotFoundError:
                return False
        return True

    def done_tasks(self) -> list[int]:
        """Return the tasks whose files are complete.

        It takes time in proportion to the files, whatever number of tasks the store claims.
        """
        if self.is_reduction:
            numbers = _numbers_of_parts(self.path / "parts")
            return [task for task in numbers if task < self.blocks.task_count and self.has(task)]
        n_complete: dict[int, int] = collections.Counter()
        for name, complete_size in self._chunk_sizes().items():
            n_own_axes = len(self.identity.variables[name].shape)
            for index, size in _sizes_of_chunks(self.path / name / "c"):
                n_axes = len(index) - n_own_axes
                # a chunk holds the dimensions of the result at a point completely
                if n_axes == len(self.blocks.sizes) and not any(index[n_axes:]):
                    block = self.blocks.block_of_chunk(index[:n_axes])
                    if block is not None and size == complete_size:
                        n_complete[block] += 1
        n_variables = len(self.identity.variables)
        tasks = []
        for block, count in sorted(n_complete.items()):
            if count == n_variables * self.blocks.chunk_count(block):
                tasks.append(block)
        return tasks

    def discard(self, task: int) -> None:
        """Delete the files of a task, which are damaged."""
        for file in self._files(task):
            file.unlink(missing_ok=True)

    def changed_since(self, task: int, time: float) -> bool:
        """Return whether a file of a task that is done was written at this time or later."""
        return max(file.stat().st_mtime for file in self._files(task)) >= time

    def _files(self, task: int) -> list[Path]:
        if self.is_reduction:
            return [self.part_file(task)]
        return [file for _, file in self._chunk_files(task)]

    def _chunk_sizes(self) -> dict[str, int]:
        """Return the bytes of a complete chunk of each result."""
        sizes = {}
        for name, variable in self.identity.variables.items():
            values = math.prod(self.blocks.chunk) * math.prod(variable.shape)
            sizes[name] = values * np.dtype(variable.dtype).itemsize + _CHECKSUM_BYTES
        return sizes

    def _chunk_files(self, task: int) -> Iterator[tuple[str, Path]]:
        """Yield the name of the result and the file of each chunk of a block."""
        chunks = []
        for points, length in zip(self.blocks.region(task), self.blocks.chunk, strict=True):
            chunks.append(range(points.start // length, -(-points.stop // length)))
        for name, variable in self.identity.variables.items():
            zeros = ["0"] * len(variable.shape)
            for index in itertools.product(*chunks):
                yield name, self.path.joinpath(name, "c", *map(str, index), *zeros)

    def state(self) -> str:
        """Say how many tasks are stored, and how to go on."""
        done = len(self.done_tasks())
        count = f"{done} of {self.blocks.task_count} {self.blocks.task_name}"
        return f"{count} are kept in {self.path}; the same call goes on there"

    def open_arrays(self) -> dict[str, Any]:
        """Return the Zarr arrays of the results by name, for writing."""
        zarr = require("zarr", "sweep")
        # A chunk that holds only fill values would not be written, and never count as done.
        with zarr.config.set({"array.write_empty_chunks": True}):
            group = zarr.open_group(self.path, mode="r+")
            return {name: group[name] for name in self.identity.variables}

    def read_dataset(self) -> "xarray.Dataset":
        """Return the dataset in the directory: lazy, text as NumPy has it."""
        xr = require("xarray", "sweep")
        dataset = xr.open_zarr(self.path, consolidated=True, decode_times=False)
        for key in identity_attributes(self.identity):
            dataset.attrs.pop(key, None)
        text = {}
        for name, coord in dataset.coords.items():
            if coord.dtype.kind in "OT":
                text[name] = (coord.dims, np.array(coord.values.tolist()), coord.attrs)
        return encode_text(dataset.assign_coords(text))

    def write_dataset(self, dataset: "xarray.Dataset") -> None:
        """Write a small dataset into the directory, and of it what differs only."""
        with self.replaced_by_draft() as draft:
            draft.write_new_dataset(dataset)

    @contextlib.contextmanager
    def replaced_by_draft(self) -> Iterator["StoreDirectory"]:
        """Yield an empty directory, whose files replace those here that differ from them."""
        with tempfile.TemporaryDirectory() as folder:
            yield StoreDirectory(Path(folder), self.identity)
            copy_changes(Path(folder), self.path, last="zarr.json")

    def write_new_dataset(self, dataset: "xarray.Dataset") -> None:
        """Write a small dataset with checksums, text as Zarr's own strings."""
        zarr = require("zarr", "sweep")
        text = {}
        encoding = {}
        for name, variable in dataset.variables.items():
            encoding[name] = {"compressors": [zarr.codecs.Crc32cCodec()]}
            # xarray writes only objects over strings that a store already has
            if variable.dtype.kind == "U":
                text[name] = (variable.dims, variable.values.astype(object), variable.attrs)
        dataset = dataset.assign(text).assign_attrs(identity_attributes(self.identity))
        # Zarr warns that consolidated metadata are no part of version 3 yet
        with warnings.catch_warnings(action="ignore"):
            dataset.to_zarr(
                self.path, mode="a", zarr_format=3, consolidated=False, encoding=encoding
            )
            # the metadata of all arrays in one file, which xarray reads first
            zarr.consolidate_metadata(self.path)


def _numbers_of_parts(folder: Path) -> list[int]:
    """Return the numbers of the files "12.npz" in a folder."""
    numbers = []
    for file in folder.glob("*.npz"):
        if file.stem.isdecimal() and str(int(file.stem)) == file.stem:
            numbers.append(int(file.stem))
    return sorted(numbers)


def _sizes_of_chunks(folder: Path) -> Iterator[tuple[tuple[int, ...], int]]:
    """Yield index and bytes of each chunk of an array; that of a number is the folder itself."""
    for file in (folder, *folder.rglob("*")):
        parts = file.relative_to(folder).parts
        if all(part.isdecimal() for part in parts) and file.is_file():
            # another process may delete it meanwhile
            with contextlib.suppress(FileNotFoundError):
                yield tuple(map(int, parts)), file.stat().st_size


def checked_path(store: object) -> Path:
    """Return the directory of a store as an absolute path, which workers elsewhere need.

    Raises:
        ValueError: it is no path, an address, a file, or within a directory that does not exist.
    """
    if not isinstance(store, str | os.PathLike):
        raise ValueError(f"store is a {type(store).__name__}: must be the name of a folder")
    if not os.fspath(store):
        raise ValueError("store is '': must be the name of a folder")
    if "://" in os.fspath(store):
        raise ValueError(
            f"store {store}: must be a folder of a file system, which locks and renames; copy the "
            "finished store to that address"
        )
    path = Path(store).resolve()
    if path.exists() and not path.is_dir():
        raise ValueError(f"store {path} is a file: must be a folder, or the name of a new one")
    if not path.parent.is_dir():
        raise ValueError(f"store {path}: the folder {path.parent} does not exist")
    return path


@contextlib.contextmanager
def open_store(
    path: Path,
    function: SweptFunction,
    planned_blocks: Blocks,
    reductions: tuple[Reduction, ...],
    block_size: int | None,
    overwrite: bool,
) -> Iterator[StoreDirectory]:
    """Create the directory of a sweep, or find it; yield it while it is locked.

    block_size: what the caller asked for, which the store must then have; None for any size

    Raises:
        ValueError: it holds another sweep, or anything else; the disk is too small.
    """
    identity = make_identity(function, planned_blocks, reductions)
    needed = 0 if reductions else math.prod(planned_blocks.sizes) * function.point_bytes
    is_new = not path.exists() or not any(path.iterdir())
    if not is_new:
        # raises if the directory is not a sweep: nothing else is searched or deleted
        StoreDirectory.read(path)
    _check_free_space(path, needed)
    if is_new:
        with atomic_directory(path) as draft:
            _write_metadata(StoreDirectory(draft, identity), function)
    elif overwrite:
        with lock_directory(path, exclusive=True):
            _delete_results(StoreDirectory.read(path))
            with StoreDirectory(path, identity).replaced_by_draft() as draft:
                _write_metadata(draft, function)
    with lock_directory(path, exclusive=False):
        # read only now, as another process may have created or overwritten it until it was locked
        directory = StoreDirectory.read(path)
        check_identity(path, directory.identity, identity)
        if block_size and directory.blocks.shape != planned_blocks.shape:
            raise ValueError(
                f"{path} has blocks of {math.prod(directory.blocks.shape)} points: leave "
                "block_size out, or overwrite the store"
            )
        # Coordinates or metadata may be damaged or missing. A reduction writes its own when all
        # parts are done.
        if not (is_new or overwrite or directory.is_reduction):
            with directory.replaced_by_draft() as draft:
                _write_metadata(draft, function)
        yield directory


def _check_free_space(path: Path, needed: int) -> None:
    """Raise a ValueError if the disk cannot take what the files at the path are to grow to."""
    present = 0
    for file in path.rglob("*"):
        # another process may rename a file meanwhile
        with contextlib.suppress(FileNotFoundError):
            present += file.stat().st_size
    free = shutil.disk_usage(path if path.exists() else path.parent).free
    if needed - present > free:
        raise ValueError(
            f"{path}: the result takes {needed / 1e9:.3g} GB, and {free / 1e9:.3g} GB are free: "
            "take fewer points, or keep only what reduce= makes of them "
            f"({', '.join(REDUCTION_CLASSES)})"
        )


def _delete_results(directory: StoreDirectory) -> None:
    """Delete the arrays and parts of a sweep; other files stay, and the identity for now.

    So a process that is killed here leaves the sweep that was, with blocks missing.
    """
    group = json.loads((directory.path / "zarr.json").read_text(encoding="utf-8"))
    consolidated = group.get("consolidated_metadata") or {}
    names = {"parts", *directory.identity.variables, *directory.identity.axes}
    names.update(str(name).partition("/")[0] for name in consolidated.get("metadata", {}))
    # only what is in the directory itself, whatever names its metadata hold
    for entry in directory.path.iterdir():
        if entry.name in names:
            shutil.rmtree(entry, ignore_errors=True)
        elif entry.name.startswith(DRAFT_PREFIX):
            entry.unlink(missing_ok=True)


def _write_metadata(draft: StoreDirectory, function: SweptFunction) -> None:
    """Write a store without results."""
    if draft.is_reduction:
        (draft.path / "parts").mkdir()
        attrs = draft.identity.attributes
        draft.write_new_dataset(require("xarray", "sweep").Dataset(attrs=attrs))
    else:
        _create_arrays(draft, function)


def _create_arrays(draft: StoreDirectory, function: SweptFunction) -> None:
    """Write the coordinates, and the metadata of arrays without blocks."""
    zarr = require("zarr", "sweep")
    axes = function.axes
    variables = {}
    for name, variable in function.template.items():
        zero = np.zeros((), variable.data.dtype)
        # a view of one element, whatever the shape
        zeros = np.broadcast_to(zero, (*axes.sizes, *variable.data.shape))
        variables[name] = variable.with_data(zeros)
    dataset = to_dataset(variables, axes.dims, axes.labels(), draft.identity.attributes)
    group = zarr.open_group(draft.path, mode="a", zarr_format=3)
    for name, array in dataset.data_vars.items():
        if "/" in str(name):
            raise ValueError(f"a result is called {name!r}: Zarr takes no '/' in a name: rename it")
        group.create_array(
            name,
            shape=array.shape,
            chunks=(*draft.blocks.chunk, *array.shape[len(axes.sizes) :]),
            dtype=array.dtype,
            compressors=[zarr.codecs.Crc32cCodec()],
            fill_value=np.nan if array.dtype.kind in "fc" else 0,
            dimension_names=array.dims,
            attributes=array.attrs,
        )
    draft.write_new_dataset(dataset.drop_vars(list(variables)))
