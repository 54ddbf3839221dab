"""What tells a sweep from another one: it is kept in the store of the sweep, and compared."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rbn_jax.parameters.labels import Coordinates, Variable
from rbn_jax.reductions import Reduction
from rbn_jax.sweeps.blocks import Blocks
from rbn_jax.sweeps.evaluator import SweptFunction, Template
from rbn_jax.system.json_text import read_mapping, to_dataclass, to_json, to_plain

# the attributes of the Zarr group that hold the identity as JSON, and its SHA-256; 3 is the format
IDENTITY_KEY = "rbn_jax_sweep_3"
CHECKSUM_KEY = "rbn_jax_sweep_sha256"
# Parts of the identity that may differ: blocks are taken from the store, a JAX of another version
# may lower the same function to another program, and labels and attributes are not computed with.
_MAY_DIFFER = {"blocks", "version", "program", "calls_python", "labels", "attributes"}
_GROUP_KEYS = {"attributes", "zarr_format", "node_type", "consolidated_metadata"}
# of results: truth values, integers, floating and complex numbers
_DTYPES = {np.dtype(code).name for code in np.typecodes["AllInteger"] + "?efdFD"} | {"bfloat16"}


@dataclasses.dataclass(frozen=True)
class StoredVariable:
    """A result at a point."""

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str


@dataclasses.dataclass(frozen=True)
class StoredLabels:
    """The labels of a result, as `Variable` has them."""

    coords: Coordinates
    attrs: tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True)
class Identity:
    """What tells a sweep from another one.

    program, calls_python: see `Program`
    dimensions: name and parameters of each dimension of the sweep
    axes: number, ends and hash of the values by parameter
    parameters: those held fixed
    computed_by, version: "jax" and its version, or "python"
    attributes: those of the dataset
    reduce: the reductions; None for a store of blocks
    """

    function: str
    program: str
    calls_python: bool
    dtype: str
    dimensions: tuple[tuple[str, tuple[str, ...]], ...]
    axes: dict[str, str]
    parameters: dict[str, Any]
    variables: dict[str, StoredVariable]
    labels: dict[str, StoredLabels]
    blocks: Blocks
    computed_by: str
    version: str
    attributes: dict[str, str]
    reduce: tuple[Any, ...] | None


def read_identity(path: Path) -> Identity:
    """Return the identity that the store at a path holds.

    Raises:
        ValueError: there is no store, it holds something else, or is damaged.
    """
    advice = "must be a store that this version of sweep has made"
    file = path / "zarr.json"
    try:
        group = json.loads(file.read_text(encoding="utf-8"))
        attributes = group["attributes"]
        text = attributes[IDENTITY_KEY]
    except (FileNotFoundError, NotADirectoryError, KeyError, TypeError):
        problem = "holds no sweep" if path.exists() else "is missing"
        raise ValueError(f"{path} {problem}: {advice}") from None
    except (ValueError, RecursionError):
        raise ValueError(f"{file} is no JSON: {advice}") from None
    try:
        if not group.keys() <= _GROUP_KEYS:
            raise ValueError(f"its keys are {', '.join(group)}")
        if (group.get("zarr_format"), group.get("node_type")) != (3, "group"):
            raise ValueError("it is no group of Zarr's format 3")
        if not isinstance(text, str) or attributes.get(CHECKSUM_KEY) != _checksum(text):
            raise ValueError("its checksum is wrong")
        identity = Identity(**to_dataclass(read_mapping(text), Identity, "sweep"))
        _check_values(identity)
    except ValueError as error:
        raise ValueError(f"{file} is damaged: {error}; {advice}") from None
    return identity


def identity_attributes(identity: Identity | dict[str, Any]) -> dict[str, str]:
    """Return the attributes of a Zarr group that hold an identity."""
    text = to_json(identity)
    return {IDENTITY_KEY: text, CHECKSUM_KEY: _checksum(text)}


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _check_values(identity: Identity) -> None:
    """Raise a ValueError for sizes, names or dtypes that no sweep has."""
    blocks = identity.blocks
    if {len(blocks.sizes), len(blocks.shape), len(blocks.chunk)} != {len(identity.dimensions)}:
        raise ValueError("blocks and dimensions differ in number")
    shape_and_chunk = zip(blocks.shape, blocks.chunk, strict=True)
    numbers = (*blocks.sizes, *blocks.shape, *blocks.chunk, blocks.task_length)
    if min(numbers) < 1 or any(length % chunk for length, chunk in shape_and_chunk):
        raise ValueError("sizes of blocks are not whole numbers of chunks")
    for name, variable in identity.variables.items():
        # a name is that of a folder in the store
        if not name or name.startswith(".") or "/" in name:
            raise ValueError(f"{name!r} is no name of a result")
        is_shape = len(variable.dims) == len(variable.shape) and min(variable.shape, default=1) >= 0
        if not is_shape or variable.dtype not in _DTYPES:
            raise ValueError(f"{name} has the shape {variable.shape} of {variable.dtype}")
    if identity.labels.keys() != identity.variables.keys():
        raise ValueError("labels and variables have different names")


def restore_template(identity: Identity) -> Template:
    """Return what the function gives at a point, with shapes and dtypes in place of data."""
    template = {}
    for name, variable in identity.variables.items():
        labels = identity.labels[name]
        abstract = jax.ShapeDtypeStruct(variable.shape, variable.dtype)
        template[name] = Variable(abstract, variable.dims, labels.coords, labels.attrs)
    return template


def make_identity(
    function: SweptFunction, blocks: Blocks, reductions: tuple[Reduction, ...]
) -> Identity:
    """Return the identity of a sweep."""
    parameters = json.loads(function.attrs["params"])
    axes = {}
    for name, values in function.axes.values.items():
        # the hash stands for all values, the rest is for the reader of an error message
        digest = hashlib.sha256(values.tobytes()).hexdigest()[:12]
        axes[name] = f"{values.size} values from {values[0]:g} to {values[-1]:g} ({digest})"
        parameters.pop(name, None)
    variables = {}
    labels = {}
    for name, variable in function.template.items():
        data = variable.data
        variables[name] = StoredVariable(variable.dims, data.shape, str(data.dtype))
        labels[name] = StoredLabels(variable.coords, variable.attrs)
    program = function.program()
    computed_by, version = function.backend
    return Identity(
        function=function.attrs["function"],
        program=program.digest,
        calls_python=program.calls_python,
        dtype=function.dtype,
        dimensions=function.axes.layout,
        axes=axes,
        parameters=parameters,
        variables=variables,
        labels=labels,
        blocks=blocks,
        computed_by=computed_by,
        version=version,
        attributes=function.attrs,
        reduce=tuple(reduction.describe() for reduction in reductions) or None,
    )


def check_identity(path: Path, stored: Identity, new: Identity) -> None:
    """Raise a ValueError that names every difference between two sweeps."""
    # as JSON has them: there NaN equals itself
    stored_parts, new_parts = to_plain(stored), to_plain(new)
    differences = []
    for key, part in stored_parts.items():
        if key not in _MAY_DIFFER:
            differences += _differences(part, new_parts[key], key.replace("_", " "))
    # The lowered program is compared only if both JAX versions are equal.
    same_version = stored.version == new.version
    if not differences and same_version and stored.program != new.program:
        differences = [f"the store was made by a different version of {new.function}"]
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
