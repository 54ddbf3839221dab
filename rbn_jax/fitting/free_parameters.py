"""Free parameters: bounds, starts, ties, and the unbounded coordinates in which they are sought.

Between two bounds z = low + (high - low) (1 + u / sqrt(1 + u^2)) / 2, beyond one bound
z = low + w (u + sqrt(1 + u^2)), without bounds z = z_0 + w u, with z = x or, on a log scale,
z = ln x. All are smooth and strictly increasing, and far from the middle they flatten no faster
than 1 / u^2, so that a step that went too far finds back.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rbn_jax.parameters import checks, domains
from rbn_jax.parameters.access import Parameters, read_parameters

_TIE = re.compile(r"\s*(?:([^*\s]+)\s*\*\s*)?([\w.]+)\s*")
_SCALES = ("log", "linear")
_REACH = 1e4


@dataclasses.dataclass(frozen=True)
class Free:
    """A parameter to be found: its bounds, None or infinite where open.

    Args:
        low, high: the bounds, in the parameter's unit; the optimum may lie on one. On a log scale
            an open low end is 0.
        start: where the first start has it; else its value in `params`, if that is inside.
        scale: "log" to seek it evenly in its logarithm, "linear"; else "log" where low > 0.
        tie: it is not sought, but follows a free one: a name ("tau_E"), a multiple ("2 * tau_E");
            or a function, which JAX can trace, of a mapping of all values, those that are tied
            and stand before it included.
        prior: (mean, standard deviation) of a Gaussian prior, one more residual.

    >>> Free(0.5, 20.0, start=2.0, prior=(5.0, 1.0)).scale is None
    True
    """

    low: float | None = None
    high: float | None = None
    start: float | None = None
    scale: str | None = None
    tie: str | Callable[[Mapping[str, Any]], Any] | None = None
    prior: tuple[float, float] | None = None


@dataclasses.dataclass(frozen=True)
class Tie:
    """A parameter that is a multiple of another one."""

    factor: float
    name: str

    def __call__(self, values: Mapping[str, Any]) -> Any:
        """The value that follows."""
        return self.factor * values[self.name]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Coordinate:
    """The map between a parameter x and its unbounded coordinate u.

    Its numbers are leaves of a pytree, so that other bounds compile nothing anew.
    """

    name: str = dataclasses.field(metadata={"static": True})
    log: bool = dataclasses.field(metadata={"static": True})
    bounded: tuple[bool, bool] = dataclasses.field(metadata={"static": True})
    low: Any
    high: Any
    ends: tuple[Any, Any]  # the bounds on the scale z
    middle: Any
    width: Any

    def to_user(self, u: Any) -> Any:
        """x of u, traced."""
        low, high = self.ends
        size = jnp.where(u < 0, -u, u)  # near a bound nothing cancels, nor in the slope
        root = jnp.sqrt(1 + u * u)
        if all(self.bounded):
            share = (high - low) * (0.5 / (root * (root + size)))
            z = jnp.where(u < 0, low + share, high - share)
        elif self.bounded[0]:
            z = low + self.width * jnp.where(u < 0, 1 / (root + size), root + size)
        elif self.bounded[1]:
            z = high - self.width * jnp.where(u < 0, root + size, 1 / (root + size))
        else:
            z = self.middle + self.width * u
        return jnp.exp(z) if self.log else z

    @property
    def reach(self) -> tuple[float, float]:
        """How far u may go: to a part in 10^8 of the range towards a bound."""
        return -_REACH if self.bounded[0] else -math.inf, _REACH if self.bounded[1] else math.inf

    def from_user(self, x: Any) -> np.ndarray:
        """u of x, which is moved inside by a millionth where it lies on a bound."""
        low, high = self.ends
        z = np.log(x) if self.log else np.asarray(x, float)
        if all(self.bounded):
            return self.spread(np.minimum(np.maximum((z - low) / (high - low), 1e-6), 1 - 1e-6))
        if self.bounded[0]:
            y = np.maximum((z - low) / self.width, 1e-6)
            return (y - 1 / y) / 2
        if self.bounded[1]:
            y = np.maximum((high - z) / self.width, 1e-6)
            return (1 / y - y) / 2
        return (z - self.middle) / self.width

    def spread(self, p: np.ndarray) -> np.ndarray:
        """Coordinates of points p of (0, 1): between two bounds even in z."""
        return (p - 0.5) / np.sqrt(p * (1 - p))

    def position(self, x: Any) -> np.ndarray:
        """Where x lies: 0 to 1 between two bounds; beyond one, or with none, in widths."""
        low, high = self.ends
        z = np.log(x) if self.log else np.asarray(x, float)
        origin = low if self.bounded[0] else high if self.bounded[1] else 0.0
        return (z - origin) / (high - low if all(self.bounded) else self.width)


def read_free(
    params: Any, free: Any
) -> tuple[tuple[Coordinate, ...], dict[str, Any], dict[str, Any]]:
    """The coordinates of what is sought, the ties, and the priors by name.

    Raises:
        ValueError: every bad entry, by name.
    """
    if not isinstance(free, Mapping) or not free:
        raise ValueError(f"free={free!r}: must map names of parameters to (low, high) or Free")
    params = read_parameters(params)
    specs = {}
    for name, spec in free.items():
        params.locate(name)
        specs[name] = spec if isinstance(spec, Free) else Free(*_pair(name, spec))
    sought = {name: spec for name, spec in specs.items() if spec.tie is None}
    if not sought:
        raise ValueError("free: every parameter is tied, and none is left to be found")
    coordinates = tuple(_coordinate(params, name, spec) for name, spec in sought.items())
    ties = {name: _tie(name, spec, sought) for name, spec in specs.items() if spec.tie is not None}
    priors = {n: _prior(n, x.prior) for n, x in sought.items() if x.prior is not None}
    return coordinates, ties, priors


def first_start(
    params: Parameters, free: Mapping[str, Any], coordinates: tuple[Coordinate, ...]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The values at the first start: those asked for, else the network's, else the middle.

    And, in words, which of the network's are outside the bounds.
    """
    found, notes = [], []
    for c in coordinates:
        spec = free[c.name]
        start = spec.start if isinstance(spec, Free) else None
        value = float(params.read(params.locate(c.name))) if start is None else start
        if start is None and not (c.low < value < c.high and not (c.log and value <= 0)):
            middle = float(c.to_user(np.float64(0.0)))
            if not c.low <= value <= c.high:
                notes.append(
                    f"{c.name} = {value:g} in params is outside its bounds: the first start has "
                    f"{middle:.4g}"
                )
            value = middle
        found.append(value)
    return np.array(found), tuple(notes)


def _pair(name: str, spec: Any) -> tuple[Any, Any]:
    if not isinstance(spec, tuple | list) or len(spec) != 2:
        raise ValueError(f"free[{name!r}]={spec!r}: must be (low, high), or Free(...)")
    return spec[0], spec[1]


def _coordinate(params: Parameters, name: str, spec: Free) -> Coordinate:
    low = _bound(name, spec.low, -math.inf)
    low = 0.0 if spec.scale == "log" and low == -math.inf else low
    high = _bound(name, spec.high, math.inf)
    if not low < high:
        raise ValueError(f"{name}: the low bound {low:g} must be below the high one, {high:g}")
    if spec.scale not in (None, *_SCALES):
        raise checks.unknown_name_error(str(spec.scale), _SCALES, "scale")
    log = low > 0 if spec.scale is None else spec.scale == "log"
    if log and low < 0:
        raise ValueError(f"{name}: the low bound {low:g} must not be below 0 on a log scale")
    value = params.read(params.locate_scalar(name))
    value = float(value)
    if spec.start is not None:
        if not checks.is_number(spec.start) or not low <= spec.start <= high:
            raise ValueError(f"{name}: start={spec.start!r} must be from {low:g} to {high:g}")
        if log and spec.start <= 0:
            raise ValueError(f"{name}: start={spec.start!r} must be > 0 on a log scale")
        value = float(spec.start)
    if log and value <= 0:
        value = low if low > 0 else high if math.isfinite(high) else 1.0
    middle = math.log(value) if log else value
    edge = next((x for x in (low, high) if math.isfinite(x)), 0.0)
    width = 1.0 if log else abs(middle - edge) or max(abs(middle), 1.0)
    ends = (_log(low), _log(high)) if log else (low, high)
    bounded = (math.isfinite(ends[0]), math.isfinite(ends[1]))
    return Coordinate(
        name=name,
        log=log,
        bounded=bounded,
        low=low,
        high=high,
        ends=ends,
        middle=middle,
        width=width,
    )


def _bound(name: str, value: Any, open_end: float) -> float:
    if value is None:
        return open_end
    number = np.asarray(value)
    if number.ndim or number.dtype.kind not in "iuf" or np.isnan(number):
        raise ValueError(f"{name}: the bound {value!r} must be a number, or None")
    return (
        0.0 if abs(number) < domains.SMALLEST_NORMAL else float(number)
    )  # subnormal numbers are taken for 0


def _tie(name: str, spec: Free, sought: Mapping[str, Any]) -> Any:
    if any(x is not None for x in (spec.low, spec.high, spec.start, spec.scale, spec.prior)):
        raise ValueError(f"{name}: a tied parameter has no bounds, start, scale or prior")
    if callable(spec.tie):
        return spec.tie
    found = _TIE.fullmatch(spec.tie) if isinstance(spec.tie, str) else None
    try:
        factor = float(found[1]) if found and found[1] else 1.0
    except ValueError:
        found, factor = None, 1.0
    if not found or not math.isfinite(factor):
        raise ValueError(f"{name}: tie={spec.tie!r} must be a name, as '2 * tau_E', or a function")
    if found[2] not in sought:
        raise checks.unknown_name_error(found[2], sought, f"free parameter in the tie of {name}")
    return Tie(factor, found[2])


def _prior(name: str, prior: Any) -> tuple[float, float]:
    ok = isinstance(prior, tuple | list) and len(prior) == 2 and all(map(checks.is_number, prior))
    if not ok or prior[1] <= 0:
        raise ValueError(f"{name}: prior={prior!r} must be (mean, standard deviation > 0)")
    return float(prior[0]), float(prior[1])


def _log(x: float) -> float:
    return math.log(x) if x > 0 else -math.inf
