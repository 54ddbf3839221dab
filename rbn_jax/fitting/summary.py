"""The result of one row of fits: its optima, what the data leave open, and advice."""

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from rbn_jax.fitting.identifiability import identify
from rbn_jax.fitting.multistart import Ends
from rbn_jax.fitting.objective import Objective, fit_settings
from rbn_jax.fitting.result import FitResult, Optimum
from rbn_jax.numerics.covariance import correlation

if TYPE_CHECKING:
    from rbn_jax.fitting.rows import FitRows

# two optima are distinct if they differ by more in a variable, in shares of its range
_MIN_DISTANCE = 1e-3
_SHARE_OF_0 = 1e-9


def summarise(rows: "FitRows") -> FitResult:
    """Return the result of the only row, which was fitted."""
    objective, ends = rows._objective, rows._ends
    x = rows.best_x()[0]
    with fit_settings(objective.dtype):
        identifiability = identify(objective, rows._uncertainty, x)
        optima = _find_optima(objective, ends, bool(identifiability.directions))
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(FitResult):
        if field.name in vars(rows):
            fields[field.name] = map_arrays(_first, getattr(rows, field.name))
    fields |= {
        "params": rows._parameters.replace(fields["values"]).build(),
        "correlation": correlation(fields["covariance"]),
        "residuals": {name: array[0] for name, array in rows.residuals.items()},
        "optima": optima,
        "start_costs": np.sort(ends.cost[0]),
        "at_bound": {name: side for name, side in fields["at_bound"].items() if side},
        "identifiability": identifiability,
        "advice": (),
        "_objective": objective.select_rows(0),
        "_best": x,
    }
    result = FitResult(**fields)
    advice = _advise(result, rows) + list(rows._notes)
    return dataclasses.replace(result, advice=tuple(advice))


def map_arrays(function: Callable[[np.ndarray], Any], field: Any) -> Any:
    """Apply a function to an array, or to each of a mapping; return anything else as it is."""
    if isinstance(field, np.ndarray):
        return function(field)
    if isinstance(field, dict):
        return {name: function(array) for name, array in field.items()}
    return field


def _first(array: np.ndarray) -> Any:
    return array[0] if array.ndim > 1 else array.item()


def _find_optima(objective: Objective, ends: Ends, is_degenerate: bool) -> tuple[Optimum, ...]:
    """Return the distinct local minima of one row, the best first.

    is_degenerate: the data leave a direction open: minima of the same cost then are one,
        wherever they are
    """
    x, cost, tolerance = ends.x[0], ends.cost[0], ends.tolerance[0]
    variables = objective.variables
    z = variables.from_values(x)
    # On a log scale, ends near 0 are far apart. Those below a share of the high bound are all 0.
    high = np.where(np.isfinite(variables.high), variables.high, 0)
    is_0 = np.array(variables.is_log) & (x <= _SHARE_OF_0 * high)
    z = np.where(is_0, -np.inf, z)
    best = ends.best[1][0]
    by_cost = np.argsort(cost, kind="stable")
    is_minimum = ends.converged[0] & (np.arange(len(cost)) != best)
    remaining = np.concatenate([[best], by_cost[is_minimum[by_cost]]])
    optima = []
    while remaining.size:
        first = remaining[0]
        is_equal = z[remaining] == z[first]
        with np.errstate(invalid="ignore"):  # of two that are 0
            distances = np.abs((z[remaining] - z[first]) / variables.units)
        is_same = (is_equal | (distances < _MIN_DISTANCE)).all(1)
        # also where an end is NaN
        is_same[0] = True
        if is_degenerate:
            is_same |= cost[remaining] <= cost[first] + tolerance[first]
        values = {name: float(value) for name, value in objective.values(x[first]).items()}
        optima.append(Optimum(values, float(cost[first]), int(is_same.sum())))
        remaining = remaining[~is_same]
    return tuple(optima)


def _advise(result: FitResult, rows: "FitRows") -> list[str]:
    advice = []
    n_data, k = result.n_data, len(result.names)
    if result.status != "converged":
        advice.append("the best start did not converge: raise max_steps or n_starts")
    if n_data < k and not result.absolute_sigma:
        advice.append(f"{k} free parameters and {n_data} data: their errors are not known")
    elif n_data == k:
        advice.append("as many free parameters as data: no residual tells how good the fit is")
    for direction in result.identifiability.directions:
        advice.append(f"the data do not determine all parameters: {direction}")
    for name, side in result.at_bound.items():
        value = result.values[name]
        advice.append(f"{name} lies on its {side} bound, {value:g}: widen it, or fix it")
    if result.null_aic is not None and result.null_aic <= result.aic:
        advice.append("the null model is as good by Akaike's criterion: there may be no effect")
    if rows.has_rounded_residuals()[0]:
        advice.append("the residuals are hardly more than rounding: so are the standard errors")
    if result.n_lost:
        advice.append(
            f"fn or its derivative is not finite at {result.n_lost} of {result.n_starts} starts"
        )
    if result.n_starts > 4 and result.n_reached == 1:
        advice.append("only one start reached the best optimum: raise n_starts")
    variables = rows._objective.variables
    ranges = np.subtract(variables.high, variables.low)
    for name, range_ in zip(result.names, ranges, strict=True):
        if math.inf > result.stderr[name] > range_:
            advice.append(f"{name} is known no better than its bounds: fix it, or measure more")
    return advice
