"""Arrays, dataclasses and numbers that are not finite as JSON, and back."""

import dataclasses
import json
import math
from typing import Any

import numpy as np

_NOT_FINITE = ("nan", "inf", "-inf")


def to_json(value: object) -> str:
    """Return value as JSON; numbers that are not finite are the texts "nan", "inf" and "-inf"."""
    return json.dumps(_to_plain(value), allow_nan=False)


def from_json(text: str) -> Any:
    """Return what `to_json` wrote, in lists and mappings.

    Raises:
        ValueError: the text is no JSON.
    """
    return _to_numbers(json.loads(text))


def _to_plain(value: object) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = vars(value)
    if isinstance(value, dict):
        return {name: _to_plain(element) for name, element in value.items()}
    if isinstance(value, list | tuple):
        return [_to_plain(element) for element in value]
    if isinstance(value, np.ndarray | np.generic):
        return _to_plain(value.tolist())
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _to_numbers(value: object) -> Any:
    if isinstance(value, dict):
        return {name: _to_numbers(element) for name, element in value.items()}
    if isinstance(value, list):
        return [_to_numbers(element) for element in value]
    return float(value) if isinstance(value, str) and value in _NOT_FINITE else value
