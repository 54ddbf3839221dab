"""Create (atomically), identify, lock and delete the store directory of a sweep."""

import contextlib
import hashlib
import json
import math
import os
import shutil
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rbn_jax.parameters.optional import require
from rbn_jax.sweeps.blocks import Blocks
from rbn_jax.sweeps.evaluator import Evaluator
from rbn_jax.sweeps.reductions import REDUCTION_CLASSES
from rbn_jax.sweeps.sinks import StoredSink

if TYPE_CHECKING:
    import xarray

try:
    import fcntl
except ImportError:  # Windows: nothing stops a process from overwriting a store in use
    fcntl = None

FORMAT = 1
# the attribute of the Zarr group that holds the identity of the sweep
_KEY = "rbn_jax_sweep"
# Parts of the identity that may differ: blocks are taken from the store, and a JAX of another
# version may lower the same function to another program.
_MAY_DIFFER = {"blocks", "jax", "program"}

Identity = dict[str, Any]
"""What tells a sweep from another one, as JSON holds it."""


def sweep_identity(sink: StoredSink) -> Identity:
    """Return the identity of a sweep."""
    evaluator = sink.evaluator
    parameters = json.loads(evaluator.attrs["params"])
    axes = {}
    for name, values in evaluator.axes.values.items():
        # the hash stands for all values, the rest is for the reader of an error message
        digest = hashlib.sha256(values.tobytes()).hexdigest()[:12]
        axes[name] = f"{values.size} values from {values[0]:g} to {values[-1]:g} ({digest})"
        parameters.pop(name, None)
    identity = {
        "format": FORMAT,
        "function": evaluator.attrs["function"],
        "program": evaluator.program(),
        "dtype": evaluator.dtype,
        "dimensions": evaluator.axes.layout,
        "axes": axes,
        "parameters": parameters,
        "variables": describe_variables(evaluator),
        "blocks": vars(evaluator.blocks),
        "jax": json.loads(evaluator.attrs["versions"])["jax"],
        **sink.identity_extra,
    }
    # tuples become lists, as in the identity that is read from a store
    return json.loads(json.dumps(identity))


def describe_variables(evaluator: Evaluator) -> dict[str, tuple[Any, ...]]:
    """Return dimensions, shape and dtype of fn's result at a point, by name."""
    description = {}
    for name, variable in evaluator.template.items():
        description[name] = (variable.dims, variable.data.shape, str(variable.data.dtype))
    return description


def read_identity(path: Path) -> Identity:
    """Return the identity of the sweep in a directory.

    Raises:
        ValueError: there is no directory, or it holds something else.
    """
    try:
        text = (path / "zarr.json").read_text(encoding="utf-8")
        return json.loads(json.loads(text)["attributes"][_KEY])
    except (FileNotFoundError, NotADirectoryError, KeyError, ValueError):
        problem = "is missing"
        if path.exists():
            problem = "holds no sweep" if path.is_dir() else "is a file"
        raise ValueError(f"{path} {problem}: must be a store that sweep has made") from None


def stored_blocks(identity: Identity) -> Blocks:
    """Return the blocks of the sweep that an identity describes."""
    return Blocks(**{key: tuple(lengths) for key, lengths in identity["blocks"].items()})


def _check_identity(path: Path, stored: Identity, new: Identity) -> None:
    """Raise a ValueError that names every difference between two sweeps."""
    differences = []
    for key in dict.fromkeys([*stored, *new]):
        if key not in _MAY_DIFFER:
            differences += _differences(stored.get(key), new.get(key), key)
    # The lowered program is compared only if both JAX versions are equal.
    same_jax = stored["jax"] == new["jax"]
    if not differences and same_jax and stored["program"] != new["program"]:
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


def write_dataset(dataset: "xarray.Dataset", path: Path) -> None:
    """Write a small dataset into a directory, text as Zarr's own strings."""
    require("zarr", "sweep")
    text = {}
    for name, variable in dataset.variables.items():
        if variable.dtype.kind == "U":
            text[name] = (variable.dims, variable.values.astype(object), variable.attrs)
    # Zarr warns that its format of strings is not a part of version 3 yet
    with warnings.catch_warnings(action="ignore"):
        dataset = dataset.assign(text)
        dataset.to_zarr(path, mode="a", zarr_format=3, consolidated=False)


def write_result(dataset: "xarray.Dataset", path: Path) -> None:
    """Write a small result into the directory of the files that it was made of."""
    identity = json.dumps(read_identity(path))
    write_dataset(dataset.assign_attrs({_KEY: identity}), path)
    _consolidate(path)


def _consolidate(path: Path) -> None:
    """Copy the metadata of all arrays into one file, which xarray reads first."""
    zarr = require("zarr", "sweep")
    # Zarr warns that consolidated metadata are not a part of version 3 yet
    with warnings.catch_warnings(action="ignore"):
        zarr.consolidate_metadata(path)


def read_dataset(path: Path) -> "xarray.Dataset":
    """Return the dataset in a directory: lazy, text as NumPy has it."""
    xr = require("xarray", "sweep")
    dataset = xr.open_zarr(path, consolidated=True, decode_times=False)
    dataset.attrs.pop(_KEY, None)
    text = {}
    for name, coord in dataset.coords.items():
        if coord.dtype.kind in "OT":
            text[name] = (coord.dims, np.array(coord.values.tolist()), coord.attrs)
    return dataset.assign_coords(text)


@contextlib.contextmanager
def lock(path: Path, exclusive: bool) -> Iterator[None]:
    """Lock a directory; the kernel releases it when the process ends, however it ends.

    Raises:
        ValueError: another process works on it, where one of the two locks is exclusive.
    """
    if fcntl is None:
        yield
        return
    directory = os.open(path, os.O_RDONLY)
    try:
        try:
            mode = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
            fcntl.flock(directory, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{path}: another process works on it; stop it first") from None
        yield
    finally:
        os.close(directory)


def _check_free_space(path: Path, needed: int) -> None:
    free = shutil.disk_usage(path if path.exists() else path.parent).free
    if needed > free:
        raise ValueError(
            f"{path}: the result takes {needed / 1e9:.3g} GB, and {free / 1e9:.3g} GB are free: "
            "take fewer points, or keep only what reduce= makes of them "
            f"({', '.join(REDUCTION_CLASSES)})"
        )


def checked_path(store: object) -> Path:
    """Return the directory of a store as an absolute path, which workers elsewhere need.

    Raises:
        ValueError: it is no path, a file, or within a directory that does not exist.
    """
    if not isinstance(store, str | os.PathLike):
        raise ValueError(f"store is a {type(store).__name__}: must be the name of a folder")
    path = Path(store).resolve()
    if path.exists() and not path.is_dir():
        raise ValueError(f"store {path} is a file: must be a folder, or the name of a new one")
    if not path.parent.is_dir():
        raise ValueError(f"store {path}: the folder {path.parent} does not exist")
    return path


@contextlib.contextmanager
def open_store(sink: StoredSink, own_block_size: bool, overwrite: bool) -> Iterator[None]:
    """Create the directory of a sink, or check that it holds the same sweep; then lock it.

    own_block_size: whether the caller asked for a block size, which the store must then have

    Raises:
        ValueError: it holds another sweep, or anything else; the disk is too small.
    """
    path = sink.path
    if overwrite and not _is_new(path):
        old_bytes = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        _check_free_space(path, sink.bytes_needed - old_bytes)
        _delete(path)
    identity = sweep_identity(sink)
    if _is_new(path):
        _check_free_space(path, sink.bytes_missing)
        _create(sink, sink.evaluator.attrs | {_KEY: json.dumps(identity)})
    _adopt(sink, identity, own_block_size)
    _check_free_space(path, sink.bytes_missing)
    with lock(path, exclusive=False):
        # another process may have overwritten the store before it was locked
        _adopt(sink, identity, own_block_size)
        yield


def _adopt(sink: StoredSink, identity: Identity, own_block_size: bool) -> None:
    """Check that a directory holds the same sweep, and take its blocks."""
    stored = read_identity(sink.path)
    _check_identity(sink.path, stored, identity)
    blocks = stored_blocks(stored)
    if own_block_size and sink.evaluator.blocks != blocks:
        raise ValueError(
            f"{sink.path} has blocks of {math.prod(blocks.shape)} points: leave block_size out, "
            "or overwrite the store"
        )
    sink.evaluator.blocks = blocks


def _is_new(path: Path) -> bool:
    """Return whether there is no directory, or an empty one."""
    return not path.exists() or not any(path.iterdir())


def _create(sink: StoredSink, attrs: dict[str, str]) -> None:
    """Fill a directory under another name, and rename it when it is complete."""
    draft = _hidden_name(sink.path)
    os.mkdir(draft)
    try:
        sink.fill(draft, attrs)
        _consolidate(draft)
        # it fails where another process has created the directory first
        with contextlib.suppress(OSError):
            os.rename(draft, sink.path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _delete(path: Path) -> None:
    """Delete a sweep that no other process works on."""
    read_identity(path)
    with lock(path, exclusive=True):
        # renamed first, so that no process finds a sweep of which a part is deleted
        draft = _hidden_name(path)
        os.rename(path, draft)
        shutil.rmtree(draft)


def _hidden_name(path: Path) -> Path:
    return path.with_name(f".{path.name}-{uuid.uuid4().hex}")
