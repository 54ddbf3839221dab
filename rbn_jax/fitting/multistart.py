"""Minimise from many starts, and move the ends onto their active bounds."""

import dataclasses
import functools
import math
from typing import Any

import numpy as np

from rbn_jax.fitting import kernels
from rbn_jax.fitting.kernels import Endpoints
from rbn_jax.fitting.objective import Objective
from rbn_jax.parameters.optional import require

# costs with a smaller relative difference are of the same optimum
_COST_RTOL = 1e-6
# bounds nearer than this share of the parameter's range are tried
_NEAR_BOUND = 0.02


@dataclasses.dataclass(frozen=True)
class LocalMinima:
    """The ends of all starts, for one or more rows of a target.

    ends: arrays (rows, starts, ...); the cost is infinite where it or the start's is not finite
    converged: (rows, starts), whether a Newton step would not lower the cost
    rtol, atol: tolerances within which two costs count as the same optimum; atol has shape
        (rows,)
    """

    ends: Endpoints
    converged: np.ndarray
    rtol: float
    atol: np.ndarray

    @property
    def usable(self) -> np.ndarray:
        """Whether the cost was finite at the start, (rows, starts)."""
        return np.isfinite(self.ends.start_cost)

    @property
    def failed(self) -> np.ndarray:
        """Whether no start of a row ended at a finite cost, (rows,)."""
        return ~np.isfinite(self.ends.cost).any(1)

    @functools.cached_property
    def reached(self) -> np.ndarray:
        """Whether a start ended at the lowest cost of its row, (rows, starts)."""
        cost = self.ends.cost
        lowest = cost.min(1, keepdims=True)
        same = cost <= lowest + cost_tolerance(lowest, self.rtol, self.atol)
        return same & np.isfinite(cost)

    @functools.cached_property
    def best(self) -> np.ndarray:
        """The index of the best start of each row, (rows,).

        Of starts with the same cost it is one that has converged and has the fewest active
        bounds: a direction that the data leave open may run into bounds.
        """
        cost = self.ends.cost
        candidates = self.reached & self.converged
        n_active = np.where(candidates, np.count_nonzero(~np.isnan(self.ends.held), 2), np.inf)
        candidates &= n_active == n_active.min(1, keepdims=True)
        lowest = np.where(candidates, cost, np.inf).argmin(1)
        return np.where(candidates.any(1), lowest, cost.argmin(1))

    def at_best(self, array: np.ndarray) -> np.ndarray:
        """Select the best start of each row of an array (rows, starts, ...)."""
        return array[np.arange(len(array)), self.best]

    def best_ends(self) -> Endpoints:
        """Return the best end of each row: arrays (rows, ...)."""
        return Endpoints._make(map(self.at_best, self.ends))


def progress_bar(progress: bool | None, total: int, unit: str) -> Any:
    """Make a tqdm bar that shows always, never, or for None in a terminal only.

    A bar appears after half a second, so that short fits show none.
    """
    tqdm = require("tqdm.auto", "fit").tqdm
    disable = None if progress is None else not progress
    return tqdm(total=total, unit=unit, unit_scale=True, delay=0.5, disable=disable)


def multistart(objective: Objective, u: np.ndarray, bar: Any = None) -> LocalMinima:
    """Minimise from starts u (starts, k) for each row of the targets.

    bar: a progress bar, updated after each group of starts that run at once
    """
    n_rows = len(next(iter(objective.weight.values())))
    n_starts, k = u.shape
    batch = n_starts if bar is None else kernels.batch_size(n_starts)
    free = np.full((n_rows, batch, k), np.nan, u.dtype)
    parts = []
    for first in range(0, n_starts, batch):
        # the last batch repeats the last start: another shape would be compiled again
        numbers = np.minimum(np.arange(first, first + batch), n_starts - 1)
        starts = np.broadcast_to(u[numbers], free.shape)
        parts.append(kernels.minimise_from(objective, starts, free))
        if bar is not None:
            bar.update(min(batch, n_starts - first))
    ends = []
    for arrays in zip(*parts, strict=True):
        ends.append(np.concatenate(arrays, 1)[:, :n_starts])
    return to_local_minima(objective, Endpoints._make(ends))


def to_local_minima(objective: Objective, ends: Endpoints) -> LocalMinima:
    """Move the ends onto their active bounds, and find out which have converged."""
    cost = np.where(np.isfinite(ends.start_cost + ends.cost), ends.cost, np.inf)
    ends = ends._replace(cost=cost)
    if objective.loss is None:
        rtol = _COST_RTOL
        atol = np.asarray(kernels.cost_floor(objective, batch_axes=1))
    else:
        # the constant of a log likelihood is arbitrary, so a share of it means nothing
        rtol = 0.0
        atol = _COST_RTOL + 1e2 * np.finfo(cost.dtype).eps * np.abs(cost.min(1))
    _move_onto_bounds(objective, ends, rtol, atol)
    decrease = np.asarray(kernels.predicted_decrease(ends.gradient, ends.hessian, ends.held))
    converged = np.isfinite(cost) & (decrease <= cost_tolerance(cost, 0.1 * rtol, atol))
    return LocalMinima(ends, converged, rtol, atol)


def cost_tolerance(cost: np.ndarray, rtol: float, atol: np.ndarray) -> np.ndarray:
    """Return the tolerance for costs (rows, starts).

    With a tenth of rtol it is the decrease below which a start counts as converged.
    """
    # 0 * infinity would be NaN
    return rtol * np.where(np.isfinite(cost), np.abs(cost), 0) + atol[:, None]


def _move_onto_bounds(objective: Objective, ends: Endpoints, rtol: float, atol: np.ndarray) -> None:
    """Hold parameters at bounds, one after the other, where that is no worse; changes the ends.

    Coordinates reach a bound only at infinity, so an end near one is minimised again with the
    parameter exactly there.
    """
    candidates = np.isfinite(ends.cost)
    for _ in objective.coordinates:
        threshold = cost_tolerance(ends.cost, 0.1 * rtol, atol)
        column, bound = _nearest_bound(objective, ends, threshold)
        candidates &= column >= 0
        rows = np.flatnonzero(candidates.any(1))
        if not len(rows):
            return
        held = ends.held.copy()
        row, start = np.nonzero(candidates)
        held[row, start, column[candidates]] = bound[candidates]
        trial = _minimise_rows(objective, ends.u, held, rows)
        cost = ends.cost[rows]
        candidates[rows] &= trial.cost <= cost + 1e-9 * np.abs(cost)
        row, start = np.nonzero(candidates[rows])
        # all but the cost at the start
        for array, trial_array in zip(ends[:-1], trial[:-1], strict=True):
            array[rows[row], start] = trial_array[row, start]


def _minimise_rows(
    objective: Objective, u: np.ndarray, held: np.ndarray, rows: np.ndarray
) -> Endpoints:
    """Minimise some rows again."""
    # the number of rows is rounded up to a power of 2, so that few shapes are compiled
    size = min(len(u), max(8, 2 ** math.ceil(math.log2(len(rows)))))
    repeated = np.resize(rows, size)
    row_objective = objective.select_rows(repeated)
    ends = kernels.minimise_from(row_objective, u[repeated], held[repeated])
    return Endpoints._make(np.asarray(array)[: len(rows)] for array in ends)


def _nearest_bound(
    objective: Objective, ends: Endpoints, threshold: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return for each end the parameter that is nearest to a bound, and that bound.

    The cost must fall across the bound by more than the threshold: along a direction that the
    data leave open it would not. The parameter is -1 where there is none.
    """
    coordinates = objective.coordinates
    # a Newton step of one parameter alone lowers the cost by g^2 / 2 H
    curvature = np.diagonal(ends.hessian, axis1=2, axis2=3)
    # where fn has no derivative both sides may be NaN or infinite
    with np.errstate(invalid="ignore"):
        falls = 0.5 * np.square(ends.gradient) > curvature * threshold[..., None]
    falls &= np.isnan(ends.held)
    descends = np.stack([ends.gradient > 0, ends.gradient < 0], -1) & falls[..., None]
    # distances (rows, starts, k, 2) from the low and the high bound
    distances = np.full(descends.shape, np.inf)
    bounds = np.array([(c.low, c.high) for c in coordinates])
    for i, side in np.argwhere([c.bounded for c in coordinates]):
        with np.errstate(invalid="ignore", divide="ignore"):
            position = coordinates[i].position(ends.x[..., i])
            distance = np.abs(position - coordinates[i].position(bounds[i, side]))
        distances[..., i, side] = np.where(descends[..., i, side], distance, np.inf)
    distances = distances.reshape(*ends.cost.shape, -1)
    column, side = np.divmod(distances.argmin(-1), 2)
    is_near = distances.min(-1) < _NEAR_BOUND
    return np.where(is_near, column, -1), bounds[column, side]
