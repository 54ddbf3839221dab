"""Free parameters: bounds, starts, ties, and the scale on which each is varied.

A parameter x is varied as z = x or, on a log scale, as z = ln x.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from rbn_jax.numerics.minimise import Box
from rbn_jax.numerics.variables import START_MARGIN, Variables
from rbn_jax.parameters import checks, domains
from rbn_jax.parameters.access import Location, read_parameters

Scale = Literal["log", "linear"]
TieFunction = Callable[[Mapping[str, Any]], Any]
"""Computes the value of a tied parameter from all values by name; JAX code."""
Ties = tuple[tuple[str, TieFunction], ...]
"""(name, function of all values) of each tied parameter."""
Priors = tuple[tuple[str, float, float], ...]
"""(name, mean, standard deviation) of each Gaussian prior."""

# "tau_E", "2 * tau_E" or "0.5e-3 * w[0,1]"
_TIE_PATTERN = re.compile(
    r"\s*(?:([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*\*\s*)?"
    r"([\w.]+(?:\[[\d,\s]+\])?)\s*"
)


@dataclasses.dataclass(frozen=True)
class Free:
    """A parameter to fit.

    Args:
        low, high: the bounds in the parameter's unit; None or infinite where open. The optimum
            may lie on a bound. On a log scale an open low end is 0.
        start: the value at the first start; by default the value in `params`, if that is
            within the bounds. A value on a bound is moved a millionth of the range inside.
        scale: "log" to vary the logarithm of the parameter, or "linear"; by default "log" where
            low > 0.
        tie: makes the parameter follow others: the name of a free parameter ("tau_E"), a
            multiple of one ("2 * tau_E"), or a function, which JAX can trace, of a mapping of
            all values by name. The mapping includes tied parameters that stand before this one.
        prior: (mean, standard deviation) of a Gaussian prior, which adds one residual.

    >>> Free(0.5, 20.0, start=2.0, prior=(5.0, 1.0)).scale is None
    True
    """

    low: float | None = None
    high: float | None = None
    start: float | None = None
    scale: Scale | None = None
    tie: str | TieFunction | None = None
    prior: tuple[float, float] | None = None


FreeMapping = Mapping[str, Free | Sequence[float | None]]
"""Free, or (low, high), by name of the parameter."""


@dataclasses.dataclass(frozen=True)
class Multiple:
    """A tie to a multiple of one free parameter."""

    factor: float
    source: str

    def __call__(self, values: Mapping[str, Any]) -> Any:
        """Return the value of the tied parameter."""
        return self.factor * values[self.source]


class FreeParameters(NamedTuple):
    """What `fit` is given as `free`, read and checked.

    variables: the free parameters
    first_start: z at the first start (k,)
    ties: (name, function of all values) of each tied parameter
    priors: (name, mean, standard deviation)
    notes: on values in `params` that are outside their bounds
    """

    variables: Variables
    first_start: np.ndarray
    ties: Ties
    priors: Priors
    notes: tuple[str, ...]


class _Range(NamedTuple):
    """The scale and the bounds of one parameter, and what a search on that scale needs.

    start: z at the first start; NaN for the middle of the range
    """

    is_log: bool
    low: float
    high: float
    scaled_low: float
    scaled_high: float
    middle: float
    reach: float
    start: float


def read_free(params: object, free: FreeMapping) -> FreeParameters:
    """Read and check what `fit` is given as `free`.

    Raises:
        ValueError: an unknown name, a number that is named twice, or bad bounds, start, scale,
            tie or prior.
    """
    if not isinstance(free, Mapping) or not free:
        raise ValueError(f"free={free!r}: must map names of parameters to (low, high) or Free")
    parameters = read_parameters(params)
    name_at: dict[Location, str] = {}
    tied: dict[str, Free] = {}
    untied: dict[str, Free] = {}
    for name, entry in free.items():
        location = parameters.locate_scalar(name)
        if location in name_at:
            raise ValueError(f"free: {name_at[location]} and {name} are the same number: keep one")
        name_at[location] = name
        spec = _read_spec(name, entry)
        if spec.tie is None:
            untied[name] = spec
        else:
            tied[name] = spec
    if not untied:
        raise ValueError("free: every parameter is tied, and none is left to be found")
    ranges = []
    priors = []
    for name, spec in untied.items():
        ranges.append(_read_range(name, spec, float(parameters.read(parameters.locate(name)))))
        if spec.prior is not None:
            priors.append(_prior(name, spec.prior))
    is_log, low, high, *box, start = map(np.array, zip(*ranges, strict=True))
    names = tuple(untied)
    is_log = tuple(is_log.tolist())
    variables = Variables(names=names, is_log=is_log, low=low, high=high, box=Box(*box))
    middle = variables.from_shares(np.full(len(names), 0.5))
    margin = START_MARGIN * variables.units
    first_start = np.where(np.isnan(start), middle, start)
    first_start = np.clip(first_start, variables.box.low + margin, variables.box.high - margin)
    notes = []
    for i in np.flatnonzero(np.isnan(start)):
        value = parameters.read(parameters.locate(names[i]))
        if not low[i] <= value <= high[i]:
            z = middle[i]
            notes.append(
                f"{names[i]} = {value:g} in params is outside its bounds: the first start has "
                f"{math.exp(z) if is_log[i] else z:.4g}"
            )
    return FreeParameters(
        variables=variables,
        first_start=first_start,
        ties=tuple((name, _tie(name, spec, untied)) for name, spec in tied.items()),
        priors=tuple(priors),
        notes=tuple(notes),
    )


def _read_spec(name: str, spec: object) -> Free:
    if isinstance(spec, Free):
        return spec
    if not isinstance(spec, tuple | list) or len(spec) != 2:
        raise ValueError(f"free[{name!r}]={spec!r}: must be (low, high), or Free(...)")
    return Free(*spec)


def _read_range(name: str, spec: Free, value: float) -> _Range:
    low = _bound(name, spec.low, -math.inf)
    high = _bound(name, spec.high, math.inf)
    if spec.scale == "log" and low == -math.inf:
        low = 0.0
    if not low < high:
        raise ValueError(f"{name}: the low bound {low:g} must be below the high one, {high:g}")
    if spec.scale is not None:
        checks.check_names([spec.scale], get_args(Scale), "scale")
    is_log = spec.scale == "log" or (spec.scale is None and low > 0)
    if is_log and low < 0:
        raise ValueError(f"{name}: the low bound {low:g} must not be below 0 on a log scale")
    is_usable = low <= value <= high and (value > 0 or not is_log)
    if spec.start is not None:
        is_usable = True
        if (
            not checks.is_number(spec.start)
            or not low <= spec.start <= high
            or (is_log and spec.start <= 0)
        ):
            raise ValueError(
                f"{name}: start={spec.start!r} must be from {low:g} to {high:g}, and > 0 on a "
                "log scale"
            )
        value = float(spec.start)
    if math.isnan(value) or (is_log and value <= 0):
        smallest = 0 if is_log else -math.inf
        value = next(bound for bound in (low, high, 1.0) if smallest < bound < math.inf)
    if is_log:
        z = math.log(value)
        scaled_low, scaled_high, reach = _log(low), _log(high), 1.0
    else:
        z, scaled_low, scaled_high, reach = value, low, high, high - low
        if not math.isfinite(reach):
            edge = next((bound for bound in (low, high) if math.isfinite(bound)), 0.0)
            reach = abs(value - edge) or max(abs(value), 1.0)
    start = z if is_usable else math.nan
    return _Range(is_log, low, high, scaled_low, scaled_high, z, reach, start)


def _bound(name: str, bound: object, open_bound: float) -> float:
    if bound is None:
        return open_bound
    number = np.asarray(bound)
    if number.ndim or number.dtype.kind not in "iuf" or np.isnan(number):
        raise ValueError(f"{name}: the bound {bound!r} must be a number, or None")
    # the formulas do not take subnormal numbers
    return 0.0 if abs(number) < domains.SMALLEST_NORMAL else float(number)


def _tie(name: str, spec: Free, untied: Mapping[str, Free]) -> TieFunction:
    if spec != Free(tie=spec.tie):
        raise ValueError(f"{name}: a tied parameter has no bounds, start, scale or prior")
    if callable(spec.tie):
        return spec.tie
    if spec.tie in untied:
        return Multiple(1.0, str(spec.tie))
    match = _TIE_PATTERN.fullmatch(spec.tie) if isinstance(spec.tie, str) else None
    factor = float(match[1] or 1.0) if match else math.inf
    if match is None or not math.isfinite(factor):
        raise ValueError(f"{name}: tie={spec.tie!r} must be a name, as '2 * tau_E', or a function")
    source = match[2]
    checks.check_names([source], untied, f"free parameter in the tie of {name}")
    return Multiple(factor, source)


def _prior(name: str, prior: Sequence[float]) -> tuple[str, float, float]:
    is_pair = isinstance(prior, tuple | list) and len(prior) == 2
    if not is_pair or not all(map(checks.is_number, prior)) or prior[1] <= 0:
        raise ValueError(f"{name}: prior={prior!r} must be (mean, standard deviation > 0)")
    return name, float(prior[0]), float(prior[1])


def _log(bound: float) -> float:
    return math.log(bound) if bound > 0 else -math.inf
