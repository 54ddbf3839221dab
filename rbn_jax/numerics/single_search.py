"""The search for a root of one system, by the rules of `newton`, with its loop in Python.

JAX then compiles the residual only, and not its derivatives and the loop: that takes about a third
of the time of compiling the search of a batch, for which a single network would wait.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rbn_jax.numerics.newton import (
    LARGEST_STEP,
    MAX_STEPS,
    NEAR_AMONG_SEVERAL,
    SAME_ROOT,
    Comparison,
    Residual,
    Starts,
    root_tolerance,
)

_TOLERANCE = root_tolerance(np.dtype(np.float64))
# step of the difference quotients: rounding and curvature then cause errors of the same size
_STEP = float(np.finfo(np.float64).eps ** 0.5)
# the same for central differences
_CENTRAL_STEP = float(np.finfo(np.float64).eps ** (1 / 3))


class _Root(NamedTuple):
    """x: (m,) the root; jacobian: (m, m) that of the residual at the last point before it."""

    x: np.ndarray
    jacobian: np.ndarray


class _KnownRoot(NamedTuple):
    """A search ends where no component of x is further from this root than radius * max(|x|, 1)."""

    x: np.ndarray
    radius: float


class SingleSystem(NamedTuple):
    """One system residual(x, args) = 0 of m unknowns, in float64.

    residual: as `newton.root` takes it
    args: arrays of float64 with one system along the last axis

    >>> with jax.enable_x64(True):
    ...     system = SingleSystem(lambda x, a: x * x - a, np.array([[9.0]]))
    ...     print(system.root(((1.0,),)).round(2))
    [3.]
    """

    residual: Residual
    args: object

    def residual_at(self, x: np.ndarray) -> np.ndarray:
        """Return the residual (m,) at x (m,)."""
        return self._residuals(np.tile(x[:, None], len(x) + 1))[:, 0]

    def jacobian_at(self, x: np.ndarray) -> np.ndarray:
        """Return the Jacobian (m, m) at x (m,), by central differences: 9 digits are correct."""
        steps = _CENTRAL_STEP * np.maximum(np.abs(x), 1)
        above = self._residuals(np.column_stack([x, x[:, None] + np.diag(steps)]))
        below = self._residuals(np.column_stack([x, x[:, None] - np.diag(steps)]))
        return (above - below)[:, 1:] / (2 * steps)

    def root(self, starts: Starts) -> np.ndarray:
        """Return x (m,) as `newton.root` does."""
        for start in starts:
            end = self._search_from(start)
            if isinstance(end, _Root):
                return end.x
        return np.full(len(starts[0]), np.nan)

    def lowest_stable_root(
        self, starts: Starts, comparison: Comparison
    ) -> tuple[np.ndarray, bool, bool]:
        """Return x (m,) and two flags as `newton.lowest_stable_root` does."""
        best = None
        stable = several = lost = False
        for n_searched, start in enumerate(starts, 1):
            known = None
            if best is not None and stable:
                share = NEAR_AMONG_SEVERAL if several else 1.0
                known = _KnownRoot(best, comparison.near * share)
            end = self._search_from(start, known)
            if end is None:
                lost = True
            elif isinstance(end, _Root):
                end_stable = bool(np.linalg.eigvals(end.jacobian).real.max() < 0)
                is_better = best is None
                if best is not None and not _is_same_root(end.x, best):
                    several = True
                    is_better = end.x[0] < best[0] if end_stable == stable else end_stable
                if is_better:
                    best, stable = end.x, end_stable
            if best is None:
                continue
            is_clear = stable and not several and not lost and best[0] < comparison.high
            if n_searched >= (comparison.always if is_clear else comparison.ambiguous):
                break
        if best is None:
            return np.full(len(starts[0]), np.nan), False, False
        return best, stable, several

    def _search_from(
        self, start: tuple[float, ...], known: _KnownRoot | None = None
    ) -> _Root | _KnownRoot | None:
        """Return the root to which Newton steps from a start lead, or the known one; or None."""
        # residuals may be infinite or NaN far from a root
        with np.errstate(all="ignore"):
            return self._newton_steps(np.array(start), known)

    def _newton_steps(self, x: np.ndarray, known: _KnownRoot | None) -> _Root | _KnownRoot | None:
        for _ in range(MAX_STEPS + 1):
            value, jacobian = self._linearise(x)
            try:
                move = np.linalg.solve(jacobian, -value)
            except np.linalg.LinAlgError:  # the Jacobian is singular
                return None
            size = np.maximum(np.abs(x), 1)
            is_root = np.all(np.abs(value) < _TOLERANCE * size)
            is_root &= np.all(np.abs(move) < _TOLERANCE**0.5 * size)
            longest = np.maximum(LARGEST_STEP, size)
            x = x + move / max(np.max(np.abs(move) / longest), 1)
            if not np.isfinite(x).all():
                return None
            if is_root:
                return _Root(x, jacobian)
            if known is not None and np.all(np.abs(x - known.x) < known.radius * size):
                return known
        return None

    def _linearise(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the residual (m,) and its Jacobian (m, m), by difference quotients."""
        # the first column is x; in each other one a component has moved
        moved = x[:, None] + np.diag(_STEP * np.maximum(np.abs(x), 1))
        values = self._residuals(np.column_stack([x, moved]))
        value = values[:, 0]
        return value, (values[:, 1:] - value[:, None]) / (np.diag(moved) - x)

    def _residuals(self, columns: np.ndarray) -> np.ndarray:
        """Return the residuals (m, m + 1) at each column of an array."""
        return np.asarray(_compiled_residual(self.residual, columns, self.args))


@functools.partial(jax.jit, static_argnums=0)
def _compiled_residual(residual: Residual, columns: Array, args: object) -> Array:
    """Return the residuals (m, k) of one system at k points (m, k)."""
    n_points = columns.shape[1]
    return residual(columns, jax.tree.map(lambda array: jnp.repeat(array, n_points, -1), args))


def _is_same_root(x: np.ndarray, y: np.ndarray) -> bool:
    return bool(np.all(np.abs(x - y) < SAME_ROOT * np.maximum(np.abs(x), 1)))
