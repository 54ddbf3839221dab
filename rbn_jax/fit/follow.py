"""From the starts to their ends, for every row of targets, finished on the bounds they lean on."""

import dataclasses
import math
from typing import Any

import jax
import numpy as np

from rbn_jax.fit import solve as s
from rbn_jax.fit.problem import Data, Problem

SAME = 1e-6  # relative difference in cost of one and the same optimum
_EARLY = 16  # steps after which rows that are done leave the batch
_LEANING = 0.02  # share of its range within which an end may belong on the bound


@dataclasses.dataclass
class Ends:
    """The ends of all starts of some rows.

    x: (rows, starts, k); cost, infinite where it is not a number, converged and usable, whether
        fn was a number at the start: (rows, starts)
    pinned: (rows, starts, k), the bounds that the ends lie on; NaN where on none
    nothing: (rows,), as the function of this name has it
    """

    x: np.ndarray
    cost: np.ndarray
    converged: np.ndarray
    usable: np.ndarray
    pinned: np.ndarray
    nothing: np.ndarray

    @property
    def failed(self) -> np.ndarray:
        """The rows (rows,) of which no end is a number."""
        return np.asarray(~np.isfinite(self.cost).any(1))

    @property
    def reached(self) -> np.ndarray:
        """Which starts came to the best of the row, (rows, starts)."""
        least = self.cost.min(1, keepdims=True)
        near = self.cost <= least + SAME * np.abs(least) + self.nothing[:, None]
        return near & np.isfinite(self.cost)

    @property
    def best(self) -> np.ndarray:
        """The number of the best end of each row: of equal ones, one that has converged."""
        settled = np.where(self.reached & self.converged, self.cost, np.inf)
        found = np.isfinite(settled).any(1)
        return np.where(found, settled.argmin(1), self.cost.argmin(1))

    def at_best(self, array: np.ndarray) -> np.ndarray:
        """What an array (rows, starts, ...) has at the best ends."""
        return array[np.arange(len(array)), self.best]


def follow(problem: Problem, data: Data, u: np.ndarray, steps: int) -> Ends:
    """Follow u (starts, k) for each row of data by the minimiser of the problem."""
    rows = len(next(iter(data.weight.values())))
    every = np.broadcast_to(u, (rows, *u.shape))
    usable = np.isfinite(np.asarray(s.costs(problem, data, every)))
    # a start where fn is no number is replaced by one where it is, or the batch would wait for it
    one = every[np.arange(rows), usable.argmax(1)]
    every, free = np.where(usable[:, :, None], every, one[:, None, :]), _free(every)
    early = min(_EARLY, steps) if rows > 1 else steps
    found = [np.array(y) for y in s.solve(problem, data, every, free, early)]
    late = np.flatnonzero(~found[3].all(1))
    if early < steps and len(late):
        more = _again(problem, data, found[0], free, late, steps)
        for whole, part in zip(found, more, strict=True):
            whole[late] = part
    return finish(problem, data, found, usable, steps)


def finish(problem: Problem, data: Data, found: Any, usable: np.ndarray, steps: int) -> Ends:
    """Put the ends on the bounds they lean on, and see what has converged."""
    u, x, cost, _ = found
    cost = np.where(usable & np.isfinite(cost), cost, np.inf)
    ends = Ends(x, cost, np.zeros(cost.shape, bool), usable, _free(u), nothing(data))
    _onto_bounds(problem, data, u, ends, steps)
    promised = np.asarray(s.decrement(problem, data, ends.x, ends.pinned))
    enough = 0.1 * SAME * np.abs(ends.cost) + ends.nothing[:, None]
    ends.converged = np.isfinite(ends.cost) & (promised <= enough)
    return ends


def _free(u: np.ndarray) -> np.ndarray:
    """Nothing pinned."""
    return np.full_like(u, np.nan)


def nothing(data: Data) -> np.ndarray:
    """A cost of each row that is nothing: residuals of 1e-8 of the target."""
    parts = [
        np.sum(np.square(w * data.target[n]), tuple(range(1, w.ndim)))
        for n, w in data.weight.items()
    ]
    return 1e-16 * np.nan_to_num(sum(parts))


def _again(
    problem: Problem, data: Data, u: np.ndarray, pinned: np.ndarray, rows: np.ndarray, steps: int
) -> list[np.ndarray]:
    """Some rows once more, in a batch of one of a few sizes, so that few are compiled."""
    size = min(len(u), max(8, 2 ** math.ceil(math.log2(len(rows)))))
    some = np.resize(rows, size)
    found = s.solve(problem, data.rows(some), u[some], pinned[some], steps)
    return [np.array(y)[: len(rows)] for y in jax.device_get(found)]


def _onto_bounds(problem: Problem, data: Data, u: np.ndarray, ends: Ends, steps: int) -> None:
    """Move each end onto the bounds that it leans on, in turn, where that is no worse."""
    active = np.isfinite(ends.cost)
    for _ in data.coordinates:
        column, value = _leaning(problem, data, ends)
        active &= column >= 0
        rows = np.flatnonzero(active.any(1))
        if not len(rows):
            return
        trial = ends.pinned.copy()
        at = (*np.nonzero(active), column[active])
        trial[at] = value[active]
        there, x, cost, _ = _again(problem, data, u, trial, rows, steps)
        better = active[rows] & (cost <= ends.cost[rows] + 1e-9 * np.abs(ends.cost[rows]))
        for whole, part in (
            *((u, there), (ends.x, x), (ends.cost, cost), (ends.pinned, trial[rows])),
        ):
            some = whole[rows]
            some[better] = part[better]
            whole[rows] = some
        active[rows] = better


def _leaning(problem: Problem, data: Data, ends: Ends) -> tuple[np.ndarray, np.ndarray]:
    """For each end the parameter, -1 for none, nearest to a bound across which the cost would fall.

    And that bound.
    """
    slope = np.asarray(s.gradient(problem, data, ends.x))
    column, value = np.full(ends.cost.shape, -1), np.zeros(ends.cost.shape)
    nearest = np.full(ends.cost.shape, _LEANING)
    for i, c in enumerate(data.coordinates):
        for bound, bounded, sign in ((c.low, c.bounded[0], 1), (c.high, c.bounded[1], -1)):
            if not bounded:
                continue
            with np.errstate(invalid="ignore", divide="ignore"):
                distance = np.abs(c.position(ends.x[..., i]) - c.position(bound))
            falls = np.isnan(ends.pinned[..., i]) & (sign * slope[..., i] > 0)
            leans = falls & (distance < nearest)
            column[leans], value[leans], nearest[leans] = i, bound, distance[leans]
    return column, value
