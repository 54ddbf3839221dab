"""From the local minima of one fit to its result: uncertainty, optima and advice."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from rbn_jax.fitting import kernels, uncertainty
from rbn_jax.fitting.kernels import Endpoints
from rbn_jax.fitting.multistart import LocalMinima
from rbn_jax.fitting.objective import Arrays, Objective, count_data
from rbn_jax.fitting.result import FitResult, Identifiability, Optimum
from rbn_jax.parameters.access import Parameters
from rbn_jax.parameters.labels import function_name

# A singular value up to this one, of columns of norm 1, is 0 up to rounding. Singular values
# from a Hessian are roots of its eigenvalues, so their rounding error is that of squares.
_JACOBIAN_TOLERANCE = {"float32": 1e-4, "float64": 1e-8}
_HESSIAN_TOLERANCE = {"float32": 1e-2, "float64": 1e-6}
# two optima are distinct if they differ by more in a parameter, as `Coordinate.position` gives it
_MIN_DISTANCE = 1e-3


def summarise(
    objective: Objective,
    parameters: Parameters,
    minima: LocalMinima,
    method: str,
    notes: tuple[str, ...],
) -> FitResult:
    """Return the result at the best local minimum; there is one row.

    parameters: those that the user gave, in their own dtype
    notes: further advice
    """
    best = Endpoints._make(array[0] for array in minima.best_ends())
    x = best.x
    converged = minima.at_best(minima.converged)[0]
    errors = _decompose(objective, best)
    step = uncertainty.parameter_steps(objective.coordinates, x)
    directions = uncertainty.open_directions(objective.coordinates, errors, step)
    chi_square = 2 * float(best.cost)
    k = len(x)
    n_data = int(count_data(objective.select_rows(None))[0])
    reduced = uncertainty.reduced_chi_square(chi_square, n_data, k)
    # of the data, in units of sigma^2
    variance = 1.0 if objective.absolute_sigma else reduced
    covariance = uncertainty.scale_variance(errors.covariance(), variance)
    stderr = uncertainty.standard_errors(objective, x, errors, variance)
    deviance = chi_square
    if objective.loss is None:
        deviance = n_data * math.log(chi_square / n_data) if chi_square > 0 else -math.inf
    sides = uncertainty.active_sides(objective.coordinates, best.held)
    values = _to_floats(objective.values(x))
    result = FitResult(
        function=function_name(objective.fn),
        method=method if objective.loss is None else "bfgs",
        params=parameters.replace(values).build(),
        names=objective.names,
        values=values,
        stderr=_to_floats(stderr),
        covariance=covariance,
        correlation=uncertainty.correlation(covariance),
        residuals=_residuals(objective, x),
        chi_square=chi_square,
        reduced_chi_square=float(reduced),
        aic=deviance + 2 * k,
        bic=deviance + k * math.log(n_data),
        n_data=n_data,
        n_starts=minima.usable.size,
        n_lost=int(np.count_nonzero(~minima.usable)),
        n_reached=int(np.count_nonzero(minima.reached)),
        optima=_optima(objective, minima, bool(directions)),
        start_costs=np.sort(minima.ends.cost[0]),
        at_bound={name: str(side) for name, side in sides.items() if side},
        identifiability=Identifiability(errors.relative_singular_values(step), directions),
        status="converged" if converged else "not converged",
        advice=(),
        absolute_sigma=objective.absolute_sigma,
        _objective=objective,
        _best=x,
    )
    return dataclasses.replace(result, advice=(*_advice(result, objective), *notes))


def _decompose(objective: Objective, best: Endpoints) -> uncertainty.Uncertainty:
    free = np.isnan(best.held)
    if objective.loss is None:
        jacobian = np.asarray(kernels.jacobian(objective, best.x), float)
        return uncertainty.from_jacobian(jacobian, free, _JACOBIAN_TOLERANCE[objective.dtype])
    hessian = best.hessian.astype(float)
    return uncertainty.from_hessian(hessian, free, _HESSIAN_TOLERANCE[objective.dtype])


def _to_floats(numbers: Arrays) -> dict[str, float]:
    return {name: float(number) for name, number in numbers.items()}


def _residuals(objective: Objective, x: np.ndarray) -> Arrays:
    """Return (prediction - target) / sigma by name; NaN where nothing was measured."""
    prediction = jax.device_get(objective.predict(jnp.asarray(x)))
    residuals = {}
    for name, weight in objective.weight.items():
        weight_or_nan = np.where(weight > 0, weight, np.nan)
        residuals[name] = weight_or_nan * (prediction[name] - objective.target[name])
    return residuals


def _optima(objective: Objective, minima: LocalMinima, degenerate: bool) -> tuple[Optimum, ...]:
    """Return the distinct local minima, the best first.

    degenerate: the data leave a direction open: minima of the same cost then are one, wherever
    they are
    """
    x, cost = minima.ends.x[0], minima.ends.cost[0]
    columns = zip(objective.coordinates, x.T, strict=True)
    positions = np.stack([c.position(column) for c, column in columns], axis=1)
    best = minima.best[0]
    by_cost = np.argsort(cost, kind="stable")
    is_minimum = minima.converged[0] & (np.arange(len(cost)) != best)
    remaining = np.concatenate([[best], by_cost[is_minimum[by_cost]]])
    optima = []
    while len(remaining):
        first = remaining[0]
        distances = np.abs(positions[remaining] - positions[first]).max(1)
        is_same = distances < _MIN_DISTANCE
        # also where a position is infinite, and its distance to itself NaN
        is_same[0] = True
        if degenerate:
            tolerance = minima.rtol * abs(cost[first]) + minima.atol[0]
            is_same |= cost[remaining] <= cost[first] + tolerance
        values = _to_floats(objective.values(x[first]))
        optima.append(Optimum(values, float(cost[first]), int(is_same.sum())))
        remaining = remaining[~is_same]
    return tuple(optima)


def _advice(result: FitResult, objective: Objective) -> list[str]:
    advice = []
    n_data, k = result.n_data, len(result.names)
    if result.status != "converged":
        advice.append("the best start did not converge: raise max_steps or n_starts")
    if n_data < k:
        advice.append(f"{k} free parameters and {n_data} data: their errors are not known")
    elif n_data == k:
        advice.append("as many free parameters as data: no residual tells how good the fit is")
    for direction in result.identifiability.directions:
        advice.append(f"the data do not determine all parameters: {direction}")
    for name, side in result.at_bound.items():
        value = result.values[name]
        advice.append(f"{name} lies on its {side} bound, {value:g}: widen it, or fix it")
    if result.n_lost:
        advice.append(f"fn is not finite at {result.n_lost} of {result.n_starts} starts")
    if result.n_starts > 4 and result.n_reached == 1:
        advice.append("only one start reached the best optimum: raise n_starts")
    for c in objective.coordinates:
        if math.inf > result.stderr[c.name] > c.high - c.low:
            advice.append(f"{c.name} is known no better than its bounds: fix it, or measure more")
    return advice
