"""Checks of values from outside, and the error messages that they give.

A check returns a message, or None for a good value, so that one error can name every bad value.
"""

import abc
import contextlib
import difflib
import importlib
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Self, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from rbn_jax.parameters.domains import Domain


class ParameterSet(abc.ABC):
    """Base class of parameters that can check themselves.

    A function that takes parameters from outside calls `check` where they have this class.
    """

    @abc.abstractmethod
    def check(self) -> Self:
        """Return self; raise a ValueError that names every bad value."""

    @abc.abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return every number and choice by name."""

    @classmethod
    @abc.abstractmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Self:
        """Return the parameters that `to_dict` gave."""


def restore_parameter_set(class_name: str, mapping: Mapping[str, Any]) -> ParameterSet:
    """Return parameters from the qualified name of their class and what `to_dict` gave.

    The class is imported by its name: the text may come from a file, so nothing but parameter
    sets of this package is taken.

    Raises:
        ValueError: there is no such class.
    """
    module_name, _, name = class_name.rpartition(".")
    if re.fullmatch(r"rbn_jax(\.\w+)+", module_name):
        with contextlib.suppress(ImportError):
            found = getattr(importlib.import_module(module_name), name, None)
            if isinstance(found, type) and issubclass(found, ParameterSet):
                return found.from_mapping(mapping)
    raise ValueError(f"{class_name!r} is no class of parameters in this version of rbn_jax")


def unknown_name_error(name: object, valid: Iterable[str], what: str = "parameter") -> ValueError:
    """Return the error for a name that does not exist: similar names first, then all."""
    valid_names = sorted(valid)
    by_lower_case = {valid_name.lower(): valid_name for valid_name in valid_names}
    matches = difflib.get_close_matches(str(name).lower(), by_lower_case, n=4)
    similar = [by_lower_case[match] for match in matches]
    hint = f"did you mean {' or '.join(similar)}? " if similar else ""
    all_names = ", ".join(valid_names)
    return ValueError(f"unknown {what} {str(name)!r}; {hint}valid names: {all_names}")


def check_names(names: Iterable[object], valid: Collection[str], what: str = "parameter") -> None:
    """Raise the error for the first of the names that is not valid."""
    for name in names:
        if name not in valid:
            raise unknown_name_error(name, valid, what)


def raise_if_any(messages: Iterable[str | None], advice: str) -> None:
    """Raise one ValueError with all messages and the advice, if there is a message."""
    errors = [message for message in messages if message]
    if errors:
        raise ValueError("; ".join(errors) + f". {advice}")


def to_numpy(value: object) -> np.ndarray:
    """Return value as a NumPy array, bfloat16 as float32: NumPy takes it for a type of bytes."""
    array = np.asarray(value)
    # the check of the kind is faster, and nearly always enough
    if array.dtype.kind == "V" and jnp.issubdtype(array.dtype, jnp.floating):
        return array.astype(np.float32)
    return array


def is_number(value: object) -> bool:
    """Return whether value is one finite number; text and truth values are not."""
    array = to_numpy(value)
    return array.ndim == 0 and array.dtype.kind in "iuf" and bool(np.isfinite(array))


def to_numbers(
    name: str, mapping: object, valid: Collection[str], what: str = "parameter"
) -> dict[str, float]:
    """Return numbers by name.

    Args:
        name: of the argument.
        mapping: of names to numbers.
        valid: the names that may be in it.
        what: the word for a name in the error message.

    Raises:
        ValueError: the argument is no mapping or is empty; an unknown name; no number.
    """
    if not isinstance(mapping, Mapping) or not mapping:
        raise ValueError(f"{name}={mapping!r}: must map names to numbers")
    check_names(mapping, valid, what)
    for key, value in mapping.items():
        if not is_number(value):
            raise ValueError(f"{name} of {key} is {value!r}: must be a finite number")
    return {key: float(value) for key, value in mapping.items()}


def to_whole_number(name: str, value: Any, minimum: int) -> int:
    """Return value as an integer.

    Raises:
        ValueError: the value is no whole number, or is less than the minimum.
    """
    if not is_number(value) or value != int(value) or value < minimum:
        raise ValueError(f"{name}={value!r}: must be a whole number >= {minimum}")
    return int(value)


def masked_message(name: str, value: object) -> str | None:
    """Return the message for a NumPy array with masked elements."""
    # the check of the type is faster, and nearly always enough
    if not isinstance(value, np.ma.MaskedArray) or not np.ma.is_masked(value):
        return None
    return f"{name} holds masked values: must hold numbers only; fill or drop them first"


def to_number_array(name: str, value: object, kinds: str = "iuf") -> np.ndarray:
    """Return numbers as an array.

    kinds: the kinds of NumPy's dtypes that are allowed

    Raises:
        ValueError: a masked value, rows of different lengths, other values than numbers.
    """
    if masked := masked_message(name, value):
        raise ValueError(masked)
    try:
        array = to_numpy(value)
    except ValueError as error:
        raise ValueError(f"{name}: must be an array of numbers") from error
    if array.dtype.kind not in kinds:
        raise ValueError(f"{name} holds {array.dtype} values: must be numbers")
    return array


def check_domain(name: str, value: object, domain: Domain, unit: str = "") -> str | None:
    """Return what is wrong with a value, or with the first bad element of an array.

    A value under a trace is not looked at.
    """
    if isinstance(value, Tracer):
        return None
    if type(value) is float and domain.contains(value):
        return None
    if masked := masked_message(name, value):
        return masked
    array = to_numpy(value)
    if array.dtype.kind not in "iuf":
        return f"{name}={value!r}: must be {domain.description}, not a {type(value).__name__}"
    bad = np.argwhere(~np.asarray(domain.contains(array)))
    if not len(bad):
        return None
    index = tuple(int(i) for i in bad[0])
    element = f"{name}[{', '.join(map(str, index))}]" if index else name
    value_with_unit = f"{array[index]:g} {unit}".strip()
    others = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
    return f"{element}={value_with_unit}{others}: must be {domain.description}"


def check_order(low_name: str, low: object, high_name: str, high: object) -> str | None:
    """Return what is wrong with two potentials [mV] if `high` is not above `low`."""
    if type(low) is float and type(high) is float and high > low:
        return None
    if isinstance(low, Tracer) or isinstance(high, Tracer):
        return None
    low_array, high_array = to_numpy(low), to_numpy(high)
    # `check_domain` gives the message for values that are no numbers
    if not {low_array.dtype.kind, high_array.dtype.kind} <= set("iuf"):
        return None
    low_values, high_values = np.broadcast_arrays(low_array, high_array)
    bad = np.argwhere(high_values <= low_values)
    if not len(bad):
        return None
    index = tuple(bad[0])
    return f"{high_name}={high_values[index]:g} mV: must be > {low_name}={low_values[index]:g} mV"


def check_matrix_shape(name: str, value: ArrayLike) -> str | None:
    """Return what is wrong with the shape of a (..., 2, 2) matrix."""
    shape = np.shape(value)
    return None if shape[-2:] == (2, 2) else f"{name} has the shape {shape}: must be (2, 2)"


def to_floating(value: Any) -> Any:
    """Return integers as floats, so that they have derivatives, and masked arrays as plain ones.

    All else is returned as it is: a tracer, and a value that `check_domain` will refuse.
    """
    if type(value) is float or isinstance(value, Tracer | bool | np.bool_):
        return value
    if isinstance(value, np.ma.MaskedArray):
        value = np.asarray(value)
    if isinstance(value, int | np.integer):
        # an integer above the largest float stays, and is refused later
        return float(value) if abs(int(value)) < 2**1023 else value
    if isinstance(value, np.ndarray) and value.dtype.kind in "iu":
        return value.astype(float)
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jnp.integer):
        return value.astype(jnp.result_type(float))
    return value


def to_number(name: str, value: object) -> float | np.ndarray | jax.Array:
    """Return value as a float, or a copy of an array of numbers.

    Raises:
        ValueError: the value is something else.
    """
    if type(value) is float or isinstance(value, jax.Array):
        return value
    if masked := masked_message(name, value):
        raise ValueError(masked)
    array = to_numpy(np.array(None if isinstance(value, Mapping) else value))
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{name}={value!r}: must be a number, not a {type(value).__name__}")
    return float(array) if array.ndim == 0 else array.astype(float)


def to_matrix(name: str, value: object) -> np.ndarray | jax.Array:
    """Return value as a (..., 2, 2) array of numbers.

    Raises:
        ValueError: the value is something else.
    """
    matrix = to_number(name, value)
    advice = "Rows are targets, columns sources: [[EE, EI], [IE, II]]."
    raise_if_any([check_matrix_shape(name, matrix)], advice)
    # a single number was refused for its shape
    return cast("np.ndarray | jax.Array", matrix)
