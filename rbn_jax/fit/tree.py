"""Parameters by name, in whatever holds them: a NetworkParams, a mapping, or any pytree.

What `_fields` knows, a network or a flat mapping, has its names there, entries of the matrix
included; the numbers of another pytree are called by their paths, as "synapse.tau" or "1.weight".
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from rbn_jax import _fields as f
from rbn_jax.params import NetworkParams


def is_flat(params: Any) -> bool:
    """Whether `_fields` knows it: a network, or a mapping of numbers, arrays and lists of them."""
    if isinstance(params, Mapping):
        return not any(isinstance(x, Mapping) or _is_inner(x) for x in params.values())
    return isinstance(params, NetworkParams)


def check(params: Any) -> None:
    """ValueError unless it holds numbers, by name."""
    if is_flat(params):
        f.check_numbers(params)
        return
    leaves = _by_path(params)
    if "" in leaves or not leaves:
        raise ValueError(
            f"params is a {type(params).__name__}: must be a NetworkParams, a mapping of numbers, "
            "or a pytree that holds some"
        )
    for name, value in leaves.items():
        if np.asarray(value).dtype.kind not in "iuf":
            raise ValueError(f"{name}={value!r} is no number")


def names(params: Any) -> tuple[str, ...]:
    """The names of all numbers."""
    return f.names(params) if is_flat(params) else tuple(_by_path(params))


def read(params: Any, name: str) -> Any:
    """One of them."""
    return f.read(params, name) if is_flat(params) else _by_path(params)[name]


def write(params: Any, changes: Mapping[str, Any]) -> Any:
    """A copy in which some are changed."""
    if is_flat(params):
        return f.write(params, changes)
    leaves = {**_by_path(params), **changes}
    return jax.tree.unflatten(jax.tree.structure(params), list(leaves.values()))


def plain(params: Any) -> dict[str, Any]:
    """Numbers, text and lists by name, for JSON."""
    return f.plain(params if is_flat(params) else _by_path(params))


def _by_path(params: Any) -> dict[str, Any]:
    pairs = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path, simple=True, separator="."): x for path, x in pairs}


def _is_inner(x: Any) -> bool:
    """Whether a value of a mapping is a pytree of its own and no array, nor a list of numbers."""
    if isinstance(x, list | tuple) and not hasattr(x, "_fields"):
        return any(isinstance(y, Mapping) or _is_inner(y) for y in x)
    return x is not None and not jax.tree_util.all_leaves([x])
