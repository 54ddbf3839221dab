"""Dataclasses, arrays and numbers that are not finite as JSON, and back."""

import dataclasses
import json
import math
import types
from collections.abc import Mapping
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np

_NOT_FINITE = ("nan", "inf", "-inf")


def to_json(value: object) -> str:
    """Return value as JSON; numbers that are not finite are the texts "nan", "inf" and "-inf"."""
    return json.dumps(to_plain(value), allow_nan=False)


def to_plain(value: object) -> Any:
    """Return value as `to_json` writes it, in the types that JSON has."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {name: to_plain(element) for name, element in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(element) for element in value]
    if isinstance(value, np.ndarray | np.generic):
        return to_plain(value.tolist())
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def read_mapping(text: str) -> dict[str, Any]:
    """Return the mapping that a JSON text holds.

    Raises:
        ValueError: the text is no JSON, or holds something else.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError(f"it holds {_short(value)}, no mapping")
    return value


def to_dataclass(mapping: Mapping[str, Any], cls: type, name: str) -> dict[str, Any]:
    """Return the fields of a dataclass from what JSON holds, as its annotations say.

    Annotations may be str, int, float, bool, Any, numpy.ndarray (of numbers), dataclasses, and
    X | None, dict[str, X], tuple[X, ...] and tuple[X, Y] of these. Private fields are left out.

    name: of the dataclass, for error messages

    Raises:
        ValueError: a field is missing, unknown, or of another type.
    """
    hints = get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls) if field.name[0] != "_"]
    for key in names:
        if key not in mapping:
            raise ValueError(f"{name} lacks {key}")
    for key in mapping:
        if key not in names:
            raise ValueError(f"{name}.{key} is unknown: must be one of {', '.join(names)}")
    return {key: _convert(mapping[key], hints[key], f"{name}.{key}") for key in names}


def _convert(value: Any, hint: Any, name: str) -> Any:
    """Return what JSON holds as the type that an annotation names."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return _to_numbers(value)
    if origin is types.UnionType:
        return None if value is None else _convert(value, arguments[0], name)
    if origin is dict and isinstance(value, dict):
        return {key: _convert(part, arguments[1], f"{name}.{key}") for key, part in value.items()}
    if origin is tuple and isinstance(value, list):
        if arguments[-1] is Ellipsis:
            arguments = (arguments[0],) * len(value)
        if len(value) != len(arguments):
            raise ValueError(f"{name} has {len(value)} elements: must have {len(arguments)}")
        parts = zip(value, arguments, strict=True)
        return tuple(_convert(part, own, f"{name}[{i}]") for i, (part, own) in enumerate(parts))
    if hint is np.ndarray and isinstance(value, list):
        return _to_array(value, name)
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return hint(**to_dataclass(value, hint, name))
    if hint is float and _is_number(value):
        return float(value)
    if isinstance(hint, type) and type(value) is hint:
        return value
    raise ValueError(f"{name} is {_short(value)}: must be {getattr(hint, '__name__', hint)}")


def _to_numbers(value: Any) -> Any:
    """Return value with the texts "nan", "inf" and "-inf" as numbers."""
    if isinstance(value, dict):
        return {name: _to_numbers(element) for name, element in value.items()}
    if isinstance(value, list):
        return [_to_numbers(element) for element in value]
    return float(value) if value in _NOT_FINITE else value


def _to_array(value: list[Any], name: str) -> np.ndarray:
    try:
        array = np.array(value, object)
        if all(map(_is_number, array.flat)):
            return array.astype(float)
    # rows of different lengths
    except ValueError:
        pass
    raise ValueError(f"{name} is {_short(value)}: must be an array of numbers")


def _is_number(value: object) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number or (isinstance(value, str) and value in _NOT_FINITE)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
