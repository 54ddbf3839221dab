"""Values and units of named numbers as text."""

import textwrap
from collections.abc import Iterable

import numpy as np

from rbn_jax.parameters.access import Location, Parameters, read_parameters

_NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"


def describe_others(params: object, names: Iterable[str], width: int = 92) -> list[str]:
    """Return lines with name, value and unit of every number but those in `names`."""
    parameters = read_parameters(params)
    left_out = {parameters.locate(name) for name in names}
    paths_left_out = {location.path for location in left_out}
    others = [path for path in parameters.numbers if path not in paths_left_out]
    for name in parameters.names():
        location = parameters.locate(name)
        is_left_out = location in left_out or Location(location.path) in left_out
        # the other elements of an array of which some are left out, but not all
        if location.path in paths_left_out and not is_left_out:
            others.append(name)
    items = [_describe(parameters, name) for name in others]
    # so that no line is broken between a number and its unit
    unbroken = ", ".join(item.replace(" ", _NO_BREAK_SPACE) for item in items)
    text = textwrap.fill(unbroken, width, break_long_words=False, break_on_hyphens=False)
    return text.replace(_NO_BREAK_SPACE, " ").splitlines()


def _describe(parameters: Parameters, name: str) -> str:
    """Return name, value and unit; the value of a long array is shortened."""
    location = parameters.locate(name)
    array = np.asarray(parameters.read(location))
    if array.ndim == 0:
        text = f"{array:.6g}"
    else:
        text = np.array2string(array, precision=6, separator=", ", threshold=9, edgeitems=2)
    unit = parameters.field(location).unit
    return " ".join([name, *text.split(), unit]).rstrip()
