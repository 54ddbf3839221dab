"""Create, identify and lock the store directory of a sweep, and tell which tasks are done.

The files of the results are the only record of what is done. Zarr writes a chunk under another
name and renames it, and chunks are not compressed: so a block is done when each of its chunk files
has the one size that it can have. A reduction writes one file for each task, in the same way. So
processes that share a store cannot disturb one another.
"""

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import json
import math
import os
import shutil
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import jax
import numpy as np

from rbn_jax.parameters.labels import Variable, encode_text, to_dataset
from rbn_jax.parameters.optional import require
from rbn_jax.reductions import REDUCTION_CLASSES, Reduction
from rbn_jax.sweeps.blocks import Blocks
from rbn_jax.sweeps.evaluator import SweptFunction, Template
from rbn_jax.system.files import atomic_directory, delete_directory, lock_directory

if TYPE_CHECKING:
    import xarray

# the attribute of the Zarr group that holds the identity of the sweep; 2 is the format
_IDENTITY_KEY = "rbn_jax_sweep_2"
# Parts of the identity that may differ: blocks are taken from the store, and a JAX of another
# version may lower the same function to another program.
_MAY_DIFFER = {"blocks", "version", "program"}
# the CRC-32C at the end of a chunk
_CHECKSUM_BYTES = 4

Identity = dict[str, Any]
"""What tells a sweep from another one, as JSON holds it."""


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
        those that are `missing`; the number of `points`, and of `points_done`.

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
    missing = [task for task in range(blocks.task_count) if not directory.has(task)]
    points = math.prod(blocks.sizes)
    return {
        "function": directory.identity["function"],
        "units": blocks.task_name,
        "count": blocks.task_count,
        "done": blocks.task_count - len(missing),
        "points": points,
        "points_done": points - sum(map(blocks.task_points, missing)),
        "missing": missing,
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
            ValueError: there is no directory, or it holds something else.
        """
        try:
            text = (path / "zarr.json").read_text(encoding="utf-8")
            return cls(
                path, json.loads(json.loads(text)["attributes"][_IDENTITY_KEY], parse_constant=str)
            )
        except (FileNotFoundError, KeyError, TypeError, ValueError):
            problem = "holds no sweep" if path.exists() else "is missing"
            raise ValueError(
                f"{path} {problem}: must be a store that this version of sweep has made"
            ) from None

    @functools.cached_property
    def blocks(self) -> Blocks:
        """The blocks of the sweep."""
        blocks = self.identity["blocks"]
        shapes = (tuple(blocks[name]) for name in ("sizes", "shape", "chunk"))
        return Blocks(*shapes, task_length=blocks["task_length"])

    @property
    def template(self) -> Template:
        """What the function gives at a point, with shapes and dtypes in place of data."""
        variables = self.identity["variables"].items()
        return {
            name: Variable(jax.ShapeDtypeStruct(tuple(shape), dtype), tuple(dims))
            for name, (dims, shape, dtype) in variables
        }

    def part_file(self, task: int) -> Path:
        """Return the file of a task of a reduction."""
        return self.path / "parts" / f"{task}.npz"

    def has(self, task: int) -> bool:
        """Return whether the files of a task are complete."""
        if "reduce" in self.identity:
            # it has an end, which a truncated file lacks
            return zipfile.is_zipfile(self.part_file(task))
        chunks = []
        for points, length in zip(self.blocks.region(task), self.blocks.chunk, strict=True):
            chunks.append(range(points.start // length, -(-points.stop // length)))
        for name, (_, shape, dtype) in self.identity["variables"].items():
            values = math.prod(self.blocks.chunk) * math.prod(shape)
            chunk_bytes = values * np.dtype(dtype).itemsize + _CHECKSUM_BYTES
            for index in itertools.product(*chunks):
                # a chunk holds the dimensions of the result at a point completely
                file = self.path.joinpath(name, "c", *map(str, index), *["0"] * len(shape))
                try:
                    if file.stat().st_size != chunk_bytes:
                        return False
                except FileNotFoundError:
                    return False
        return True

    def state(self) -> str:
        """Say how many tasks are stored, and how to go on."""
        done = sum(map(self.has, range(self.blocks.task_count)))
        count = f"{done} of {self.blocks.task_count} {self.blocks.task_name}"
        return f"{count} are kept in {self.path}; the same call goes on there"

    def open_arrays(self) -> dict[str, Any]:
        """Return the Zarr arrays of the results by name, for writing."""
        zarr = require("zarr", "sweep")
        # A chunk that holds only fill values would not be written, and never count as done.
        with zarr.config.set({"array.write_empty_chunks": True}):
            group = zarr.open_group(self.path, mode="r+")
            return {name: group[name] for name in self.identity["variables"]}

    def read_dataset(self) -> "xarray.Dataset":
        """Return the dataset in the directory: lazy, text as NumPy has it."""
        xr = require("xarray", "sweep")
        dataset = xr.open_zarr(self.path, consolidated=True, decode_times=False)
        dataset.attrs.pop(_IDENTITY_KEY, None)
        text = {}
        for name, coord in dataset.coords.items():
            if coord.dtype.kind in "OT":
                text[name] = (coord.dims, np.array(coord.values.tolist()), coord.attrs)
        return encode_text(dataset.assign_coords(text))

    def write_dataset(self, dataset: "xarray.Dataset") -> None:
        """Write a small dataset into the directory, text as Zarr's own strings."""
        zarr = require("zarr", "sweep")
        text = {}
        for name, variable in dataset.variables.items():
            # xarray writes only objects over strings that a store already has
            if variable.dtype.kind == "U":
                text[name] = (variable.dims, variable.values.astype(object), variable.attrs)
        dataset = dataset.assign(text).assign_attrs({_IDENTITY_KEY: json.dumps(self.identity)})
        # Zarr warns that consolidated metadata are no part of version 3 yet
        with warnings.catch_warnings(action="ignore"):
            dataset.to_zarr(self.path, mode="a", zarr_format=3, consolidated=False)
            # the metadata of all arrays in one file, which xarray reads first
            zarr.consolidate_metadata(self.path)


def checked_path(store: object) -> Path:
    """Return the directory of a store as an absolute path, which workers elsewhere need.

    Raises:
        ValueError: it is no path, an address, a file, or within a directory that does not exist.
    """
    if not isinstance(store, str | os.PathLike):
        raise ValueError(f"store is a {type(store).__name__}: must be the name of a folder")
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
    identity = _identity(function, planned_blocks, reductions)
    needed = 0 if reductions else math.prod(planned_blocks.sizes) * function.point_bytes
    is_new = not path.exists() or not any(path.iterdir())
    if not is_new:
        # raises if the directory is not a sweep: nothing else is searched or deleted
        StoreDirectory.read(path)
    _check_free_space(path, needed)
    if overwrite or is_new:
        if not is_new:
            delete_directory(path)
        _create(path, function, identity)
    with lock_directory(path, exclusive=False):
        # read only now, as another process may have created or overwritten it until it was locked
        directory = StoreDirectory.read(path)
        _check_identity(path, directory.identity, identity)
        if block_size and directory.blocks.shape != planned_blocks.shape:
            raise ValueError(
                f"{path} has blocks of {math.prod(directory.blocks.shape)} points: leave "
                "block_size out, or overwrite the store"
            )
        yield directory


def _identity(
    function: SweptFunction, blocks: Blocks, reductions: tuple[Reduction, ...]
) -> Identity:
    parameters = json.loads(function.attrs["params"])
    axes = {}
    for name, values in function.axes.values.items():
        # the hash stands for all values, the rest is for the reader of an error message
        digest = hashlib.sha256(values.tobytes()).hexdigest()[:12]
        axes[name] = f"{values.size} values from {values[0]:g} to {values[-1]:g} ({digest})"
        parameters.pop(name, None)
    variables = {}
    for name, variable in function.template.items():
        variables[name] = (variable.dims, variable.data.shape, str(variable.data.dtype))
    identity = {
        "function": function.attrs["function"],
        "program": function.program(),
        "dtype": function.dtype,
        "dimensions": function.axes.layout,
        "axes": axes,
        "parameters": parameters,
        "variables": variables,
        "blocks": vars(blocks),
        "computed by": function.backend[0],
        "version": function.backend[1],
    }
    if reductions:
        identity["reduce"] = [reduction.describe() for reduction in reductions]
    # tuples become lists, as in the identity that is read from a store, and NaN equals itself
    return json.loads(json.dumps(identity), parse_constant=str)


def _check_identity(path: Path, stored: Identity, new: Identity) -> None:
    """Raise a ValueError that names every difference between two sweeps."""
    differences = []
    for key in dict.fromkeys([*stored, *new]):
        if key not in _MAY_DIFFER:
            differences += _differences(stored.get(key), new.get(key), key)
    # The lowered program is compared only if both JAX versions are equal.
    same_version = stored["version"] == new["version"]
    if not differences and same_version and stored["program"] != new["program"]:
        differences = [f"the store was made by a different version of {new['function']}"]
    if differences:
        raise ValueError(
            f"{path} holds another sweep: {'; '.join(differences)}. Give another store, or "
            "overwrite this one to start anew"
        )


def _differences(stored: object, new: object, name: str) -> list[str]:
    """Return the differences between two values, or between those of two dictionaries by key."""
    if not isinstance(stored, dict) or not isinstance(new, dict):
        if stored == new:
            return []
        return [f"{name}: {json.dumps(stored)} in the store, {json.dumps(new)} here"]
    differences = []
    for key in {**stored, **new}:
        differences += _differences(stored.get(key), new.get(key), f"{name} {key}")
    return differences


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


def _create(path: Path, function: SweptFunction, identity: Identity) -> None:
    """Create a store without results."""
    with atomic_directory(path) as draft:
        directory = StoreDirectory(draft, identity)
        if "reduce" in identity:
            (draft / "parts").mkdir()
            directory.write_dataset(require("xarray", "sweep").Dataset(attrs=function.attrs))
        else:
            _create_arrays(directory, function)


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
    dataset = to_dataset(variables, axes.dims, axes.labels(), function.attrs)
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
    draft.write_dataset(dataset.drop_vars(list(variables)))
