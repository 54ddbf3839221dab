"""What a named parameter is: its unit, the values it may take, and how it is read and changed."""

import dataclasses
import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

MATRIX = "baseline_conn_prob"
ENTRIES = {f"{MATRIX}_{t}{s}": (i, j) for i, t in enumerate("EI") for j, s in enumerate("EI")}
"""One entry of the matrix by name, target first: `baseline_conn_prob_EI` is [0, 1], I to E."""


@dataclasses.dataclass(frozen=True)
class Domain:
    """The values a parameter may take: in words, and from the least to the most of them."""

    words: str
    least: float
    most: float
    whole: bool = False

    def holds(self, x: Any) -> Any:
        """Whether values, an array or a float, are among them."""
        if type(x) is float:
            return self.least <= x <= self.most and (not self.whole or x.is_integer())
        # of float64, so that float32 numbers are compared in it
        inside = (x >= np.float64(self.least)) & (x <= np.float64(self.most))
        return inside & (x == np.floor(x)) if self.whole else inside


TINY, MAX = float(np.finfo(float).tiny), float(np.finfo(float).max)
REAL = Domain("a finite number", -MAX, MAX)
POSITIVE = Domain("a finite number > 0", TINY, MAX)  # the formulas take no subnormal numbers
NOT_NEGATIVE = Domain("a finite number >= 0", 0.0, MAX)
COUNT = Domain("a whole number >= 1", 1.0, MAX, whole=True)
PROBABILITY = Domain("a probability > 0 and <= 1", math.ulp(0.0), 1.0)


def number(default: float, unit: str, domain: Domain) -> Any:
    """A dataclass field that holds a number, or an array of them."""
    return dataclasses.field(default=default, metadata={"unit": unit, "domain": domain})


def choice(default: Any, *options: Any) -> Any:
    """A dataclass field that no formula differentiates: static in the pytree."""
    return dataclasses.field(default=default, metadata={"static": True, "options": options})


def numbers_of(params: Any) -> tuple[str, ...]:
    """The names of a dataclass's fields that hold numbers."""
    return tuple(field.name for field in dataclasses.fields(params) if "domain" in field.metadata)


def names(params: Any) -> tuple[str, ...]:
    """The names of the numbers in a NetworkParams or a mapping, matrix entries included."""
    own = params if isinstance(params, Mapping) else numbers_of(params)
    return tuple(n for n in own if n != MATRIX) + (tuple(ENTRIES) if MATRIX in own else ())


def read(params: Any, name: str) -> Any:
    """One number of a NetworkParams or a mapping, by field name or by entry of the matrix."""
    get = params.__getitem__ if isinstance(params, Mapping) else params.__getattribute__
    if name not in ENTRIES:
        return get(name)
    return as_array(get(MATRIX))[(..., *ENTRIES[name])]


def as_array(value: Any) -> Any:
    """value as JAX's array if it is or holds one, as NumPy's otherwise."""
    traced = any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(value))
    return jnp.asarray(value) if traced else np.asarray(value)


def write(params: Any, changes: Mapping[str, Any]) -> Any:
    """A copy of a NetworkParams or a mapping with some values changed, entries included."""
    fields = params if isinstance(params, Mapping) else [x.name for x in dataclasses.fields(params)]
    valid = {*fields, *names(params)}
    for name in changes:
        if name not in valid:
            raise unknown_name(name, valid)
    values = {name: value for name, value in changes.items() if name not in ENTRIES}
    for name in (name for name in changes if name in ENTRIES):
        matrix = values.get(MATRIX, read(params, MATRIX))
        values[MATRIX] = _with_entry(matrix, ENTRIES[name], changes[name])
    if isinstance(params, Mapping):
        return {**params, **values}
    return dataclasses.replace(params, **values)


def _with_entry(matrix: Any, entry: tuple[int, int], value: Any) -> Any:
    """A float copy of the matrix with one entry changed; an array of values gives as many."""
    matrix, value = as_array(matrix), as_array(value)
    shape = np.broadcast_shapes((*value.shape, 2, 2), matrix.shape)
    if isinstance(matrix, jax.Array) or isinstance(value, jax.Array):
        copy = jnp.broadcast_to(matrix, shape).astype(jnp.result_type(matrix, value, float))
        return copy.at[(..., *entry)].set(value)
    copy = np.array(np.broadcast_to(matrix, shape), float)
    copy[(..., *entry)] = value
    return copy


def plain(params: Any) -> dict[str, Any]:
    """A NetworkParams or a mapping as numbers, text and lists, for JSON and TOML."""
    values = params if isinstance(params, Mapping) else params.to_dict()
    return {name: np.asarray(value).tolist() for name, value in values.items()}


def check_numbers(params: Any) -> None:
    """ValueError unless params is a dataclass of parameters or a mapping of numbers."""
    if not isinstance(params, Mapping):
        if not dataclasses.is_dataclass(params):
            raise ValueError(
                f"params is a {type(params).__name__}: must be a NetworkParams, or a mapping of "
                "numbers"
            )
        return
    for name, value in params.items():
        if isinstance(value, str | bool | None):
            raise ValueError(
                f"{name}={value!r} is no number; for NEST's net_dict use "
                "NetworkParams.from_mapping(net_dict)"
            )


def unknown_name(name: str, valid: Iterable[str], what: str = "parameter") -> ValueError:
    """The error for a name that nothing has: the near ones first, then all."""
    valid = sorted(valid)
    folded = {other.lower(): other for other in valid}
    near = [folded[match] for match in difflib.get_close_matches(name.lower(), folded, n=4)]
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return ValueError(f"unknown {what} {name!r}; {hint}valid names: {', '.join(valid)}")


def is_real(value: Any) -> bool:
    """Whether value is one finite number; text and truth values are none."""
    array = np.asarray(value)
    return array.ndim == 0 and array.dtype.kind in "iuf" and bool(np.isfinite(array))


def as_number(name: str, value: Any) -> Any:
    """value as a float, or a copy of an array of numbers; ValueError for anything else."""
    if type(value) is float:  # the common case, and the fast one
        return value
    if isinstance(value, jax.Array):
        return value
    array = np.array(None if isinstance(value, Mapping) else value)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{name}={value!r}: must be a number, not a {type(value).__name__}")
    return float(array) if array.ndim == 0 else array.astype(float)


def as_matrix(name: str, value: Any) -> Any:
    """value as a (..., 2, 2) array of numbers; ValueError for anything else."""
    array = value if isinstance(value, jax.Array) else as_number(name, value)
    raise_all([shape_complaint(array)], "Rows are targets, columns sources: [[EE, EI], [IE, II]].")
    return array


def shape_complaint(matrix: Any) -> str | None:
    """What is wrong with the shape of the matrix of probabilities, or None."""
    if np.shape(matrix)[-2:] == (2, 2):
        return None
    return f"{MATRIX} has the shape {np.shape(matrix)}: must be (2, 2)"


def complaint(name: str, value: Any, domain: Domain, unit: str = "") -> str | None:
    """What is wrong with a value, or None; a value under a trace is not looked at."""
    if isinstance(value, Tracer) or (type(value) is float and domain.holds(value)):
        return None
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        return f"{name}={value!r}: must be {domain.words}, not a {type(value).__name__}"
    bad = np.argwhere(~domain.holds(array))
    if not len(bad):
        return None
    index = tuple(int(i) for i in bad[0])
    where = f"{name}[{', '.join(map(str, index))}]" if index else name
    more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
    return f"{where}={array[index]:g}{unit and ' ' + unit}{more}: must be {domain.words}"


def order_complaint(low: str, below: Any, high: str, above: Any) -> str | None:
    """What is wrong with two potentials [mV] that must be one above the other, or None."""
    if type(below) is type(above) is float and above > below:
        return None
    if any(isinstance(x, Tracer) or np.asarray(x).dtype.kind not in "iuf" for x in (below, above)):
        return None
    below, above = np.broadcast_arrays(below, above)
    bad = np.argwhere(above <= below)
    if not len(bad):
        return None
    index = tuple(bad[0])
    return f"{high}={above[index]:g} mV: must be > {low}={below[index]:g} mV"


def raise_all(complaints: Iterable[str | None], advice: str) -> None:
    """One ValueError that holds every complaint, and what to do."""
    found = [text for text in complaints if text]
    if found:
        raise ValueError("; ".join(found) + f". {advice}")
