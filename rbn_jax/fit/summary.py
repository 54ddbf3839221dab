"""From the ends of all starts to a result: uncertainty, optima, and advice."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rbn_jax import _fields as f
from rbn_jax.fit import solve as s
from rbn_jax.fit import uncertainty as unc
from rbn_jax.fit.problem import Data, Problem, measured
from rbn_jax.fit.result import FitResult, Optimum, function_name

SAME = 1e-6  # relative difference in cost of one and the same optimum
APART = 1e-3  # least distance of two optima, in widths or relative


def summary(
    problem: Problem,
    data: Data,
    params: Any,
    found: tuple[np.ndarray, ...],
    best: int,
    bounds: dict[str, str],
    usable: np.ndarray,
    absolute_sigma: bool,
    method: str,
) -> FitResult:
    """The result at the best of the ends (coordinates, parameters, costs, converged)."""
    _, ends, costs, converged = found
    x, cost = ends[best], float(costs[best])
    free = np.array([name not in bounds for name in problem.names])
    root = _root(problem, data, x)
    step = unc.scales(problem, x)
    nothing = unc.NOTHING[problem.dtype]
    cov, singular, null = unc.covariance(root, step, free, nothing)
    n = measured(data) + len(problem.priors)
    dof, k = n - len(x), len(x)
    chi = 2 * cost
    reduced = chi / dof if dof > 0 else math.nan
    if not absolute_sigma and problem.loss is None:
        cov = cov * reduced
    floor = s.floor(data)
    reached = usable & (costs <= cost + SAME * cost + floor)
    optima = _optima(problem, ends, costs, converged & usable, len(null) > 0, floor)
    directions = unc.in_names(problem, null)
    values = _plain(problem.values(x))
    stderr = _stderr(problem, x, cov)
    advice = _advice(
        problem, values, stderr, n, bounds, directions, reached, usable, bool(converged[best])
    )
    log = n * math.log(chi / n) if chi > 0 else -math.inf
    return FitResult(
        function=function_name(problem),
        method=method if problem.loss is None else "bfgs",
        params=f.write(params, values),
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
        n_starts=len(ends),
        n_lost=int((~usable).sum()),
        n_reached=int(reached.sum()),
        optima=optima,
        start_costs=np.sort(costs),
        at_bound=bounds,
        identifiability=unc.Identifiability(tuple(singular.tolist()), directions),
        status="converged" if converged[best] or bounds else "not converged",
        advice=advice,
        absolute_sigma=absolute_sigma or problem.loss is not None,
        _problem=problem,
        _data=data,
        _best=x,
    )


def _root(problem: Problem, data: Data, x: np.ndarray) -> np.ndarray:
    if problem.loss is None:
        return np.asarray(s.jacobian(problem, data, x), float)
    return unc.root_of(np.asarray(s.curvature(problem, data, x)[1], float))


def _plain(values: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items()}


def _stderr(problem: Problem, x: np.ndarray, cov: np.ndarray) -> dict[str, float]:
    """Of the free parameters, and through their derivatives of those tied to them."""
    found = dict(zip(problem.names, np.sqrt(np.diag(cov)).tolist(), strict=True))
    for name, tie in problem.ties:
        slope = np.asarray(
            jax.jacfwd(lambda y, tie=tie: tie(dict(zip(problem.names, y, strict=True))))(
                jnp.asarray(x)
            )
        )
        used = np.flatnonzero(slope)
        part = cov[np.ix_(used, used)]
        variance = slope[used] @ part @ slope[used] if np.isfinite(part).all() else math.nan
        if np.isinf(np.diag(part)).any():
            variance = math.inf
        found[name] = math.sqrt(variance) if variance >= 0 else math.nan
    return found


def _residuals(problem: Problem, data: Data, x: np.ndarray) -> dict[str, np.ndarray]:
    found = jax.device_get(problem.predict(data.params, jnp.asarray(x)))
    with np.errstate(invalid="ignore"):
        return {
            name: np.where(weight > 0, weight * (found[name] - data.target[name]), np.nan)
            for name, weight in data.weight.items()
        }


def _optima(
    problem: Problem,
    ends: np.ndarray,
    costs: np.ndarray,
    converged: np.ndarray,
    degenerate: bool,
    floor: float,
) -> tuple[Optimum, ...]:
    """The minima at the ends of the starts: told apart by place, along a valley by cost alone."""
    groups: list[tuple[np.ndarray, float, list[int]]] = []
    places = np.stack([c.position(ends[:, i]) for i, c in enumerate(problem.coordinates)], axis=1)
    best = int(np.argmin(costs))
    for i in [best, *np.argsort(costs, kind="stable")]:
        if not np.isfinite(costs[i]) or not (converged[i] or i == best):
            continue
        for place, cost, members in groups:
            near = np.abs(places[i] - place).max() < APART
            if near or (degenerate and costs[i] <= cost + SAME * cost + floor):
                members.append(int(i))
                break
        else:
            groups.append((places[i], float(costs[i]), [int(i)]))
    return tuple(
        Optimum(_plain(problem.values(ends[members[0]])), cost, len(set(members)))
        for _, cost, members in groups
    )


def _advice(
    problem: Problem,
    values: dict[str, float],
    stderr: dict[str, float],
    n: int,
    bounds: dict[str, str],
    directions: tuple[str, ...],
    reached: np.ndarray,
    usable: np.ndarray,
    converged: bool,
) -> tuple[str, ...]:
    found = []
    if not converged and not bounds:
        found.append("the best start did not converge: raise max_steps or n_starts")
    if n < len(problem.names):
        found.append(
            f"{len(problem.names)} free parameters and {n} data: their errors are not known"
        )
    elif n == len(problem.names):
        found.append("as many free parameters as data: no residual tells how good the fit is")
    found += [f"the data do not tell everything: {text}" for text in directions]
    for name, side in bounds.items():
        found.append(f"{name} lies on its {side} bound, {values[name]:g}: widen it, or fix it")
    if (~usable).any():
        found.append(f"fn is not finite at {(~usable).sum()} of {len(usable)} starts")
    if len(usable) > 4 and reached.sum() == 1:
        found.append("only one start reached the best optimum: raise n_starts")
    for c in problem.coordinates:
        width = c.high - c.low
        if math.isfinite(stderr[c.name]) and stderr[c.name] > width > 0:
            found.append(f"{c.name} is known no better than its bounds: fix it, or measure more")
    return tuple(found)
