"""The reductions that `reduce=` stands for, by name or made already."""

from collections.abc import Iterable, Sequence
from typing import Any

from rbn_jax.parameters import checks
from rbn_jax.sweeps import reductions as red

_KINDS = {
    c.kind: c for c in (red.Minimum, red.Maximum, red.Mean, red.Count, red.Argmin, red.Argmax)
}
_WITH_ARGUMENTS = {
    "histogram": "Histogram(bins)",
    "fraction": "Fraction(condition)",
    "examples": "Examples(condition)",
}


def read(reduce: Any) -> tuple[red.Reduction, ...]:
    """The reductions that a name, a red.Reduction, or a sequence of these stands for."""
    single = isinstance(reduce, str | red.Reduction)
    if not single and not isinstance(reduce, Sequence):
        raise ValueError(f"reduce={reduce!r}: must be {_ALLOWED}, or a list of these")
    found = tuple(_read_one(one) for one in ((reduce,) if single else reduce))
    if not found:
        raise ValueError(f"reduce={reduce!r}: must hold at least one reduction: {_ALLOWED}")
    return found


_ALLOWED = f"a name ({', '.join(_KINDS)}) or a reduction such as reductions.Histogram(bins)"


def _read_one(one: Any) -> red.Reduction:
    if isinstance(one, red.Reduction):
        return one
    if not isinstance(one, str):
        raise ValueError(f"reduce holds {one!r}: must be {_ALLOWED}")
    if one in _WITH_ARGUMENTS:
        raise ValueError(f"{one!r} needs arguments: write reductions.{_WITH_ARGUMENTS[one]}")
    if one not in _KINDS:
        raise checks.unknown_name_error(one, {*_KINDS, *_WITH_ARGUMENTS}, "reduction")
    return _KINDS[one]()


def check_over(reduction: red.Reduction, dims: Iterable[str]) -> None:
    """ValueError for a dimension to reduce that the sweep has not."""
    dims = tuple(dims)
    for dim in reduction.over or ():
        if dim not in dims:
            raise ValueError(
                f"over={reduction.over!r} of {reduction.kind}: the sweep has no dimension "
                f"{dim!r}; valid ones: {', '.join(dims)}"
            )
