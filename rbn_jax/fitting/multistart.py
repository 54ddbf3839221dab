"""From the starts to their ends, for every row of targets, finished on the bounds they lean on."""

import dataclasses
import math
from typing import Any

import numpy as np

from rbn_jax.fitting import kernels as s
from rbn_jax.fitting.objective import Data, Problem

SAME = 1e-6  # relative difference in cost of one and the same optimum
_LEANING = 0.02  # share of its range within which an end may belong on the bound


@dataclasses.dataclass
class Ends:
    """The ends of all starts of some rows.

    u, x, slope: (rows, starts, k), coordinates, parameters and the gradient in them; normal with
        one more k, J^T J or the Hessian
    cost: (rows, starts), infinite where it is not a number
    pinned: (rows, starts, k), the bounds that the ends lie on; NaN where on none
    converged, usable: (rows, starts), whether one more step promises nothing, and whether fn was
        a number at the start
    same, nothing: what two costs of a row may differ by and be one: a share, and (rows,) more
    """

    u: np.ndarray
    x: np.ndarray
    cost: np.ndarray
    slope: np.ndarray
    normal: np.ndarray
    pinned: np.ndarray
    converged: np.ndarray
    usable: np.ndarray
    same: float
    nothing: np.ndarray

    @property
    def failed(self) -> np.ndarray:
        """The rows (rows,) of which no end is a number."""
        return np.asarray(~np.isfinite(self.cost).any(1))

    @property
    def reached(self) -> np.ndarray:
        """Which starts came to the best of the row, (rows, starts)."""
        least = self.cost.min(1, keepdims=True)
        near = self.cost <= least + self.same * np.abs(least) + self.nothing[:, None]
        return near & np.isfinite(self.cost)

    @property
    def little(self) -> np.ndarray:
        """A fall of the cost that is none, (rows, starts)."""
        return 0.1 * self.same * np.abs(self.cost) + self.nothing[:, None]

    @property
    def best(self) -> np.ndarray:
        """The number of the best end of each row.

        Of equal ones it is one that has converged, and that lies on the fewest bounds: a valley
        may run into some.
        """
        settled = self.reached & self.converged
        bounds = np.where(settled, np.count_nonzero(~np.isnan(self.pinned), 2), np.inf)
        fewest = settled & (bounds == bounds.min(1, keepdims=True))
        found = np.where(fewest, self.cost, np.inf)
        return np.where(fewest.any(1), found.argmin(1), self.cost.argmin(1))

    def at_best(self, array: np.ndarray) -> np.ndarray:
        """What an array (rows, starts, ...) has at the best ends."""
        return array[np.arange(len(array)), self.best]


def follow(problem: Problem, data: Data, u: np.ndarray, steps: int, bar: Any = None) -> Ends:
    """Follow u (starts, k) for each row of data by the minimiser of the problem.

    With a bar, in as many calls as there are groups of starts that run at once.
    """
    rows, starts = len(next(iter(data.weight.values()))), len(u)
    size = starts if bar is None else s.lanes(starts)
    parts = []
    for first in range(0, starts, size):
        some = u[np.minimum(np.arange(first, first + size), starts - 1)]  # of one shape
        every = np.broadcast_to(some, (rows, *some.shape))
        found = s.solve(problem, data, every, _free(every), steps)
        parts.append([np.asarray(y) for y in found])
        if bar is not None:
            bar.update(min(size, starts - first))
    ends = [np.concatenate(pieces, 1)[:, :starts] for pieces in zip(*parts, strict=True)]
    return finish(problem, data, ends, steps)


def finish(problem: Problem, data: Data, found: Any, steps: int) -> Ends:
    """Put the ends on the bounds they lean on, and see what has converged."""
    u, x, cost, slope, normal, first = (np.array(y) for y in found)
    usable = np.isfinite(first)
    cost = np.where(usable & np.isfinite(cost), cost, np.inf)
    converged = np.zeros(cost.shape, bool)
    same = _same(problem, data, cost)
    ends = Ends(u, x, cost, slope, normal, _free(u), converged, usable, *same)
    _onto_bounds(problem, data, ends, steps)
    promised = np.asarray(s.decrement(ends.slope, ends.normal, ends.pinned))
    ends.converged = np.isfinite(ends.cost) & (promised <= ends.little)
    return ends


def _same(problem: Problem, data: Data, cost: np.ndarray) -> tuple[float, np.ndarray]:
    """The share of a cost, and what more, that is no difference.

    A loss may have any constant: of it a millionth is none, as of a logarithm of a likelihood.
    """
    if problem.loss is None:
        return SAME, np.asarray(s.nothing(problem, data.target, data.weight, batch=1))
    return 0.0, SAME + 1e2 * np.finfo(cost.dtype).eps * np.abs(cost.min(1))


def _free(u: np.ndarray) -> np.ndarray:
    """Nothing pinned."""
    return np.full_like(u, np.nan)


def _onto_bounds(problem: Problem, data: Data, ends: Ends, steps: int) -> None:
    """Move each end onto the bounds that it leans on, in turn, where that is no worse."""
    active = np.isfinite(ends.cost)
    for _ in data.coordinates:
        column, value = _leaning(data, ends)
        active &= column >= 0
        rows = np.flatnonzero(active.any(1))
        if not len(rows):
            return
        trial = ends.pinned.copy()
        trial[(*np.nonzero(active), column[active])] = value[active]
        found = _again(problem, data, ends.u, trial, rows, steps)
        cost = ends.cost[rows]
        better = active[rows] & (found[2] <= cost + 1e-9 * np.abs(cost))
        parts = (ends.u, ends.x, ends.cost, ends.slope, ends.normal, ends.pinned)
        for whole, part in zip(parts, (*found[:5], trial[rows]), strict=True):
            some = whole[rows]
            some[better] = part[better]
            whole[rows] = some
        active[rows] = better


def _again(
    problem: Problem, data: Data, u: np.ndarray, pinned: np.ndarray, rows: np.ndarray, steps: int
) -> list[np.ndarray]:
    """Some rows once more, in a batch of one of a few sizes, so that few are compiled."""
    size = min(len(u), max(8, 2 ** math.ceil(math.log2(len(rows)))))
    some = np.resize(rows, size)
    found = s.solve(problem, data.rows(some), u[some], pinned[some], steps)
    return [np.array(y)[: len(rows)] for y in found]


def _leaning(data: Data, ends: Ends) -> tuple[np.ndarray, np.ndarray]:
    """For each end the parameter, -1 for none, nearest to a bound across which the cost would fall.

    And that bound. Along a valley that the data leave open it would not.
    """
    column, value = np.full(ends.cost.shape, -1), np.zeros(ends.cost.shape)
    nearest = np.full(ends.cost.shape, _LEANING)
    promised = 0.5 * np.square(ends.slope)
    with np.errstate(invalid="ignore"):  # where fn has no derivative
        falls = promised > np.diagonal(ends.normal, axis1=2, axis2=3) * ends.little[..., None]
    falls &= np.isnan(ends.pinned)
    for i, c in enumerate(data.coordinates):
        for bound, bounded, sign in ((c.low, c.bounded[0], 1), (c.high, c.bounded[1], -1)):
            if not bounded:
                continue
            with np.errstate(invalid="ignore", divide="ignore"):
                distance = np.abs(c.position(ends.x[..., i]) - c.position(bound))
            leans = (distance < nearest) & (sign * ends.slope[..., i] > 0) & falls[..., i]
            column[leans], value[leans], nearest[leans] = i, bound, distance[leans]
    return column, value
