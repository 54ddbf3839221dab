"""Conditions on a function's result, as a command line can say them: EI<-30&EE>=10."""

import dataclasses
import functools
import itertools
import operator
import re
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from rbn_jax.parameters.checks import unknown_name_error
from rbn_jax.parameters.labels import label_result

_COMPARE = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}
_WORDS = {"<=": "at_most", ">=": "at_least", "<": "below", ">": "above"}
_TERM = re.compile(r"\s*([^<>=\s]+)\s*(<=|>=|<|>)\s*([^<>=\s]+)\s*")


@dataclasses.dataclass(frozen=True)
class Condition:
    """Whether entries of what fn returns are on one side of a number, each of them."""

    fn: Callable[[Any], Any]
    terms: tuple[tuple[str, str, float], ...]

    def __call__(self, result: Any) -> Any:
        """One truth value; of NaN, false."""
        entries = _entries(self.fn, result)
        for entry, _, _ in self.terms:
            if entry not in entries:
                raise unknown_name_error(entry, entries, "entry of the result")
        tests = [_COMPARE[sign](entries[entry], number) for entry, sign, number in self.terms]
        return functools.reduce(jnp.logical_and, tests)

    @property
    def name(self) -> str:
        """The condition as a name in a file: "EI_below_-30_and_EE_at_least_10"."""
        terms = (f"{entry}_{_WORDS[sign]}_{number:g}" for entry, sign, number in self.terms)
        return "_and_".join(terms).replace("/", "_per_")


def read_condition(text: str, fn: Callable[[Any], Any]) -> Condition:
    """A condition from "entry<number", <=, > or >=, several joined by &.

    An entry is called by its labels: EI, of target E and source I; EI/tau_E, its derivative.

    Raises:
        ValueError: another text.
    """
    terms = []
    for part in text.split("&"):
        found = _TERM.fullmatch(part)
        try:
            entry, sign, number = found.groups() if found else ("", "", "")
            terms.append((entry, sign, float(number)))
        except ValueError:
            raise ValueError(
                f"{part!r} is no condition: must be an entry, <, <=, > or >= and a number, "
                "as EI<-30; several joined by &"
            ) from None
    return Condition(fn, tuple(terms))


def _entries(fn: Callable[[Any], Any], result: Any) -> dict[str, Any]:
    """Every number that fn returned, by its labels."""
    found = {}
    for x in label_result(fn, result).values():
        labels = {dims[0]: values for _, dims, values in reversed(x.coords) if len(dims) == 1}
        sides = [labels.get(dim, range(n)) for dim, n in zip(x.dims, x.data.shape, strict=True)]
        for place in itertools.product(*map(range, x.data.shape)):
            parts = [
                ("/" if dim == "parameter" else "") + str(side[i])
                for dim, side, i in zip(x.dims, sides, place, strict=True)
            ]
            found["".join(parts)] = x.data[place]
    return found
