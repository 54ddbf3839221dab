"""Directions in which the parameters can change without effect on the data, in words.

The singular vectors of the Jacobian tell such directions at the optimum only. Each is therefore
tried with a step of finite length, in logarithms of the parameters and in the parameters.
"""

import dataclasses
import math
from collections.abc import Callable

import jax
import numpy as np

from rbn_jax.fitting import kernels
from rbn_jax.fitting.objective import Objective
from rbn_jax.numerics.covariance import Uncertainty, row_echelon_form

# the step that tries a direction, in relative changes or in shares of the range
_TRIAL_STEP = 0.3
# a parameter on a linear scale is near 0 if it is less than this share of its range
_NEAR_ZERO = 1e-3
# changes of the result below this share of those by one parameter alone are rounding
_ROUNDING = {"float32": 1e-3, "float64": 1e-6}


@dataclasses.dataclass(frozen=True)
class Identifiability:
    """What the data tell about the parameters together.

    Args:
        singular_values: those of the Jacobian of the residuals, the largest first; in relative
            changes of parameters that cannot be negative and are not near 0, else in shares of
            their range.
        directions: each direction of the parameters that does not change the residuals, in
            words. "near the optimum" says that a finite step does change them.
    """

    singular_values: tuple[float, ...]
    directions: tuple[str, ...]


def identify(objective: Objective, uncertainty: Uncertainty, x: np.ndarray) -> Identifiability:
    """Return what the data tell about the parameters at the optimum x (k,) of one row.

    objective: of one row, with the axis of rows
    uncertainty: of that row
    """
    variables = objective.variables
    # relative changes of a parameter near 0 are too small to tell anything
    is_far_from_0 = np.abs(x) > _NEAR_ZERO * variables.units
    is_relative = np.array(variables.is_log) | ((np.asarray(variables.low) >= 0) & is_far_from_0)
    steps = np.where(is_relative, np.abs(x), variables.units)
    known, vectors = uncertainty.known[0], uncertainty.vectors[0]
    # of J diag(steps)
    matrix = uncertainty.singular_values[0][:, None] * vectors * (steps / uncertainty.scale[0])
    singular_values = np.linalg.svd(matrix[:, known], compute_uv=False)
    directions = row_echelon_form(vectors[uncertainty.is_null[0]] * uncertainty.scale[0] / steps)
    texts = []
    for direction in directions:
        moving = np.abs(direction) > 1e-5 * np.abs(direction).max()
        direction = np.where(moving, direction, 0) / np.abs(direction).max()
        texts.append(_describe(objective, x, direction, steps, is_relative))
    return Identifiability(tuple(singular_values.tolist()), tuple(texts))


def _describe(
    objective: Objective,
    x: np.ndarray,
    direction: np.ndarray,
    steps: np.ndarray,
    is_relative: np.ndarray,
) -> str:
    """Describe a direction (k,), whose components are changes in units of `steps`."""
    moving = np.flatnonzero(direction)
    names = [objective.names[i] for i in moving]
    changes = direction * steps
    with np.errstate(divide="ignore", invalid="ignore"):  # of parameters that are 0
        relative = np.where(direction == 0, 0, changes / x)
        relative = relative / np.abs(relative).max()
    in_logarithms = bool(np.isfinite(relative).all()) and _leaves_open(
        objective, x, relative, lambda part: x * np.exp(part)
    )
    in_values = _leaves_open(objective, x, direction, lambda part: x + part * steps)
    where = "" if in_logarithms or in_values else "near the optimum, "
    if len(moving) == 1:
        return f"{where}{names[0]} has no effect on the data"
    if len(moving) == 2 and in_logarithms:
        return _describe_pair(names, relative[moving], is_product=True)
    if len(moving) == 2 and in_values:
        return _describe_pair(names, changes[moving], is_product=False)
    if in_values:
        unit, shares = "changes", changes
    elif in_logarithms or is_relative[moving].all():
        unit, shares = "relative changes", relative
    else:
        unit, shares = "changes, in values or ranges,", direction
    ratio = " : ".join(f"{share:.3g}" for share in shares[moving] / shares[moving[0]])
    return f"{where}{', '.join(names)} can vary together, in {unit} of {ratio}"


def _describe_pair(names: list[str], changes: np.ndarray, is_product: bool) -> str:
    """Describe two parameters of which only a product or ratio, or a sum or difference, enters.

    changes: d ln a : d ln b, which leaves a b^factor as it is, or da : db, which leaves
        a + factor b as it is
    """
    factor = -changes[0] / changes[1]
    if is_product:
        operator, combination = ("x", "product") if factor > 0 else ("/", "ratio")
    else:
        operator, combination = ("+", "sum") if factor > 0 else ("-", "difference")
    second = names[1]
    if abs(abs(factor) - 1) >= 1e-4:
        size = f"{abs(factor):.4g}"
        second = f"{second}^{size}" if is_product else f"{size} {second}"
        combination = "combination"
    return f"{names[0]} {operator} {second} can vary together: only their {combination} enters"


def _leaves_open(
    objective: Objective,
    x: np.ndarray,
    change: np.ndarray,
    move: Callable[[np.ndarray], np.ndarray],
) -> bool:
    """Return whether a step along a direction, or its reverse, leaves what fn returns as it is.

    change: the direction (k,), with a largest component of 1, which `move` takes
    """
    change = _TRIAL_STEP * change
    moving = np.flatnonzero(change)
    first_alone = np.zeros_like(change)
    first_alone[moving[0]] = change[moving[0]]

    def difference(part: np.ndarray) -> float:
        points = np.stack([x, move(part)]).astype(objective.dtype)
        before_and_after = jax.device_get(kernels.predictions(objective, points))
        squares = 0.0
        for name, weight in objective.weight.items():
            before, after = before_and_after[name]
            change = np.where(weight > 0, weight * (after - before), 0)
            squares += np.sum(change**2, dtype=float)
        return math.sqrt(squares)

    rounding = _ROUNDING[objective.dtype]
    limit = rounding**2 * np.sqrt(float(objective.squares()))
    limits = []
    for sign in (1, -1):
        total = difference(sign * change)
        alone = difference(sign * first_alone) if moving.size > 1 else 0.0
        # outside the domain of fn the result is NaN
        if np.isfinite(total + alone):
            limits.append(total <= rounding * alone + limit)
    return bool(limits) and all(limits)
