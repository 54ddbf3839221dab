"""The one function of this package: targets in, parameters out, with what is known about them."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from rbn_jax import _fields as f
from rbn_jax._labels import require
from rbn_jax.fit import solve as s
from rbn_jax.fit.free import Coordinate, first_start, read_free
from rbn_jax.fit.problem import ROBUST, Data, Problem, read_data
from rbn_jax.fit.result import FitResult
from rbn_jax.fit.rows import FitRows, fit_rows
from rbn_jax.fit.summary import summary
from rbn_jax.params import FIELDS, NetworkParams

METHODS = ("lm", "trf")
_LEANING = 0.02  # share of its range within which an end may belong on the bound


def fit(
    fn: Callable[[Any], Any],
    params: NetworkParams | Mapping[str, Any],
    target: Any,
    free: Mapping[str, Any],
    *,
    sigma: Any = None,
    n_starts: int = 64,
    seed: int = 0,
    method: str = "lm",
    dtype: str = "float64",
    robust: str = "linear",
    loss: Callable[[Any, Any], Any] | None = None,
    max_steps: int = 200,
    batch_size: int | None = None,
    progress: bool | None = None,
) -> FitResult | FitRows:
    """The parameters for which fn comes nearest to the target, by gradient from many starts.

    Minimises chi^2 = sum ((fn(params) - target) / sigma)^2, or a loss, over the free parameters.
    The starts are points of a Sobol sequence within the bounds, the first at the values in
    `params`; all are followed at once. The best is finished on those bounds that it leans on.

    Args:
        fn: a function as `sweep` takes it. It is compiled once: pass the same one again.
        params: the network, or a mapping of numbers, whose other parameters are held fixed.
        target: like fn's result, an array or a mapping of arrays; NaN, or a name left out, was
            not measured. With one more axis in front each row is a fit of its own.
        free: (low, high) by parameter name, None or infinite where open, or `Free`.
            `baseline_conn_prob_EI` names an entry of the matrix.
        sigma: the standard deviations of the target, of a shape that broadcasts to it. Without
            it all are alike, and their size is taken from the residuals.
        n_starts: starts of each fit, the first at the present values.
        seed: of the Sobol sequence.
        method: "lm", Levenberg and Marquardt's by optimistix, all starts at once; or "trf",
            SciPy's trust region with true bounds, one start after the other.
        dtype: "float64" or "float32".
        robust: "linear", or "soft_l1" or "huber" as `scipy.optimize.least_squares` has them, of
            residuals in units of sigma. Standard errors are then approximate.
        loss: loss(prediction, target), one number that JAX can trace, minimised by BFGS instead;
            standard errors are right where it is a negative logarithm of a likelihood.
        max_steps: of each start.
        batch_size: rows fitted at once; else as many as take about 64 MB.
        progress: a bar over the rows: True, False, or None for one in a terminal.

    Returns:
        A `FitResult`; of a target with one more axis, `FitRows`.

    Raises:
        ValueError: an unknown or a tied-only free parameter, bounds not low to high, a start
            outside; a target of another shape, or NaN everywhere; a sigma that is not positive;
            fn is NaN at every start; an unknown method, robust loss or dtype.
        ImportError: optimistix or SciPy is missing.

    >>> import numpy as np
    >>> from rbn_jax import NetworkParams, calculate_RBN_weights
    >>> wanted = calculate_RBN_weights(NetworkParams(tau_syn_ex=3.0, gei=1.5))
    >>> free = {"tau_syn_ex": (0.5, 20.0), "gei": (0.1, 10.0)}
    >>> found = fit(calculate_RBN_weights, NetworkParams(), wanted, free)
    >>> {name: round(value, 4) for name, value in found.values.items()}
    {'tau_syn_ex': 3.0, 'gei': 1.5}
    """
    _check_options(fn, n_starts, seed, method, robust, loss, dtype, max_steps, batch_size, progress)
    f.check_numbers(params)
    coordinates, ties, priors = read_free(params, free)
    _check_params(params, coordinates)
    problem = Problem(
        *(fn, coordinates, tuple(ties.items()), tuple((n, *p) for n, p in priors.items())),
        *(robust, loss, dtype),
    )
    with jax.enable_x64(dtype == "float64"):
        numbers = jax.tree.map(lambda x: np.asarray(x, dtype), params)
        data, rows = read_data(fn, numbers, target, sigma, loss is not None, dtype)
        u = starts(params, free, coordinates, n_starts, seed).astype(dtype)
        if rows is not None:
            if method == "trf":
                raise ValueError("method='trf' is for one fit: take method='lm' for many rows")
            options = {"steps": max_steps, "batch": batch_size, "progress": progress}
            return fit_rows(problem, data, params, u, sigma is not None, rows, **options)
        return _one(problem, data, params, u, method, max_steps, sigma is not None)


def _one(
    problem: Problem,
    data: Data,
    params: Any,
    u: np.ndarray,
    method: str,
    steps: int,
    absolute_sigma: bool,
) -> FitResult:
    """One fit: from all starts where fn is a number, then on the bounds."""
    usable = np.isfinite(np.asarray(s.costs(problem, data, u)))
    if not usable.any():
        at = ", ".join(f"{n} {v:g}" for n, v in problem.values(_user(problem, u[0])).items())
        raise ValueError(f"fn, or its distance to the target, is not finite at any start: ({at})")
    filled = np.where(usable[:, None], u, u[np.argmax(usable)])  # of one shape: compiled once
    nothing = np.full(u.shape[1], np.nan, problem.dtype)
    if method == "trf" and problem.loss is None:
        found = s.by_scipy(problem, data, filled, steps)
    else:
        found = s.solve(problem, data, filled, nothing, steps)
    found = tuple(np.array(jax.device_get(x)) for x in found)
    found[2][~usable | ~np.isfinite(found[2])] = np.inf
    if not np.isfinite(found[2]).any():
        raise ValueError("every start ended where fn is NaN: narrow the bounds")
    bounds = on_bounds(problem, data, found)
    best = int(np.argmin(found[2]))
    extra = {"usable": usable, "absolute_sigma": absolute_sigma, "method": method}
    return summary(problem, data, params, found, best, bounds, **extra)


def on_bounds(problem: Problem, data: Data, found: tuple[np.ndarray, ...]) -> dict[str, str]:
    """Put the best ends exactly on the bounds that they lean on, where that is better."""
    u, x, cost, converged = found
    bounds: dict[str, str] = {}
    pinned = np.full(x.shape[1], np.nan, problem.dtype)
    for _ in range(len(pinned)):
        best = int(np.argmin(cost))
        lean = _leaning(problem, data, x[best], pinned)
        if lean is None:
            break
        i, value, side = lean
        pinned[i] = value
        there = [np.asarray(y) for y in s.solve(problem, data, u, pinned, 200)]
        if not there[2][best] <= cost[best] * (1 + 1e-9):
            break
        c = problem.coordinates[i]
        near = np.abs(c.position(x[:, i]) - c.position(value)) < _LEANING
        better = near & (there[2] <= cost * (1 + 1e-9))
        x[better], cost[better], converged[better] = (y[better] for y in there[1:])
        bounds[c.name] = side
    return bounds


def _leaning(
    problem: Problem, data: Data, x: np.ndarray, pinned: np.ndarray
) -> tuple[int, float, str] | None:
    """The parameter nearest to a bound beyond which the cost would go on to fall."""
    slope = np.asarray(s.gradient(problem, data, x))
    nearest = []
    for i, c in enumerate(problem.coordinates):
        for bound, side, sign in ((c.low, "low", 1), (c.high, "high", -1)):
            if math.isfinite(bound) and not (c.log and bound <= 0) and np.isnan(pinned[i]):
                distance = abs(float(c.position(x[i]) - c.position(bound)))
                if distance < _LEANING and sign * slope[i] > 0:
                    nearest.append((distance, i, bound, side))
    return min(nearest)[1:] if nearest else None


def starts(
    params: Any, free: Any, coordinates: tuple[Coordinate, ...], n: int, seed: int
) -> np.ndarray:
    """Coordinates of n starts, (n, k)."""
    first = first_start(params, free, coordinates)
    u = np.empty((n, len(coordinates)))
    if n > 1:
        qmc = require("scipy.stats", "fit").qmc
        power = math.ceil(math.log2(n - 1)) if n > 2 else 0
        cube = qmc.Sobol(len(coordinates), scramble=True, rng=seed).random_base2(power)[: n - 1]
        inside = 0.5 * 1e-6 + cube * (1 - 1e-6)
        u[1:] = np.stack([c.spread(p) for c, p in zip(coordinates, inside.T, strict=True)], 1)
    u[0] = [c.from_user(x) for c, x in zip(coordinates, first, strict=True)]
    return u


def _user(problem: Problem, u: np.ndarray) -> np.ndarray:
    return np.asarray(problem.to_user(jax.numpy.asarray(u)))


def _check_params(params: Any, coordinates: tuple[Coordinate, ...]) -> None:
    if isinstance(params, NetworkParams):
        params.check()
        for end in ("low", "high"):
            known = {c.name: getattr(c, end) for c in coordinates}
            inside = {n: v for n, v in known.items() if math.isfinite(v) and v != 0}
            _check_domain(inside)


def _check_domain(values: Mapping[str, float]) -> None:
    """ValueError for bounds at which a parameter has no meaning; 0 is open."""
    for name, value in values.items():
        f.raise_all([complaint_of(name, value)], "Move the bound inside.")


def complaint_of(name: str, value: float) -> str | None:
    """What is wrong with a bound of a network's parameter; whole numbers are not asked for."""
    unit, domain = FIELDS.get(name, ("", f.REAL))
    return f.complaint(name, value, f.POSITIVE if domain is f.COUNT else domain, unit)


def _check_options(
    fn: Any,
    n_starts: Any,
    seed: Any,
    method: Any,
    robust: Any,
    loss: Any,
    dtype: Any,
    max_steps: Any,
    batch_size: Any,
    progress: Any,
) -> None:
    if not callable(fn):
        raise ValueError(f"fn is a {type(fn).__name__}: must be a function of the parameters")
    for name, value, least in (
        ("n_starts", n_starts, 1),
        ("seed", seed, 0),
        ("max_steps", max_steps, 1),
        ("batch_size", 1 if batch_size is None else batch_size, 1),
    ):
        if not f.is_real(value) or value != int(value) or value < least:
            raise ValueError(f"{name}={value!r}: must be a whole number >= {least}")
    for name, value, valid in (
        ("method", method, METHODS),
        ("robust loss", robust, ROBUST),
        ("dtype", str(dtype), tuple(s.TOLERANCE)),
    ):
        if value not in valid:
            raise f.unknown_name(str(value), valid, name)
    if progress is not None and not isinstance(progress, bool):
        raise ValueError(f"progress={progress!r}: must be True, False or None")
    if loss is not None and not callable(loss):
        raise ValueError(f"loss is a {type(loss).__name__}: must be loss(prediction, target)")
    if loss is not None and (robust != "linear" or method != "lm"):
        raise ValueError("loss= is minimised by BFGS: leave method and robust as they are")
