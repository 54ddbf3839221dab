"""What tells a sweep from another one: it is kept in the store of the sweep, and compared."""

import hashlib
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from rbn_jax.parameters.labels import Variable
from rbn_jax.reductions import Reduction
from rbn_jax.sweeps.blocks import Blocks
from rbn_jax.sweeps.evaluator import SweptFunction, Template
from rbn_jax.system.forms import check_form

# the attributes of the Zarr group that hold the identity as JSON, and its SHA-256; 3 is the format
IDENTITY_KEY = "rbn_jax_sweep_3"
CHECKSUM_KEY = "rbn_jax_sweep_sha256"
# Parts of the identity that may differ: blocks are taken from the store, a JAX of another version
# may lower the same function to another program, and labels and attributes are not computed with.
_MAY_DIFFER = {"blocks", "version", "program", "calls Python", "labels", "attributes"}

_FORM = {
    "function": str,
    "program": str,
    "calls Python": bool,
    "dtype": str,
    "dimensions": [(str, [str])],
    "axes": {"*": str},
    "parameters": {"*": object},
    "variables": {"*": ([str], [int], str)},
    "labels": {"*": ([(str, [str], [object])], [(str, str)])},
    "blocks": {"sizes": [int], "shape": [int], "chunk": [int], "task_length": int},
    "computed by": str,
    "version": str,
    "attributes": {"*": str},
    "reduce?": [object],
}
_GROUP_FORM = {
    "attributes": {"*": object},
    "zarr_format": int,
    "node_type": str,
    "consolidated_metadata?": object,
}

# of results: truth values, integers, floating and complex numbers
_DTYPES = {np.dtype(code).name for code in np.typecodes["AllInteger"] + "?efdFD"} | {"bfloat16"}

Identity = dict[str, Any]
"""What tells a sweep from another one, as JSON holds it."""


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
        check_form(group, _GROUP_FORM, "group")
        if (group["zarr_format"], group["node_type"]) != (3, "group"):
            raise ValueError("it is no group of Zarr's format 3")
        if not isinstance(text, str) or attributes.get(CHECKSUM_KEY) != _checksum(text):
            raise ValueError("its checksum is wrong")
        identity = json.loads(text, parse_constant=str)
        check_form(identity, _FORM, "sweep")
        _check_values(identity)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is damaged: {error}; {advice}") from None
    return identity


def identity_attributes(identity: Identity) -> dict[str, str]:
    """Return the attributes of a Zarr group that hold an identity."""
    text = json.dumps(identity)
    return {IDENTITY_KEY: text, CHECKSUM_KEY: _checksum(text)}


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _check_values(identity: Identity) -> None:
    """Raise a ValueError for sizes, names or dtypes that no sweep has."""
    blocks = identity["blocks"]
    lengths = [len(blocks[name]) for name in ("sizes", "shape", "chunk")]
    if lengths != [len(identity["dimensions"])] * 3:
        raise ValueError("blocks and dimensions differ in number")
    shape_and_chunk = zip(blocks["shape"], blocks["chunk"], strict=True)
    numbers = [*blocks["sizes"], *blocks["shape"], *blocks["chunk"], blocks["task_length"]]
    if min(numbers) < 1 or any(length % chunk for length, chunk in shape_and_chunk):
        raise ValueError("sizes of blocks are not whole numbers of chunks")
    for name, (dims, shape, dtype) in identity["variables"].items():
        # a name is that of a folder in the store
        if not name or name.startswith(".") or "/" in name:
            raise ValueError(f"{name!r} is no name of a result")
        if len(dims) != len(shape) or min(shape, default=1) < 0 or dtype not in _DTYPES:
            raise ValueError(f"{name} has the shape {shape} of {dtype}")
    if identity["labels"].keys() != identity["variables"].keys():
        raise ValueError("labels and variables have different names")


def restore_template(identity: Identity) -> Template:
    """Return what the function gives at a point, with shapes and dtypes in place of data."""
    template = {}
    for name, (dims, shape, dtype) in identity["variables"].items():
        coords, attrs = identity["labels"][name]
        template[name] = Variable(
            jax.ShapeDtypeStruct(tuple(shape), dtype),
            tuple(dims),
            tuple((coord, tuple(along), tuple(labels)) for coord, along, labels in coords),
            tuple((key, text) for key, text in attrs),
        )
    return template


def make_identity(
    function: SweptFunction, blocks: Blocks, reductions: tuple[Reduction, ...]
) -> Identity:
    """Return the identity of a sweep, in the types that JSON has."""
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
        variables[name] = (variable.dims, variable.data.shape, str(variable.data.dtype))
        labels[name] = (variable.coords, variable.attrs)
    identity = {
        "function": function.attrs["function"],
        "program": function.program(),
        "calls Python": function.calls_python,
        "dtype": function.dtype,
        "dimensions": function.axes.layout,
        "axes": axes,
        "parameters": parameters,
        "variables": variables,
        "labels": labels,
        "blocks": vars(blocks),
        "computed by": function.backend[0],
        "version": function.backend[1],
        "attributes": function.attrs,
    }
    if reductions:
        identity["reduce"] = [reduction.describe() for reduction in reductions]
    # tuples become lists, as in the identity that is read from a store, and NaN equals itself
    return json.loads(json.dumps(identity), parse_constant=str)


def check_identity(path: Path, stored: Identity, new: Identity) -> None:
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


def may_differ(stored: Identity, function: SweptFunction) -> bool:
    """Return whether a function may be another one than that of an equal identity.

    That is so if another version of JAX has lowered its program, or if it calls Python, whose
    code is not part of its program.
    """
    return function.calls_python or stored["version"] != function.backend[1]


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
