"""Free parameters: bounds, starts, ties, and the unbounded coordinates of the minimisers.

A parameter x is minimised over on the scale z = x or, on a log scale, z = ln x, by a
coordinate u that has no bounds. With w a width:

    between two bounds    z = low + (high - low) (1 + u / sqrt(1 + u^2)) / 2
    above a low bound     z = low + w (u + sqrt(1 + u^2))
    below a high bound    z = high - w (sqrt(1 + u^2) - u)
    without bounds        z = z_0 + w u

All are smooth and strictly increasing. The distance to a bound falls no faster than 1 / u^2,
so that the minimiser can come back after a step that was too long.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

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
# between two bounds, the coordinate 1e4 is 2.5e-9 of the range away from the bound
_LARGEST_COORDINATE = 1e4
# starts on a bound are moved inside by this share: at the bound u is infinite
_START_DISTANCE = 1e-6


@dataclasses.dataclass(frozen=True)
class Free:
    """A parameter to fit.

    Args:
        low, high: the bounds in the parameter's unit; None or infinite where open. The optimum
            may lie on a bound. On a log scale an open low end is 0.
        start: the value at the first start; by default the value in `params`, if that is
            within the bounds.
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


def static_field() -> Any:
    """Make a field that is part of the compiled program, and not a leaf of the pytree."""
    return dataclasses.field(metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Coordinate:
    """The map between a parameter x and its unbounded coordinate u.

    The numbers are leaves of a pytree, so that a fit with other bounds is not compiled again.

    name: of the parameter
    log: whether z = ln x
    bounded: whether there is a low and a high bound on the scale z
    low, high: the bounds of x
    scaled_bounds: the bounds of z
    middle: z_0
    width: w
    """

    name: str = static_field()
    log: bool = static_field()
    bounded: tuple[bool, bool] = static_field()
    low: float
    high: float
    scaled_bounds: tuple[float, float]
    middle: float
    width: float

    def to_value(self, u: ArrayLike) -> Array:
        """Return x at u; JAX code."""
        low, high = self.scaled_bounds
        anchor, sign = self._anchor
        u = sign * jnp.asarray(u)
        # not jnp.abs, whose derivative at 0 is 0
        size = jnp.where(u < 0, -u, u)
        root = jnp.sqrt(1 + u * u)
        # written with root + size, never root - size: near a bound nothing cancels, neither in
        # the value nor in the derivative
        if all(self.bounded):
            distance = (high - low) * (0.5 / (root * (root + size)))
            z = jnp.where(u < 0, low + distance, high - distance)
        elif any(self.bounded):
            z = anchor + sign * self.width * jnp.where(u < 0, 1 / (root + size), root + size)
        else:
            z = self.middle + self.width * u
        return jnp.exp(z) if self.log else z

    @property
    def limits(self) -> tuple[float, float]:
        """The smallest and the largest u that a minimiser may take."""
        low, high = np.where(self.bounded, _LARGEST_COORDINATE, math.inf)
        return -low, high

    def from_value(self, x: ArrayLike) -> np.ndarray:
        """Return u at x; an x on a bound is moved inside."""
        if not any(self.bounded):
            return (self._to_scale(x) - self.middle) / self.width
        position = self.position(x)
        if all(self.bounded):
            share = np.clip(position, _START_DISTANCE, 1 - _START_DISTANCE)
            return share_to_coordinate(share)
        sign = self._anchor[1]
        distance = np.maximum(sign * position, _START_DISTANCE)
        return sign * (distance - 1 / distance) / 2

    def position(self, x: ArrayLike) -> np.ndarray:
        """Return where x lies: a share of the range of z; without two bounds in widths."""
        low, high = self.scaled_bounds
        z = self._to_scale(x)
        if all(self.bounded):
            return (z - low) / (high - low)
        return (z - self._anchor[0]) / self.width

    @property
    def _anchor(self) -> tuple[float, int]:
        """The low, or else the high, bound on the scale z, and the sign of the way inside."""
        if self.bounded[0]:
            return self.scaled_bounds[0], 1
        return (self.scaled_bounds[1], -1) if self.bounded[1] else (0.0, 1)

    def _to_scale(self, x: ArrayLike) -> np.ndarray:
        return np.log(x) if self.log else np.asarray(x, float)


def share_to_coordinate(share: np.ndarray) -> np.ndarray:
    """Return u at shares of the range of z, in (0, 1).

    Without two bounds the same u are a distribution around the middle, with long tails.
    """
    return (share - 0.5) / np.sqrt(share * (1 - share))


class FreeParameters(NamedTuple):
    """What `fit` is given as `free`, read and checked.

    coordinates: one for each free parameter
    first_start: values at the first start (k,); NaN for the middle of the bounds
    ties: (name, function of all values) of each tied parameter
    priors: (name, mean, standard deviation)
    notes: on values in `params` that are outside their bounds
    """

    coordinates: tuple[Coordinate, ...]
    first_start: np.ndarray
    ties: Ties
    priors: Priors
    notes: tuple[str, ...]


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
    coordinates = []
    first_start = []
    priors = []
    notes = []
    for name, spec in untied.items():
        value = float(parameters.read(parameters.locate(name)))
        c = _coordinate(name, spec, value)
        coordinates.append(c)
        if spec.start is not None:
            value = spec.start
        elif not c.low <= value <= c.high:
            notes.append(
                f"{name} = {value:g} in params is outside its bounds: the first start has "
                f"{c.to_value(0.0):.4g}"
            )
        is_usable = spec.start is not None or c.low < value < c.high
        first_start.append(value if is_usable else math.nan)
        if spec.prior is not None:
            priors.append(_prior(name, spec.prior))
    return FreeParameters(
        coordinates=tuple(coordinates),
        first_start=np.array(first_start),
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


def _coordinate(name: str, spec: Free, value: float) -> Coordinate:
    low = _bound(name, spec.low, -math.inf)
    high = _bound(name, spec.high, math.inf)
    if spec.scale == "log" and low == -math.inf:
        low = 0.0
    if not low < high:
        raise ValueError(f"{name}: the low bound {low:g} must be below the high one, {high:g}")
    if spec.scale not in (None, *get_args(Scale)):
        raise checks.unknown_name_error(str(spec.scale), get_args(Scale), "scale")
    log = spec.scale == "log" or (spec.scale is None and low > 0)
    if log and low < 0:
        raise ValueError(f"{name}: the low bound {low:g} must not be below 0 on a log scale")
    if spec.start is not None:
        if (
            not checks.is_number(spec.start)
            or not low <= spec.start <= high
            or (log and spec.start <= 0)
        ):
            raise ValueError(
                f"{name}: start={spec.start!r} must be from {low:g} to {high:g}, and > 0 on a "
                "log scale"
            )
        value = float(spec.start)
    if log and value <= 0:
        value = next(bound for bound in (low, high, 1.0) if 0 < bound < math.inf)
    if log:
        middle = math.log(value)
        width = 1.0
        scaled_bounds = (_log(low), _log(high))
    else:
        middle = value
        edge = next((bound for bound in (low, high) if math.isfinite(bound)), 0.0)
        width = abs(middle - edge) or max(abs(middle), 1.0)
        scaled_bounds = (low, high)
    return Coordinate(
        name=name,
        log=log,
        bounded=(math.isfinite(scaled_bounds[0]), math.isfinite(scaled_bounds[1])),
        low=low,
        high=high,
        scaled_bounds=scaled_bounds,
        middle=middle,
        width=width,
    )


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
    match = _TIE_PATTERN.fullmatch(spec.tie) if isinstance(spec.tie, str) else None
    factor = float(match[1] or 1.0) if match else math.inf
    if match is None or not math.isfinite(factor):
        raise ValueError(f"{name}: tie={spec.tie!r} must be a name, as '2 * tau_E', or a function")
    source = match[2]
    if source not in untied:
        raise checks.unknown_name_error(source, untied, f"free parameter in the tie of {name}")
    return Multiple(factor, source)


def _prior(name: str, prior: Sequence[float]) -> tuple[str, float, float]:
    is_pair = isinstance(prior, tuple | list) and len(prior) == 2
    if not is_pair or not all(map(checks.is_number, prior)) or prior[1] <= 0:
        raise ValueError(f"{name}: prior={prior!r} must be (mean, standard deviation > 0)")
    return name, float(prior[0]), float(prior[1])


def _log(bound: float) -> float:
    return math.log(bound) if bound > 0 else -math.inf
