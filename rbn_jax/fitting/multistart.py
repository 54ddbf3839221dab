"""Search from many starts in every row, and select the best end of each."""

import contextlib
import time
from typing import NamedTuple

import numpy as np
from jax import Array

from rbn_jax.fitting import kernels
from rbn_jax.fitting.objective import Objective
from rbn_jax.numerics.minimise import Minima, no_minima
from rbn_jax.parameters.spacing import sobol_points
from rbn_jax.system.progress import Progress

# the number of searches in one call grows while a call is faster than this [s]
_CALL_SECONDS = 0.3


class Ends(NamedTuple):
    """Where the searches from all starts ended, for one or more rows of a target.

    x: parameters (rows, starts, k)
    cost: half of chi-square, or the loss (rows, starts); infinite where the cost, or a derivative
        of it, was not finite at the start
    held: (rows, starts, k), whether a parameter is held on a bound
    converged: (rows, starts), whether a further step would hardly lower the cost
    tolerance: (rows, starts), differences of the cost that rounding makes
    squares: (rows,), the sum of (target / sigma)^2
    """

    x: np.ndarray
    cost: np.ndarray
    held: np.ndarray
    converged: np.ndarray
    tolerance: np.ndarray
    squares: np.ndarray

    @property
    def reached(self) -> np.ndarray:
        """Whether a start ended at the lowest cost of its row, (rows, starts)."""
        limit = (self.cost + self.tolerance).min(1, keepdims=True)
        return (self.cost <= limit) & np.isfinite(self.cost)

    @property
    def best(self) -> tuple[np.ndarray, np.ndarray]:
        """The index of the best start of each row, to index arrays (rows, starts, ...).

        Of starts with the same cost it is one that has converged and has the fewest active
        bounds: a direction that the data leave open may run into bounds.
        """
        is_candidate = self.reached & self.converged
        n_held = np.where(is_candidate, self.held.sum(2), 0)
        # the last key is the first one to sort by
        best = np.lexsort((self.cost, n_held, ~is_candidate))[:, 0]
        return np.arange(len(best)), best


def make_starts(objective: Objective, first: np.ndarray, n_starts: int, seed: int) -> np.ndarray:
    """Return the starts z (n_starts, k): the first one, then points of a Sobol sequence."""
    starts = first[None]
    if n_starts > 1:
        others = objective.variables.from_shares(
            sobol_points(n_starts - 1, len(first), seed, "fit")
        )
        starts = np.vstack([starts, others])
    return starts.astype(objective.dtype)


def search_all(
    objective: Objective, starts: np.ndarray, n_rows: int, progress: Progress
) -> tuple[Ends, int, bool]:
    """Search from the starts (n_starts, k) in the first `n_rows` rows of the objective.

    The others, which only fill up a batch, are lost. The number of rows that were searched is
    returned too, and whether Ctrl-C came, which stops between two calls.
    """
    n_starts = len(starts)
    n_problems = len(next(iter(objective.weight.values()))) * n_starts
    n_wanted = n_rows * n_starts
    problems = np.arange(n_problems)
    minima, n_done, stopped = _search_problems(
        objective, starts, problems, False, n_wanted, progress
    )
    missed = np.flatnonzero(np.isfinite(minima.cost) & ~minima.converged)
    if objective.loss is None and missed.size and not stopped:
        # another choice of the damping finds the way from some of these starts
        problems = np.resize(missed, n_problems)
        again, n_again, stopped = _search_problems(
            objective, starts, problems, True, missed.size, Progress.silent()
        )
        is_better = again.cost < minima.cost[problems]
        is_better[n_again:] = False
        for array, array_again in zip(minima, again, strict=True):
            array[..., problems[is_better]] = array_again[..., is_better]
    return _to_ends(objective, minima, n_starts), n_done // n_starts, stopped


def _search_problems(
    objective: Objective,
    starts: np.ndarray,
    problems: np.ndarray,
    by_reach: bool,
    stop: int,
    progress: Progress,
) -> tuple[Minima, int, bool]:
    """Search in the first `stop` of the problems, which `kernels.search` describes.

    The number of those that were searched is returned too, and whether Ctrl-C came.
    """
    minima = no_minima(starts.shape[1], len(problems), objective.dtype)
    first = 0
    size = 4 * kernels.batch_size(objective, len(problems))
    stopped = True
    with contextlib.suppress(KeyboardInterrupt):
        while first < stop:
            begin = time.monotonic()
            last = min(first + size, stop)
            minima = kernels.search(objective, starts, problems, by_reach, first, last, minima)
            minima.cost.block_until_ready()
            progress.add(last - first)
            progress.log()
            first = last
            if time.monotonic() - begin < _CALL_SECONDS:
                size *= 4
        stopped = False
    return Minima(*map(np.array, minima)), first, stopped


def _to_ends(objective: Objective, minima: Minima, n_starts: int) -> Ends:
    def by_row(array: Array | np.ndarray) -> np.ndarray:
        # (..., problems) to (rows, starts, ...)
        return np.moveaxis(np.asarray(array), -1, 0).reshape(-1, n_starts, *array.shape[:-1])

    z = by_row(minima.z)
    cost = by_row(minima.cost)
    x, squares = map(np.asarray, kernels.values_and_squares(objective, z))
    return Ends(
        x=x,
        cost=cost,
        held=by_row(minima.held),
        converged=by_row(minima.converged) & np.isfinite(cost),
        tolerance=objective.cost_tolerance(cost, squares[:, None]),
        squares=squares,
    )
