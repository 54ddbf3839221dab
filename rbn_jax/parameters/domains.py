"""The values that a parameter may take, and the dataclass fields that hold parameters."""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

_LARGEST = float(np.finfo(float).max)
SMALLEST_NORMAL = float(np.finfo(float).tiny)


@dataclasses.dataclass(frozen=True)
class Domain:
    """The numbers from `minimum` to `maximum`, or the integers among them.

    Args:
        description: the domain in words, for error messages: "a finite number > 0".
        minimum, maximum: the smallest and the largest value; both belong to the domain.
        integer: whether only whole numbers belong to it.

    >>> Domain("a probability", 0.0, 1.0).contains(0.5)
    True
    """

    description: str
    minimum: float
    maximum: float
    integer: bool = False

    def contains(self, values: ArrayLike) -> bool | np.ndarray:
        """Return whether a float, or each element of an array, belongs to the domain."""
        if type(values) is float:  # most values are floats, and arrays take ten times as long
            inside = self.minimum <= values <= self.maximum
            return inside and (not self.integer or values.is_integer())
        array = np.asarray(values)
        # limits in float64, so that float32 values are compared with the exact limits
        inside = (array >= np.float64(self.minimum)) & (array <= np.float64(self.maximum))
        if self.integer:
            inside &= array == np.floor(array)
        return inside


REAL = Domain("a finite number", -_LARGEST, _LARGEST)
# the formulas do not take subnormal numbers
POSITIVE = Domain("a finite number > 0", SMALLEST_NORMAL, _LARGEST)
NOT_NEGATIVE = Domain("a finite number >= 0", 0.0, _LARGEST)
COUNT = Domain("a whole number >= 1", 1.0, _LARGEST, integer=True)
PROBABILITY = Domain("a probability > 0 and <= 1", math.ulp(0.0), 1.0)
SHARE = Domain("a number from 0 to 1", 0.0, 1.0)


class NumberField(NamedTuple):
    """What is known of a field that holds a number or an array of numbers.

    unit: "" for a pure number
    long_name: what the number is, for readers; "" if that is not known
    domain: of each number
    ndim: number of axes without a batch, as 2 of a matrix; None where any number is possible
    """

    unit: str = ""
    long_name: str = ""
    domain: Domain = REAL
    ndim: int | None = None


_METADATA_TYPES = {"unit": str, "long_name": str, "domain": Domain, "ndim": int}


def number(unit: str, long_name: str, domain: Domain, ndim: int | None = 0, **options: Any) -> Any:
    """Make a dataclass field for a number, or with `ndim` for an array of numbers.

    `options` are those of `dataclasses.field`: default, default_factory.
    """
    metadata = {"unit": unit, "long_name": long_name, "domain": domain, "ndim": ndim}
    return dataclasses.field(metadata=metadata, **options)


def choice(default: object, *options: object) -> Any:
    """Make a dataclass field for a choice, which no formula differentiates.

    `options` are the valid values; without them the class checks the field itself.
    """
    return dataclasses.field(default=default, metadata={"static": True, "options": options})


@functools.lru_cache
def number_fields(dataclass: type) -> Mapping[str, NumberField]:
    """Return what is known of every field with a unit, long_name or domain in its metadata."""
    fields = {}
    for field in dataclasses.fields(dataclass):
        known = {}
        for key, value in field.metadata.items():
            # other libraries use these keys for values of other types
            if isinstance(value, _METADATA_TYPES.get(key, ())):
                known[key] = value
        if known:
            fields[field.name] = NumberField(**known)
    return fields
