"""Conditions on the entries of a function's result, from text such as "EI<-30&EE>=10"."""

import dataclasses
import functools
import operator
import re
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from rbn_jax.parameters.checks import check_names
from rbn_jax.parameters.labels import label_result

_COMPARISONS = {
    "<=": (operator.le, "at_most"),
    ">=": (operator.ge, "at_least"),
    "<": (operator.lt, "below"),
    ">": (operator.gt, "above"),
}
"""Function and name of each sign."""

_TERM = re.compile(r"\s*([^<>=\s]+)\s*(<=|>=|<|>)\s*([^<>=\s]+)\s*")


class Term(NamedTuple):
    """One comparison: of an entry of the result, called by its labels, with a number."""

    entry: str
    sign: str
    number: float


@dataclasses.dataclass(frozen=True)
class Condition:
    """Whether all terms hold for a result of fn; a term does not hold for NaN."""

    fn: Callable[..., object]
    terms: tuple[Term, ...]

    def __call__(self, result: object) -> Array:
        """Return one truth value.

        Raises:
            ValueError: the result has no entry of such a name.
        """
        entries = _label_entries(self.fn, result)
        holds = []
        for term in self.terms:
            check_names([term.entry], entries, "entry of the result")
            compare, _ = _COMPARISONS[term.sign]
            holds.append(compare(entries[term.entry], term.number))
        return functools.reduce(jnp.logical_and, holds)

    @property
    def __name__(self) -> str:
        """The name for results, such as "EI_below_-30_and_EE_at_least_10"."""
        names = []
        for entry, sign, number in self.terms:
            _, comparison = _COMPARISONS[sign]
            names.append(f"{entry}_{comparison}_{number:g}")
        return "_and_".join(names).replace("/", "_per_")


def read_condition(text: str, fn: Callable[..., object]) -> Condition:
    """Read a condition on the result of fn: "entry<number", or several joined by "&".

    The signs are <, <=, > and >=. An entry is called by its labels: EI is the entry of
    target E and source I, EI/tau_E its derivative by tau_E. Of several variables the name
    comes first: rates_E.

    Raises:
        ValueError: another text.
    """
    terms = []
    for part in text.split("&"):
        match = _TERM.fullmatch(part)
        try:
            entry, sign, number = match.groups() if match else ("", "", "")
            terms.append(Term(entry, sign, float(number)))
        except ValueError:
            raise ValueError(
                f"{part!r} is no condition: must be an entry, <, <=, > or >= and a number, "
                "as EI<-30; several joined by &"
            ) from None
    return Condition(fn, tuple(terms))


def _label_entries(fn: Callable[..., object], result: object) -> dict[str, Array]:
    """Return every number of a result by its labels."""
    entries = {}
    variables = label_result(fn, result)
    for name, variable in variables.items():
        labels = {}
        for _, dims, coordinate in variable.coords:
            # the first coordinate of a dimension labels it
            if len(dims) == 1:
                labels.setdefault(dims[0], coordinate)
        for index in np.ndindex(variable.data.shape):
            entry = ""
            for dim, position in zip(variable.dims, index, strict=True):
                label = labels[dim][position] if dim in labels else position
                entry += f"/{label}" if dim == "parameter" else str(label)
            if len(variables) > 1:
                entry = f"{name}_{entry}" if entry else name
            entries[entry] = variable.data[index]
    return entries
