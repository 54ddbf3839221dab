"""From the ends of all starts to a result: uncertainty, optima, and advice."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rbn_jax.fitting import identifiability as unc
from rbn_jax.fitting import kernels as s
from rbn_jax.fitting.multistart import Ends
from rbn_jax.fitting.objective import Data, Problem, measured
from rbn_jax.fitting.result import FitResult, Optimum
from rbn_jax.parameters.access import Parameters
from rbn_jax.parameters.labels import function_name

# a singular value below this, of columns of norm 1, is 0 up to rounding: of J, and of the root of
# the Hessian of a loss, where rounding is that of squares
_TOLERANCE = {"float32": (1e-4, 1e-2), "float64": (1e-8, 1e-6)}
APART = 1e-3  # least distance of two optima, in widths or relative


def summary(
    problem: Problem, data: Data, params: Parameters, ends: Ends, absolute_sigma: bool, method: str
) -> FitResult:
    """The result at the best of the ends of one row."""
    x, cost = ends.at_best(ends.x)[0], float(ends.at_best(ends.cost)[0])
    pinned = ends.at_best(ends.pinned)[0]
    bounds, free = _bounds(data, pinned), np.isnan(pinned)
    step = unc.scales(data.coordinates, x)
    root = _root(problem, data, x)
    spread = unc.spread(root, free, _TOLERANCE[problem.dtype][problem.loss is not None])
    n, k = measured(data) + len(problem.priors), len(x)
    chi, dof = 2 * cost, n - k
    reduced = chi / dof if dof > 0 else math.nan
    size = 1.0 if absolute_sigma or problem.loss is not None else reduced
    cov = spread.covariance
    with np.errstate(invalid="ignore"):  # what is not constrained stays so
        cov = np.where(np.isinf(cov), cov, cov * size)
    directions = unc.in_names(data.coordinates, spread.null * spread.scale / step)
    values = _plain(problem.values(data.params, x))
    stderr = _stderr(problem, data, x, spread, size)
    log = chi
    if problem.loss is None:
        log = n * math.log(chi / n) if chi > 0 else -math.inf
    converged = bool(ends.at_best(ends.converged)[0])
    return FitResult(
        function=function_name(problem.fn),
        method=method if problem.loss is None else "bfgs",
        params=params.replace(values).build(),
        names=problem.names,
        values=values,
        stderr=stderr,
        covariance=cov,
        correlation=unc.correlation(cov),
        residuals=_residuals(problem, data, x),
        chi_square=chi,
        reduced_chi_square=reduced,
        aic=log + 2 * k,
        bic=log + k * math.log(n),
        n_data=n,
        n_starts=ends.cost.shape[1],
        n_lost=int((~ends.usable).sum()),
        n_reached=int(ends.reached.sum()),
        optima=_optima(problem, data, ends, len(spread.null) > 0),
        start_costs=np.sort(ends.cost[0]),
        at_bound=bounds,
        identifiability=unc.Identifiability(_singular(root, step, free), directions),
        status="converged" if converged else "not converged",
        advice=_advice(data, values, stderr, n, bounds, directions, ends),
        absolute_sigma=absolute_sigma or problem.loss is not None,
        _problem=problem,
        _data=data,
        _best=x,
    )


def _bounds(data: Data, pinned: np.ndarray) -> dict[str, str]:
    sides = {c.name: str(unc.side_of(c, pinned[i])) for i, c in enumerate(data.coordinates)}
    return {name: side for name, side in sides.items() if side}


def _singular(root: np.ndarray, step: np.ndarray, free: np.ndarray) -> tuple[float, ...]:
    scaled = (root * step)[:, free]
    if not scaled.size or not np.isfinite(scaled).all():
        return ()
    return tuple(np.linalg.svd(scaled, compute_uv=False).tolist())


def _root(problem: Problem, data: Data, x: np.ndarray) -> np.ndarray:
    if problem.loss is None:
        return np.asarray(s.jacobian(problem, data, x), float)
    return unc.root_of(np.asarray(s.curvature(problem, data, x)[1], float))


def _plain(values: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items()}


def _stderr(
    problem: Problem, data: Data, x: np.ndarray, spread: unc.Spread, size: float
) -> dict[str, float]:
    """Of the free parameters, and through their derivatives of those tied to them."""
    slopes = dict(zip(problem.names, np.eye(len(x)), strict=True))
    for name, _ in problem.ties:
        slope = jax.jacfwd(lambda y, name=name: problem.values(data.params, y)[name])
        slopes[name] = np.asarray(slope(jnp.asarray(x)), float)
    errors = {}
    for name, slope in slopes.items():
        variance = spread.variance(slope)
        errors[name] = math.sqrt(variance if math.isinf(variance) else variance * size)
    return errors


def _residuals(problem: Problem, data: Data, x: np.ndarray) -> dict[str, np.ndarray]:
    found = jax.device_get(problem.predict(data.params, jnp.asarray(x)))
    with np.errstate(invalid="ignore"):
        return {
            name: np.where(weight > 0, weight * (found[name] - data.target[name]), np.nan)
            for name, weight in data.weight.items()
        }


def _optima(problem: Problem, data: Data, ends: Ends, degenerate: bool) -> tuple[Optimum, ...]:
    """The minima at the ends of the starts: told apart by place, along a valley by cost alone."""
    groups: list[tuple[np.ndarray, float, list[int]]] = []
    x, costs, settled = ends.x[0], ends.cost[0], ends.converged[0]
    places = np.stack([c.position(x[:, i]) for i, c in enumerate(data.coordinates)], axis=1)
    best = int(ends.best[0])
    for i in dict.fromkeys([best, *np.argsort(costs, kind="stable").tolist()]):
        if not np.isfinite(costs[i]) or not (settled[i] or i == best):
            continue
        for place, cost, members in groups:
            near = np.abs(places[i] - place).max() < APART
            level = costs[i] <= cost + ends.same * abs(cost) + ends.nothing[0]
            if near or (degenerate and level):
                members.append(i)
                break
        else:
            groups.append((places[i], float(costs[i]), [i]))
    return tuple(
        Optimum(_plain(problem.values(data.params, x[members[0]])), cost, len(members))
        for _, cost, members in groups
    )


def _advice(
    data: Data,
    values: dict[str, float],
    stderr: dict[str, float],
    n: int,
    bounds: dict[str, str],
    directions: tuple[str, ...],
    ends: Ends,
) -> tuple[str, ...]:
    found, k, usable = [], len(data.coordinates), ends.usable[0]
    if not ends.at_best(ends.converged)[0]:
        found.append("the best start did not converge: raise max_steps or n_starts")
    if n < k:
        found.append(f"{k} free parameters and {n} data: their errors are not known")
    elif n == k:
        found.append("as many free parameters as data: no residual tells how good the fit is")
    found += [f"the data do not tell everything: {text}" for text in directions]
    for name, side in bounds.items():
        found.append(f"{name} lies on its {side} bound, {values[name]:g}: widen it, or fix it")
    if (~usable).any():
        found.append(f"fn is not finite at {(~usable).sum()} of {len(usable)} starts")
    if len(usable) > 4 and ends.reached.sum() == 1:
        found.append("only one start reached the best optimum: raise n_starts")
    for c in data.coordinates:
        width = c.high - c.low
        if math.isfinite(stderr[c.name]) and stderr[c.name] > width > 0:
            found.append(f"{c.name} is known no better than its bounds: fix it, or measure more")
    return tuple(found)
